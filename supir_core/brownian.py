"""Brownian motion of one photo: noise that agrees between schedules with other numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from supir_core.noise import Noise

DEPTH = 14  # halvings of the interval; its leaves are finer than any schedule's steps


class BrownianPath:
    """A path W with W(low) = 0, fixed by the photo's noise alone, whatever is asked of it and in which order.

    It is built by Levy's construction: the midpoint of a known interval is the mean of its ends plus a normal draw.

    Args:
        noise: of the photo; draws `brownian-<level>-<index>`.
        shape: of the values.
        low: where the path begins.
        high: where it ends.
    """

    def __init__(self, noise: Noise, shape: Sequence[int], low: float, high: float):
        self._noise, self._shape, self._low, self._high = noise, tuple(shape), low, high
        self._last: tuple[float, Tensor] | None = None

    def increment(self, start: float, end: float) -> Tensor:
        """(W(start) - W(end)) / sqrt(|start - end|): standard normal, float32 on the CPU."""
        first = self._last[1] if self._last is not None and self._last[0] == start else self._value(start)
        self._last = (end, self._value(end))
        return (first - self._last[1]) / abs(start - end) ** 0.5

    def _value(self, t: float) -> Tensor:
        a, b, index = self._low, self._high, 0
        at_b = self._noise("brownian-end", self._shape) * (b - a) ** 0.5
        at_a = at_b * 0
        for level in range(DEPTH):
            middle = (a + b) / 2
            drawn = self._noise(f"brownian-{level}-{index}", self._shape)
            at_middle = (at_a + at_b) / 2 + drawn * (b - a) ** 0.5 / 2
            if t < middle:
                b, at_b, index = middle, at_middle, 2 * index
            else:
                a, at_a, index = middle, at_middle, 2 * index + 1
        share = (t - a) / (b - a)
        spread = ((b - a) * share * (1 - share)) ** 0.5
        return at_a + (at_b - at_a) * share + spread * self._noise(f"brownian-leaf-{index}-{t:.9g}", self._shape)
