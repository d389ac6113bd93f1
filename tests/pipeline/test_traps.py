"""Every kind of file that archives have comes out with its pixels, or with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.photos.decode import decode
from supir_core.errors import PhotoError
from tests.pipeline.traps import TRAPS, Expected, alpha, deep, deep_grey, expected_route, route


def truth(expected: Expected) -> np.ndarray:
    """(H, W, 3) in 8-bit levels."""
    values = np.dstack([deep_grey()] * 3) if expected.grey else deep()
    return values / 257 if expected.bits > 8 else (values >> 8).astype(float)


def test_there_are_many() -> None:
    assert len(TRAPS) >= 60


@pytest.mark.parametrize("name", TRAPS)
def test_trap(name: str) -> None:
    make, expected = TRAPS[name]
    data = make()
    assert route(data) == expected_route(name)
    if expected.code:
        with pytest.raises(PhotoError) as error:
            decode(data)
        assert error.value.code == expected.code
        return
    decoded = decode(data)
    assert decoded.pixels.dtype == np.uint16
    assert (decoded.bits, decoded.grey, decoded.alpha is not None) == (expected.bits, expected.grey, expected.alpha)
    assert tuple(warning.partition(":")[0] for warning in decoded.warnings) == expected.warnings
    if expected.distance is not None:
        wanted = truth(expected)
        assert decoded.pixels.shape == wanted.shape
        assert np.abs(decoded.pixels / 257 - wanted).mean() <= expected.distance + 1e-9
    if expected.alpha and expected.distance == 0:
        assert (decoded.alpha == alpha()).all()
