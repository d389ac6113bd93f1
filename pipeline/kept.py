"""Where stage-1 latents are kept in an output, by a photo's content, its size, and the model: for other looks of it."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.latents import Latents, from_bytes, to_bytes
from supir_core.precision import device_named, precision_named
from supir_core.presets import Preset
from supir_core.sizes import SizePlan

FOLDER = "latents"


class Stage1(NamedTuple):
    """What decides the latents of a photo: its file, the size that the networks see, how it is cleaned."""

    sha256: str
    height: int
    width: int
    clean: str

    @classmethod
    def of(cls, sha256: str, size: SizePlan, preset: Preset) -> Stage1:
        """Of a photo under a look."""
        return cls(sha256, size.network_height, size.network_width, preset.stage1.clean)


def find(store: Store, settings: RunSettings, stage1: Stage1) -> Latents | None:
    """The latents that an earlier look has left; None if there are none of this model and number type."""
    data = store.read_if_any(_place(settings, stage1))
    return None if data is None else from_bytes(data, _made_with(settings, stage1))


def keep(store: Store, settings: RunSettings, stage1: Stage1, latents: Latents) -> None:
    """Write latents; of several workers' equal ones the last stay."""
    store.write(_place(settings, stage1), to_bytes(latents, _made_with(settings, stage1)))


def folder(settings: RunSettings) -> str:
    """Where the latents of a model lie."""
    return f"{FOLDER}/{settings.model_digest}"


def _place(settings: RunSettings, stage1: Stage1) -> str:
    sha256, height, width, clean = stage1
    name = f"{sha256}-{width}x{height}-{clean}.safetensors"
    return f"{folder(settings)}/{sha256[:2]}/{name}"  # no folder with millions of files


def _made_with(settings: RunSettings, stage1: Stage1) -> dict[str, str]:
    return {
        "model_digest": settings.model_digest,
        "dtype": str(precision_named(settings.dtype, device_named(settings.device)).vae),
        **{name: str(value) for name, value in stage1._asdict().items()},
    }
