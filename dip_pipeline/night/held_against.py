"""Median and scatter of the others, for each of many numbers: sorted once, not once for each."""

import math
from bisect import bisect_left
from collections.abc import Sequence


class Numbers:
    """One figure of several frames, as it is compared: each in turn is held against the others."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._off: dict[float, list[float]] = {}

    def add(self, number: float) -> None:
        """Take the number of a frame; all are to be taken before one is held against the others."""
        self._sorted.append(number)

    def others(self, own: float | None) -> int:
        """Count the numbers without a frame's own; None where it has none."""
        return len(self._sorted) - (own is not None)

    def median(self, own: float | None) -> float:
        """Median without a frame's own number."""
        if not self._off:
            self._sorted.sort()
        return _median_without(self._sorted, own)

    def spread(self, usual: float, own: float) -> float:
        """Median absolute deviation, as a standard deviation, without a frame's own number."""
        if usual not in self._off:  # of two or three medians: which it is one number decides
            self._off[usual] = sorted(abs(number - usual) for number in self._sorted)
        return 1.4826 * _median_without(self._off[usual], abs(own - usual))


def _median_without(ascending: Sequence[float], one: float | None) -> float:
    """Median of all numbers but one of them; NaN of none."""
    left = len(ascending) - (one is not None)
    if left == 0:
        return math.nan
    gone = len(ascending) if one is None else bisect_left(ascending, one)
    first, second = (ascending[place + (place >= gone)] for place in ((left - 1) // 2, left // 2))
    return (first + second) / 2
