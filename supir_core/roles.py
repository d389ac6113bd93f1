"""What a file is and whether it is whole, from its names, shapes and number types alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from supir_core import lora
from supir_core.checkpoint import FLOATS, is_finite, some
from supir_core.errors import WeightsError
from supir_core.networks.dims import ModelDims
from supir_core.parts import SDXL_PARTS, SUPIR_PARTS, Shape, is_unused, part_of, wanted
from supir_core.published import Source

PART_KEY = "supir.part"  # in the metadata of packed files: the one part that the file holds


class Role(StrEnum):
    """What a file of weights can be."""

    SDXL = "SDXL base or fine-tune"
    SUPIR = "SUPIR"
    BOTH = "SDXL and SUPIR in one file"
    TEXT = "text encoders"
    VAE = "VAE"
    LORA = "LoRA"
    PACKED = "part of a packed model"
    UNKNOWN = "unknown"


# Beginnings of names of files that are often mistaken for the ones needed here.
_FOREIGN = {
    "cond_stage_model.": "Stable Diffusion 1 or 2",
    "conditioner.embedders.0.model.": "the SDXL refiner",
    "model.diffusion_model.double_blocks.": "Flux",
    "double_blocks.": "Flux",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "control_model.": "a ControlNet",
    "controlnet_": "a ControlNet",
    "v_pred": "an SDXL that predicts v; SUPIR needs one that predicts noise",
}


@dataclass(frozen=True)
class Report:
    """What a source is, holds and lacks."""

    source: Source
    role: Role
    variant: str = ""  # of SUPIR: v0Q or v0F, and how that is known
    foreign: str = ""  # which other model it seems to be
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # tensors found and needed, by part
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, Shape, Shape]] = field(default_factory=list)  # name, found, needed
    mistyped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    lora_error: WeightsError | None = None

    @property
    def title(self) -> str:
        """The role in words."""
        if self.role == Role.SUPIR:
            return f"SUPIR {self.variant or '(v0Q or v0F)'}"
        return f"{self.role} ({self.foreign})" if self.foreign else str(self.role)

    @property
    def misnamed(self) -> str:
        """What the file's name says it is, if its tensors say otherwise; else empty."""
        name = self.source.path.name.lower()
        said = {
            role for role, mark in ((Role.SUPIR, "supir"), (Role.SDXL, "sd_xl"), (Role.SDXL, "sdxl")) if mark in name
        }
        if len(said) != 1 or said & {self.role} or self.role not in (Role.SDXL, Role.SUPIR):
            return ""
        return str(said.pop())

    @property
    def dtypes(self) -> dict[str, int]:
        """How many tensors have each number type; those that nothing uses left out."""
        entries = self.source.entries
        return dict(Counter(entries[key].dtype for key in entries if key not in self.unused).most_common())

    def errors(self) -> list[WeightsError]:
        """Everything that is wrong, the gravest first."""
        if self.role == Role.UNKNOWN:
            return [self._unknown()]
        if self.lora_error:
            return [self.lora_error]
        path, found = self.source.path, []
        if self.missing:
            found.append(
                WeightsError(
                    f"{path} ({self.title}) lacks {len(self.missing)} tensors: {some(self.missing)}",
                    hint="the file is incomplete: get it again and compare its size and sha256",
                    code="weights-missing",
                )
            )
        if self.misshapen:
            _, is_, needed = self.misshapen[0]
            found.append(
                WeightsError(
                    f"{path} holds {len(self.misshapen)} tensors of a wrong shape: "
                    f"{some([key for key, _, _ in self.misshapen])}; the first is {is_}, not {needed}",
                    hint="is it a file of another model, such as an inpainting one?",
                    code="weights-shape",
                )
            )
        if self.unexpected:
            found.append(
                WeightsError(
                    f"{path} holds {len(self.unexpected)} unknown tensors: {some(self.unexpected)}",
                    hint="it may need more than SDXL or SUPIR has: use another file",
                    code="weights-unexpected",
                )
            )
        if self.mistyped:
            kinds = sorted({self.source.entries[key].dtype for key in self.mistyped})
            found.append(
                WeightsError(
                    f"{path} stores {len(self.mistyped)} tensors as {', '.join(kinds)}: {some(self.mistyped)}",
                    hint="get the fp32, fp16 or bf16 version",
                    code="weights-dtype",
                )
            )
        return found

    def _unknown(self) -> WeightsError:
        seems = f", it seems to be {self.foreign}" if self.foreign else ""
        return WeightsError(
            f"{self.source.path} is no file of this model{seems}: {some(list(self.source.entries))}",
            hint="needed are an SDXL base or fine-tune and a SUPIR-v0Q or v0F file",
            code="weights-role",
        )


def judge(source: Source, dims: ModelDims) -> Report:
    """What a source is; reads no tensor."""
    if lora.is_lora(source.files[0].entries):
        return Report(source, Role.LORA, lora_error=_lora_error(source, dims))
    parts = wanted(dims)
    needed = {key: shape for part in parts.values() for key, shape in part.items()}
    present = Counter(part_of(key) for key in source.entries if key in needed)
    foreign = next((what for mark, what in _FOREIGN.items() if any(key.startswith(mark) for key in source.entries)), "")
    role = _role(present, source)
    if role == Role.UNKNOWN or (foreign and not foreign.startswith("an SDXL")):
        return Report(source, Role.UNKNOWN, foreign=foreign)
    brought = _brought(role, present, source)
    expected = {key: shape for part in brought for key, shape in parts[part].items()}
    used = {key: entry for key, entry in source.entries.items() if key in expected}
    unused = [key for key in source.entries if key not in expected and is_unused(key)]
    return Report(
        source,
        role,
        variant=_variant(source) if role == Role.SUPIR else "",
        foreign=foreign,
        parts={part: (present[part], len(parts[part])) for part in brought},
        missing=[key for key in expected if key not in source.entries],
        unexpected=[key for key in source.entries if key not in expected and key not in set(unused)],
        misshapen=[(key, e.shape, expected[key]) for key, e in used.items() if e.shape != expected[key]],
        mistyped=[key for key, entry in used.items() if entry.dtype not in FLOATS],
        unused=unused,
    )


def check_values(report: Report, on_bytes: Callable[[int], None] = lambda count: None) -> None:
    """Read every tensor that is used, and of a type that can be, and look for NaN and infinity.

    Raises:
        WeightsError: there are some (`weights-nan`).
    """
    unread, source = {*report.unused, *report.mistyped}, report.source
    broken = []
    for key in source.entries:
        if key not in unread:
            tensor = source.read(key)
            on_bytes(tensor.nbytes)
            broken += [] if is_finite(tensor) else [key]
    if broken:
        raise WeightsError(
            f"{source.path} holds NaN or infinity in {len(broken)} tensors: {some(broken)}",
            hint="the file is broken: get it again and compare its sha256",
            code="weights-nan",
        )


def require(report: Report, option: str, *roles: Role) -> None:
    """Refuse a file that is not what an option takes, or that is not whole.

    Raises:
        WeightsError: the gravest of what is wrong; `weights-role` for a file of another role.
    """
    if report.role not in roles and report.role != Role.UNKNOWN:
        advice = {
            Role.SDXL: "give it as --sdxl",
            Role.SUPIR: "give it as --supir",
            Role.LORA: "give it as --lora",
            Role.BOTH: "if it holds all of both, give it as --sdxl and as --supir",
        }
        raise WeightsError(
            f"{report.source.path} is given as {option}, but it is {report.title}: "
            f"{some([key for key in report.source.entries if key not in report.unused])}",
            hint=advice[report.role] if report.role in advice else f"{option} takes: {roles[0]}",
            code="weights-role",
        )
    for error in report.errors():
        raise error


def _role(present: Mapping[str, int], source: Source) -> Role:
    if source.metadata.get(PART_KEY) in (*SDXL_PARTS, *SUPIR_PARTS):
        return Role.PACKED
    sdxl = {part for part in SDXL_PARTS if present.get(part)}
    supir = {part for part in SUPIR_PARTS if present.get(part)}
    if sdxl and supir:
        return Role.BOTH
    if supir:
        return Role.SUPIR
    if not sdxl:
        return Role.UNKNOWN
    if sdxl <= {"clip_l", "open_clip"}:
        return Role.TEXT
    return Role.VAE if sdxl == {"vae"} else Role.SDXL


def _brought(role: Role, present: Mapping[str, int], source: Source) -> tuple[str, ...]:
    """The parts that a file of a role has to hold in full."""
    if role == Role.PACKED:
        return (source.metadata[PART_KEY],)
    if role in (Role.TEXT, Role.VAE):
        return tuple(part for part in SDXL_PARTS if present.get(part))
    return {Role.SDXL: SDXL_PARTS, Role.SUPIR: SUPIR_PARTS}.get(role, (*SDXL_PARTS, *SUPIR_PARTS))


def _variant(source: Source) -> str:
    """V0Q or v0F by the file's name or metadata, which is all there is: their tensors have the same names."""
    for where, text in (("its metadata", " ".join(source.metadata.values())), ("its name", source.path.name)):
        said = {letter.upper() for letter in re.findall(r"v0([QF])(?![a-z0-9])", text, re.IGNORECASE)}
        if len(said) == 1:
            return f"v0{said.pop()}, by {where}"
    return ""


def _lora_error(source: Source, dims: ModelDims) -> WeightsError | None:
    try:
        lora.resolve(source.files[0], 1.0, dims)
    except WeightsError as error:
        return error
    return None
