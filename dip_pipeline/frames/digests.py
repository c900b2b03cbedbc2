"""What planes are known by, and what they lack, whatever file format holds them."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.frame import PlaneArray, RestoredPlanes, bands

_BAND_BYTES = 4 * 1024 * 1024


def digest_plane(plane: PlaneArray, dtype: str) -> str:
    """Sha256 of the pixels, row by row, little-endian."""
    digest = hashlib.sha256()
    rows, cols = plane.shape
    kind = np.dtype(dtype).newbyteorder("<")
    for band in bands((rows, cols), _height(cols, kind)):
        pixels = np.asarray(plane[band, slice(0, cols)]).astype(kind)
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def digest_planes(planes: RestoredPlanes) -> dict[str, str]:
    """Sha256 of what a restoration delivers, by the name that the record gives it."""
    return {
        "sha256_science": digest_plane(planes.science, "f4"),
        "sha256_error": digest_plane(planes.error, "f4"),
        "sha256_flags": digest_plane(planes.flags, "u1"),
    }


def count_unknown(planes: RestoredPlanes) -> int:
    """Count the pixels that have no value."""
    return _count(planes.science, np.isnan)


def count_filled(planes: RestoredPlanes) -> int:
    """Count the pixels that were masked and have a value."""
    return _count(planes.flags, lambda flags: flags & PixelFlag.FILLED)


def _count(plane: PlaneArray, test: Callable[[NDArray[Any]], NDArray[Any]]) -> int:
    rows, cols = plane.shape
    return sum(
        int(np.count_nonzero(test(np.asarray(plane[band, slice(0, cols)]))))
        for band in bands((rows, cols), _height(cols, np.dtype("f4")))
    )


def _height(cols: int, kind: np.dtype[Any]) -> int:
    return max(1, _BAND_BYTES // (cols * kind.itemsize))
