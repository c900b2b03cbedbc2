"""Windows cut out of planes and turned, by one lookup for all of them.

A turning is a number from 0 to 7: so many quarter turns modulo four, from 4 on after a flip from
left to right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TURNINGS = 8


@dataclass(frozen=True, slots=True)
class Window:
    """A square of one of several regions, by its first pixel."""

    region: int
    top: int
    left: int

    def slices(self, side_px: int) -> tuple[EllipsisType, slice, slice]:
        """Cut it without a turn."""
        rows, cols = slice(self.top, self.top + side_px), slice(self.left, self.left + side_px)
        return ..., rows, cols


class WindowLookup:
    """Finds windows of one size; widths : columns of each region."""

    def __init__(self, widths: Sequence[int], side_px: int, device: torch.device) -> None:
        self._widths = np.array(widths)
        self._device = device
        corners = np.mgrid[:side_px, :side_px]
        self._grids = [turned(corners, turning) for turning in range(TURNINGS)]

    def of(
        self,
        windows: Sequence[Window],
        turnings: Sequence[int],
        first_turnings: Sequence[int] | None = None,
    ) -> "Found":
        """Find windows, each turned; first_turnings : turns that come before those."""
        before = [0] * len(windows) if first_turnings is None else first_turnings
        rows, cols = np.stack(
            [self._grid(one, other) for one, other in zip(before, turnings, strict=True)], axis=1
        )
        regions = np.array([window.region for window in windows])
        tops, lefts = (
            np.array(values)[:, None, None]
            for values in ([w.top for w in windows], [w.left for w in windows])
        )
        positions = (tops + rows) * self._widths[regions][:, None, None] + lefts + cols
        groups = [
            (int(region), torch.from_numpy(np.flatnonzero(regions == region)).to(self._device))
            for region in np.unique(regions)
        ]
        return Found(torch.from_numpy(positions).to(self._device), tuple(groups))

    def _grid(self, first: int, then: int) -> NDArray[np.int64]:
        rows, cols = self._grids[then]
        return self._grids[first][:, rows, cols] if first else self._grids[then]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where the pixels of windows lie in their regions' planes, (windows, side, side).

    groups : regions, and the numbers of the windows that lie in them
    """

    positions: Tensor
    groups: tuple[tuple[int, Tensor], ...]

    def taken(self, planes: Sequence[Tensor]) -> Tensor:
        """Take (windows, 1, side, side) out of one plane a region, (1, 1, rows, cols)."""
        if len(self.groups) == 1:
            return torch.take(planes[self.groups[0][0]], self.positions)[:, None]
        found = planes[0].new_empty(self.positions.shape)
        for region, numbers in self.groups:
            found[numbers] = torch.take(planes[region], self.positions[numbers])
        return found[:, None]


def turned(corners: NDArray[np.int64], turning: int) -> NDArray[np.int64]:
    """Turn planes (..., rows, cols)."""
    flipped = corners[..., ::-1] if turning >= TURNINGS // 2 else corners
    return np.ascontiguousarray(np.rot90(flipped, turning % 4, (-2, -1)))
