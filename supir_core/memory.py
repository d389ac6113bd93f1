"""Running out of memory: how it shows, and what can be given back."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device or the machine has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give cached blocks back to the device, so that a smaller attempt finds room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
