"""Blocks of a frame, and holes that reach over their borders."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from dip_pipeline.frames import around

Mask = NDArray[np.bool_]
Parts = NDArray[np.int64]  # numbers of parts of holes, 0 for none

BLOCK_PX = 1024  # side of what is looked at at once
CELL_PX = 16  # side of the cells along a rim that are looked at for themselves
_MARGIN_PX = CELL_PX


class Block(NamedTuple):
    """A part of a frame: its own pixels, and with a margin of others around it."""

    own: tuple[slice, slice]
    wide: tuple[slice, slice]
    inner: tuple[slice, slice]

    def place_of(self, cell: tuple[int, int]) -> tuple[int, int]:
        """Place of a cell of the wider region among those of the frame."""
        row, col = (at + span.start // CELL_PX for at, span in zip(cell, self.wide, strict=True))
        return row, col

    def owns(self, place: tuple[int, int]) -> bool:
        """Whether a cell of the frame is one of its own."""
        return all(
            span.start <= at * CELL_PX < span.stop for at, span in zip(place, self.own, strict=True)
        )


def blocks(shape: tuple[int, int]) -> Iterator[Block]:
    """Cut a frame into blocks, row after row; their sides and the margin are whole cells."""
    rows, cols = (
        [slice(at, min(at + BLOCK_PX, side)) for at in range(0, side, BLOCK_PX)] for side in shape
    )
    for down in rows:
        for across in cols:
            yield Block((down, across), *around(down, across, shape, _MARGIN_PX))


@dataclass(slots=True)
class HoleParts:
    """Holes of a frame, of which each block shows a part.

    pixels : of each part in its block, by number; same : pairs of parts of one hole
    """

    pixels: list[int] = field(default_factory=lambda: [0])
    same: list[Parts] = field(default_factory=list)
    _shown: dict[tuple[int, int, int], Parts] = field(default_factory=dict)

    def number(self, block: Block, holes: Mask) -> Parts:
        """Give the parts that a block shows their numbers, 0 where there is none.

        Blocks come row after row; which parts are those of blocks before it is noted.
        """
        labels, count = ndimage.label(holes, structure=np.ones((3, 3)))
        parts: Parts = np.where(holes, labels + (len(self.pixels) - 1), 0)
        own = np.bincount(labels[block.inner].ravel(), minlength=count + 1)
        self.pixels += own[1:].tolist()
        for axis in (0, 1):  # what it shows together with the blocks above and to the left of it
            turned = parts if axis == 0 else parts.T
            span, beside = block.own[axis], block.own[1 - axis].start
            if (before := self._shown.pop((axis, span.start, beside), None)) is not None:
                places, numbers = before
                pairs = np.stack([numbers, turned[: 2 * _MARGIN_PX].ravel()[places]])
                self.same.append(np.unique(pairs[:, pairs[1] > 0], axis=1))
            shown = turned[block.inner[axis].stop - _MARGIN_PX :].ravel()
            places = np.flatnonzero(shown)
            self._shown[axis, span.stop, beside] = np.stack([places, shown[places]])
        return parts

    def put_together(self) -> NDArray[np.integer]:
        """Give the number of the hole of each part."""
        one, other = np.concatenate([np.zeros((2, 1), np.int64), *self.same], axis=1)
        side = len(self.pixels)
        graph = sparse.coo_array((np.ones(len(one)), (one, other)), shape=(side, side))
        numbers: NDArray[np.integer] = sparse.csgraph.connected_components(graph, directed=False)[1]
        return numbers
