"""Pixels that are found out to be no light of the sky, and masked: block by block, once.

On a fixed grid, each block with its surroundings, so that what is found at a pixel does not depend
on which region is read, and no frame is too large.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames import Pixels, PixelsOver, around

Mask = NDArray[np.bool_]

_BLOCK_PX = 512
_MOST_BLOCKS = 64

_found: OrderedDict[tuple[str, int, int], Mask] = OrderedDict()
_looking_up = threading.Lock()  # frames are read in several threads


@dataclass(frozen=True, slots=True)
class FoundPixels(PixelsOver):
    """Base of pixels of another source, some masked: a subclass says how it finds them.

    shape : (rows, cols) of the frame
    """

    shape: tuple[int, int]

    @property
    def margin_px(self) -> int:
        """How far around a pixel is looked."""
        raise NotImplementedError

    def detect(self, pixels: Pixels) -> Mask:
        """Find pixels of one region to mask, (rows, cols)."""
        raise NotImplementedError

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        return replace(pixels, masked=pixels.masked | self.found(rows, cols))

    def found(self, rows: slice, cols: slice) -> Mask:
        """Which pixels of a region are masked for that."""
        found = np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for row in range(rows.start // _BLOCK_PX, -(-rows.stop // _BLOCK_PX)):
            for col in range(cols.start // _BLOCK_PX, -(-cols.stop // _BLOCK_PX)):
                block = self._block(row, col)
                corner = (row * _BLOCK_PX, col * _BLOCK_PX)
                here, there = [], []
                for bound, first, length in zip((rows, cols), corner, block.shape, strict=True):
                    start, stop = max(bound.start, first), min(bound.stop, first + length)
                    here.append(slice(start - bound.start, stop - bound.start))
                    there.append(slice(start - first, stop - first))
                found[tuple(here)] = block[tuple(there)]
        return found

    def blocks(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the blocks of the grid."""
        rows, cols = (
            [slice(at, min(at + _BLOCK_PX, side)) for at in range(0, side, _BLOCK_PX)]
            for side in self.shape
        )
        return [(down, across) for down in rows for across in cols]

    def _block(self, row: int, col: int) -> Mask:
        key = (repr(self), row, col)
        with _looking_up:
            if key in _found:
                _found.move_to_end(key)
                return _found[key]
        rows, cols = (
            slice(place * _BLOCK_PX, min((place + 1) * _BLOCK_PX, length))
            for place, length in zip((row, col), self.shape, strict=True)
        )
        wide, inner = around(rows, cols, self.shape, self.margin_px)
        mask = self.detect(self.inner.read(*wide))[inner]
        with _looking_up:
            _found[key] = mask
            while len(_found) > _MOST_BLOCKS:
                _found.popitem(last=False)
        return mask
