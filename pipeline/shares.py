"""How many workers a run has, and which share of a GPU each of them gets."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.captions.captioning import VLM
from pipeline.settings import RunSettings
from supir_core.errors import InputError


class Shares(NamedTuple):
    """The machines of a run, divided."""

    captions_first: bool  # all captions of a round, then its photos: the two never meet on a GPU
    captioners: tuple[int, float]  # how many, and the share of a GPU that each gets
    restorers: tuple[int, float]

    def at_most(self, workers: int) -> Shares:
        """For so few photos that not all workers would get one."""
        (captioners, of_captioner), (restorers, of_restorer) = self.captioners, self.restorers
        return self._replace(
            captioners=(min(captioners, workers), of_captioner), restorers=(min(restorers, workers), of_restorer)
        )


def share_machines(settings: RunSettings, gpus: float) -> Shares:
    """Divide GPUs between the stages.

    A captioner on at most one GPU has it for itself first, if nothing else is asked for: a large one and SUPIR need not
    fit together. With more GPUs, or where asked for, the stages run at the same time, and share.

    Args:
        settings: of the run.
        gpus: of the cluster; one that is not this machine may start nodes for more, if these are asked for.

    Raises:
        InputError: more is asked for than there is, or none of a cluster that has none (`no-gpu`).
    """
    if settings.address is not None:
        gpus = _asked_for(settings, gpus)
    captioning = settings.captioning
    if VLM not in captioning.sources:
        return Shares(False, (1, 0.0), _workers("--gpus-per-worker", settings.gpus_per_worker, settings.workers, gpus))
    first = captioning.mode == "before" or (captioning.mode == "auto" and gpus <= 1 and captioning.gpus is None)
    asked = captioning.workers or (None if first else 1)
    captioners = _workers("caption.gpus", captioning.gpus, asked, gpus)
    taken = 0.0 if first else captioners[0] * captioners[1]
    restorers = _workers("--gpus-per-worker", settings.gpus_per_worker, settings.workers, gpus, taken)
    return Shares(first, captioners, restorers)


def _asked_for(settings: RunSettings, gpus: float) -> float:
    """The GPUs that a cluster has or, where the number of workers says so, will have."""
    if not gpus and settings.gpus_per_worker is None:
        raise InputError(
            "the cluster has no GPU at this moment, and is not asked for any",
            hint="--workers 8 --gpus-per-worker 1 asks for eight, --gpus-per-worker 0 works on processors",
            code="no-gpu",
        )
    return max(gpus, (settings.workers or 0) * (settings.gpus_per_worker or 0.0))


def _workers(option: str, share: float | None, count: int | None, gpus: float, taken: float = 0.0) -> tuple[int, float]:
    """How many workers, and the share of a GPU that each gets, where others have taken some."""
    share = (1.0 if gpus else 0.0) if share is None else share
    left = round(gpus - taken, 6)
    if share > left:
        beside = f", of which captions take {taken:g}" if taken else ""
        raise InputError(
            f"{option} {share:g}, but the cluster has {gpus:g} GPUs{beside}",
            hint="--set caption.mode=before makes captions first" if taken else "0 works on the processor",
            code="no-gpu",
        )
    return count or (int(left / share + 1e-6) if share else 1), share
