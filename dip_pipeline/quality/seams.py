"""Whether the borders of tiles can be seen: lines along them against lines elsewhere.

A line is a strip of a few pixels on both sides of a border, cut where borders of the other
direction cross it, so that each piece of it belongs to one pair of tiles. Every other place in
the frame is measured by strips cut in the same way; their scatter, with whatever correlation the
pixels have, is the standard error of the pieces at the borders.

Figures are averaged over all pieces of a direction: sharp for what every border does, blunter for
one bad tile among many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.quality.evidence import Image

SIDE_PX = 2  # a strip takes this many pixels on each side of a border
REACH_PX = 6  # its surroundings are this many more on each side
LIMIT_SIGMA = 5.0  # residuals are clipped here: one bright star's core must not decide
PASS_AT = 3.0
MIN_PIXELS = 8  # per strip piece and side
MIN_INTERIOR = 12  # strips elsewhere, to know the scatter


@dataclass(frozen=True, slots=True)
class SeamDifference:
    """How the borders of one direction differ from the interior, in standard errors.

    along : "rows" for borders between rows, "cols" for those between columns
    mean, scatter : of the residual in the strip, against its surroundings
    step : size of the jump across the border
    pieces : border pieces judged
    """

    along: str
    mean: float
    scatter: float
    step: float
    pieces: int

    @property
    def worst(self) -> float:
        """Largest of the three in size."""
        return max(abs(self.mean), abs(self.scatter), abs(self.step))


@dataclass(frozen=True, slots=True)
class SeamReport:
    """Differences for each direction that has borders; empty where nothing could be judged."""

    differences: tuple[SeamDifference, ...]

    @property
    def worst(self) -> float:
        """Largest difference in standard errors; 0 where nothing could be judged."""
        return max((difference.worst for difference in self.differences), default=0.0)

    @property
    def passed(self) -> bool:
        """Whether no difference reaches three standard errors."""
        return self.worst < PASS_AT


def seam_test(
    residual: Image, row_borders: Sequence[int], col_borders: Sequence[int]
) -> SeamReport:
    """Compare a normalised residual along tile borders with the interior.

    residual : (rows, cols), in units of sigma; NaN is left out
    row_borders, col_borders : index of the first row or column after each border: the first and
        the one-past-last index of every tile. Those at the frame's edge are ignored.
    """
    clipped = np.clip(residual.astype(np.float64), -LIMIT_SIGMA, LIMIT_SIGMA)
    found = (
        _judge("rows", clipped, row_borders, col_borders),
        _judge("cols", clipped.T, col_borders, row_borders),
    )
    return SeamReport(tuple(difference for difference in found if difference is not None))


def _judge(
    along: str, residual: NDArray[np.float64], borders: Sequence[int], cuts: Sequence[int]
) -> SeamDifference | None:
    """Judge borders between rows of `residual`; `cuts` are the columns where pieces end."""
    rows, cols = residual.shape
    edge = SIDE_PX + REACH_PX
    at = np.array(sorted({b for b in borders if edge <= b <= rows - edge}), dtype=int)
    ends = [0, *sorted({c for c in cuts if 0 < c < cols}), cols]
    if at.size == 0:
        return None
    distance = np.min(np.abs(np.arange(rows + 1)[:, None] - at[None, :]), axis=1)
    elsewhere = np.arange(rows + 1)
    elsewhere = elsewhere[(distance >= 2 * SIDE_PX) & (elsewhere >= edge)]
    elsewhere = elsewhere[elsewhere <= rows - edge]
    scores: list[NDArray[np.float64]] = []
    for start, stop in pairwise(ends):
        figures = _measure(residual[:, start:stop])
        scores += _scores(figures[:, at], figures[:, elsewhere])
    if not scores:
        return None
    table = np.array(scores)
    # Each score has a scatter of 1 in the interior; their sum over n pieces, of sqrt(n).
    mean, scatter, step = table.sum(axis=0) / np.sqrt(len(table))
    return SeamDifference(along, float(mean), float(scatter), float(step), len(table))


def _scores(
    border: NDArray[np.float64], interior: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Differences of each border piece from the interior in units of the interior's scatter."""
    interior = interior[:, np.isfinite(interior).all(axis=0)]
    count = interior.shape[1]
    if count < MIN_INTERIOR:
        return []
    centre = interior.mean(axis=1)
    spread = interior.std(axis=1, ddof=1) * np.sqrt(1 + 1 / count)
    if (spread == 0).any():
        return []
    return [(piece - centre) / spread for piece in border.T if np.isfinite(piece).all()]


def _measure(piece: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, scatter and step of the strip around each possible border of a piece.

    Returns (3, rows + 1): entry b is for a border between rows b - 1 and b. The square root of
    the step's size is nearly Gaussian where the step itself is, so its tail needs no table.
    """
    finite = np.isfinite(piece)
    values = np.where(finite, piece, 0.0)
    lines = np.stack([finite.sum(axis=1), values.sum(axis=1), (values**2).sum(axis=1)])
    total = np.pad(np.cumsum(lines, axis=1), ((0, 0), (1, 0)))  # total[:, b]: rows before b

    def between(first: int, last: int) -> NDArray[np.float64]:
        """Sum over rows b + first to b + last - 1, NaN where the frame ends before."""
        sums = np.full(total.shape, np.nan)
        rows = total.shape[1]
        b = np.arange(max(0, -first), min(rows, rows - last))
        sums[:, b] = total[:, b + last] - total[:, b + first]
        return sums

    before, after = between(-SIDE_PX, 0), between(0, SIDE_PX)
    strip, wide = before + after, between(-SIDE_PX - REACH_PX, SIDE_PX + REACH_PX)
    around = wide - strip
    enough = np.minimum(before[0], after[0]) >= MIN_PIXELS
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = strip[1] / strip[0] - around[1] / around[0]
        scatter = np.log(_variance(strip) / _variance(around))
        step = np.sqrt(np.abs(after[1] / after[0] - before[1] / before[0]))
    figures = np.stack([mean, scatter, step])
    figures[:, ~enough] = np.nan
    return figures


def _variance(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    variance: NDArray[np.float64] = sums[2] / sums[0] - (sums[1] / sums[0]) ** 2
    return variance
