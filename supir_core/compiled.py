"""The networks' step through `torch.compile`, and through CUDA graphs on a GPU; as it is where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supir_core.memory import is_out_of_memory

log = logging.getLogger(__name__)

Step = Callable[..., Tensor]
"""Tensors -> a tensor of new values, without side effects."""


def inductor(step: Step) -> Step:
    """The step compiled by torch when it is first called, with CUDA graphs on a GPU.

    A call with another shape compiles it again, for all sizes along what has changed: batch, height, width. So there
    are four compilations at most; a CUDA graph is recorded for every shape.
    """
    return torch.compile(step, fullgraph=True, mode="reduce-overhead" if torch.cuda.is_available() else "default")


class Compiled:
    """A step that runs compiled, until compiling fails: then as it is, and `why_not` and the log say why.

    Args:
        step: what to run.
        compile_: makes the compiled step.
    """

    def __init__(self, step: Step, compile_: Callable[[Step], Step] = inductor):
        log.warning("compiling the networks: the first steps, and those with other sizes, take minutes")
        self._plain = step
        self._fast: Step | None = compile_(step)
        self.why_not = ""

    def __call__(self, *inputs: Any) -> Tensor:
        """The step's result; it stays valid until the next call.

        Raises:
            RuntimeError: no memory left, or what the step itself raises.
        """
        if self._fast is None:
            return self._plain(*inputs)
        try:
            if torch.cuda.is_available():
                torch.compiler.cudagraph_mark_step_begin()
            return self._fast(*inputs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            result = self._plain(*inputs)  # if this raises too, the compiler was not to blame
            self._give_up(error)
            return result

    def _give_up(self, error: Exception) -> None:
        self._fast = None
        self.why_not = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        log.warning("torch.compile is off: %s", self.why_not)
