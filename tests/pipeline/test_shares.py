"""How many workers, and which share of a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.captions.captioning import Captioning
from pipeline.shares import Shares, share_machines
from supir_core.errors import InputError
from tests.pipeline.runs import settings_for


def shares(gpus: float, captions: dict[str, Any] | None = None, **changes: Any) -> Shares:
    words = Captioning() if captions is None else Captioning(source="vlm", model="m", **captions)
    settings = settings_for(Path(), "out", captioning=words, **{"workers": None, "gpus_per_worker": None, **changes})
    return share_machines(settings, gpus)


def test_without_a_captioner_photos_get_all() -> None:
    assert shares(4) == (False, (1, 0.0), (4, 1.0))
    assert shares(0) == (False, (1, 0.0), (1, 0.0))
    assert shares(1, gpus_per_worker=0.5) == (False, (1, 0.0), (2, 0.5))
    assert shares(4, workers=9) == (False, (1, 0.0), (9, 1.0)), "more may join the cluster"


def test_a_cluster_may_start_its_nodes_when_it_is_asked_for_them() -> None:
    assert shares(0, address="auto", workers=8, gpus_per_worker=1.0).restorers == (8, 1.0)
    assert shares(2, address="auto", workers=8, gpus_per_worker=0.5).restorers == (8, 0.5)
    assert shares(0, address="auto", gpus_per_worker=0.0).restorers == (1, 0.0)
    assert shares(3, address="auto").restorers == (3, 1.0)
    for asked in ({}, {"workers": 8}):  # else a cluster with nodes on demand would restore on its head's processor
        with pytest.raises(InputError, match="no GPU at this moment") as error:
            shares(0, address="auto", **asked)
        assert error.value.code == "no-gpu"
    with pytest.raises(InputError):
        shares(0, workers=8, gpus_per_worker=1.0)


def test_on_one_gpu_captions_come_first() -> None:
    """A captioner and SUPIR need not fit together."""
    assert shares(1, {}) == (True, (1, 1.0), (1, 1.0))
    assert shares(0, {}) == (True, (1, 0.0), (1, 0.0))


def test_on_several_the_captioner_takes_one() -> None:
    assert shares(4, {}) == (False, (1, 1.0), (3, 1.0))
    assert shares(4, {"workers": 2}) == (False, (2, 1.0), (2, 1.0))


def test_before_takes_all_for_each() -> None:
    assert shares(4, {"mode": "before"}) == (True, (4, 1.0), (4, 1.0))
    assert shares(4, {"mode": "before", "gpus": 0.5}) == (True, (8, 0.5), (4, 1.0))


def test_one_gpu_can_be_shared() -> None:
    asked = {"gpus": 0.4}
    assert shares(1, asked, gpus_per_worker=0.6) == (False, (1, 0.4), (1, 0.6))
    assert shares(1, {"gpus": 0.3, "mode": "stream"}, gpus_per_worker=0.7) == (False, (1, 0.3), (1, 0.7))
    assert shares(2, {"gpus": 0}) == (False, (1, 0.0), (2, 1.0)), "a captioner on the processor"


@pytest.mark.parametrize(
    ("gpus", "captions", "changes", "said"),
    [
        (2, None, {"gpus_per_worker": 8.0}, "--gpus-per-worker 8, but the cluster has 2 GPUs"),
        (0, {"gpus": 1.0}, {}, "caption.gpus 1, but the cluster has 0 GPUs"),
        (1, {"gpus": 0.4}, {}, "--gpus-per-worker 1, but the cluster has 1 GPUs, of which captions take 0.4"),
        (1, {"mode": "stream"}, {}, "of which captions take 1"),
    ],
)
def test_more_than_there_is_is_refused(
    gpus: float, captions: dict[str, Any] | None, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as raised:
        shares(gpus, captions, **changes)
    assert said in str(raised.value) and raised.value.code == "no-gpu"


def test_few_photos_need_few_workers() -> None:
    assert shares(8, {"mode": "before"}).at_most(3) == (True, (3, 1.0), (3, 1.0))
    assert shares(8).at_most(100) == shares(8)
