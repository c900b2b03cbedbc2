"""Where the PSF of a frame is measured: in its middle, about a place, or in each of its parts."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from dip_pipeline.errors import ConfigError
from dip_pipeline.exposures.places import middle_of
from dip_pipeline.preparing.cutting import Window

SIDE_PX = 1024
_LEAST_SIDE_PX = 32  # of a square or a part: in less there is no room for a lonely star
MOST_GRID = 16


@dataclass(frozen=True, slots=True)
class PsfPart:
    """A part of a frame with a PSF of its own.

    name : of its extension; "" where there is one part only
    window : (rows, cols); section : the same as FITS counts, "[x1:x2,y1:y2]"
    """

    name: str
    window: Window

    @property
    def section(self) -> str:
        """Columns and rows, counted from 1, the last one included."""
        rows, cols = self.window
        return f"[{cols.start + 1}:{cols.stop},{rows.start + 1}:{rows.stop}]"


@dataclass(frozen=True, slots=True)
class PsfPlaces:
    """Where to measure; neither `at` nor `grid`: in the middle of the frame.

    at : (x, y), a pixel counted from 1; side_px : of the square around it
    grid : parts along each axis
    """

    at: tuple[int, int] | None = None
    side_px: int | None = None
    grid: int | None = None

    def __post_init__(self) -> None:
        if self.at is not None and self.grid is not None:
            raise ConfigError("--at and --grid: one place, or all parts; leave one of them out")
        if self.side_px is not None and self.at is None:
            raise ConfigError(f"--side {self.side_px}: of the square about --at X,Y; give that too")
        if self.side_px is not None and self.side_px < _LEAST_SIDE_PX:
            raise ConfigError(f"--side {self.side_px}: at least {_LEAST_SIDE_PX} px are needed")
        if self.grid is not None and not 1 <= self.grid <= MOST_GRID:
            raise ConfigError(f"--grid {self.grid}: 1 to {MOST_GRID} parts along each axis")

    @classmethod
    def of(cls, at: str | None, side_px: int | None, grid: int | None) -> Self:
        """Take what a command line says; raises ConfigError."""
        if at is None:
            return cls(None, side_px, grid)
        found = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", at)
        if found is None:
            raise ConfigError(f"--at {at}: need a column and a row, X,Y, counted from 1")
        return cls((int(found[1]), int(found[2])), side_px, grid)

    def parts(self, shape: tuple[int, int]) -> list[PsfPart]:
        """Windows of a frame; raises ConfigError for a place beside it, and parts too small."""
        if self.at is not None:
            return [self._about(self.at, shape)]
        if self.grid is None:
            return [PsfPart("", middle_of(shape))]
        if min(shape) < _LEAST_SIDE_PX * self.grid:
            raise ConfigError(
                f"--grid {self.grid}: parts of a frame of {shape[0]} x {shape[1]} px would have "
                f"less than {_LEAST_SIDE_PX} px a side; give fewer"
            )
        rows, cols = (_cut(side, self.grid) for side in shape)
        return [
            PsfPart(f"X{x}Y{y}", _within(down, across))
            for y, down in enumerate(rows, start=1)
            for x, across in enumerate(cols, start=1)
        ]

    def _about(self, place: tuple[int, int], shape: tuple[int, int]) -> PsfPart:
        x, y = place
        if not (1 <= y <= shape[0] and 1 <= x <= shape[1]):
            raise ConfigError(
                f"--at {x},{y}: not in the frame, of {shape[1]} columns and {shape[0]} rows"
            )
        reach = (self.side_px or SIDE_PX) // 2
        rows, cols = (
            slice(max(0, at - 1 - reach), min(side, at - 1 + reach))
            for at, side in zip((y, x), shape, strict=True)
        )
        return PsfPart("", _within(rows, cols))


def _cut(side: int, count: int) -> list[slice]:
    ends = [side * number // count for number in range(count + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def _within(rows: slice, cols: slice) -> Window:
    """Take the middle of a window, of a size that can be looked at."""
    middle = middle_of((rows.stop - rows.start, cols.stop - cols.start))
    down, across = (
        slice(span.start + part.start, span.start + part.stop)
        for span, part in zip((rows, cols), middle, strict=True)
    )
    return down, across
