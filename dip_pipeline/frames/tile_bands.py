"""Compressed images read along their compression tiles: each is decoded once, not once a tile.

Compression tiles are often whole rows: a run that cuts a frame into columns of tiles would decode
every row once for each of them. What was decoded last is kept for the next read.
"""

import threading
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

_MOST_BYTES = 16 * 1024 * 1024  # kept of one image
_WORTH = 1.25  # times the pixels asked for: what is decoded less is not worth keeping

Region = tuple[int | slice, ...]


class TileBands:
    """Part of one compressed image that was decoded last, whole compression tiles of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index = -1
        self._bounds: tuple[tuple[int, int], ...] = ()
        self._pixels: NDArray[np.generic] = np.empty(0)

    def read(self, hdu: fits.CompImageHDU, index: int, region: Region) -> NDArray[np.generic]:
        """Read stored numbers of a region; slices have a start and a stop, and step 1."""
        asked = [_bounds_of(item) for item in region]
        whole = [
            (start // side * side, min(-(-stop // side) * side, length))
            for (start, stop), side, length in zip(asked, hdu.tile_shape, hdu.shape, strict=True)
        ]
        decoded, wanted = _size(whole), _size(asked)
        if decoded < _WORTH * wanted or decoded * abs(hdu._bitpix) // 8 > _MOST_BYTES:
            return np.asarray(hdu.section[region])
        with self._lock:
            if not self._holds(index, asked):
                self._pixels = np.asarray(hdu.section[tuple(slice(*bound) for bound in whole)])
                self._index, self._bounds = index, tuple(whole)
            part: list[Any] = []
            for item, (start, stop), (first, _) in zip(region, asked, self._bounds, strict=True):
                is_slice = isinstance(item, slice)
                part.append(slice(start - first, stop - first) if is_slice else start - first)
            return np.array(self._pixels[tuple(part)])

    def _holds(self, index: int, asked: list[tuple[int, int]]) -> bool:
        return index == self._index and all(
            first <= start and stop <= last
            for (start, stop), (first, last) in zip(asked, self._bounds, strict=True)
        )


def _bounds_of(item: int | slice) -> tuple[int, int]:
    return (item.start, item.stop) if isinstance(item, slice) else (item, item + 1)


def _size(bounds: list[tuple[int, int]]) -> int:
    return int(np.prod([stop - start for start, stop in bounds]))
