"""A plane of pixels in a file, written and read by bands of rows: memory holds one band."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.engine.durable import output_error
from dip_pipeline.engine.faults import reach


@dataclass(frozen=True, slots=True)
class PlaneFile:
    """(rows, cols) numbers of one type, row after row.

    Not mapped into memory: pages of a mapped file count as memory of the process, and a full disk
    would end it without a word.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int], kind: type) -> Self:
        """Take the room of the whole plane on the disk; OutputError where there is none."""
        plane = cls(path, shape, np.dtype(kind))
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # not on every system
                    os.posix_fallocate(file.fileno(), 0, plane.n_bytes)
        except OSError as error:
            raise output_error(error, path, plane.n_bytes) from error
        return plane

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def write(self, rows: slice, band: NDArray[Any]) -> None:
        """Store whole rows. Raises OutputError."""
        try:
            reach("during blend")
            with self.path.open("r+b") as file:
                file.seek(rows.start * self.shape[1] * self.dtype.itemsize)
                # Not tofile: what is in its buffer when the file is closed may be lost unnoticed.
                file.write(np.ascontiguousarray(band, dtype=self.dtype).data)
        except OSError as error:
            raise output_error(error, self.path, self.n_bytes) from error

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """Read a region; its rows are read whole."""
        first, stop, _ = region[0].indices(self.shape[0])
        width = self.shape[1]
        count = max(stop - first, 0) * width
        start = first * width * self.dtype.itemsize
        band = np.fromfile(self.path, self.dtype, count, offset=start)
        return band.reshape(-1, width)[:, region[1]]
