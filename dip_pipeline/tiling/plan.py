"""Cut a frame into tiles that overlap and cover every pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TileOptions:
    """Side of a tile, width that neighbours share, and context seen around it, in pixels.

    evenly : tiles are no larger than they have to be for as many; otherwise each is full size
        where the frame allows
    """

    size_px: int = 256
    overlap_px: int = 32
    halo_px: int = 16
    evenly: bool = False

    def __post_init__(self) -> None:
        if self.size_px < 1:
            raise ConfigError(f"tile size {self.size_px} px: need at least 1; give --tile")
        if not 0 <= 2 * self.overlap_px < self.size_px:
            raise ConfigError(
                f"tile overlap {self.overlap_px} px: need zero or more, and less than half of the "
                f"tile's {self.size_px} px; give --overlap or --tile"
            )
        if self.halo_px < 0:
            raise ConfigError(f"tile halo {self.halo_px} px: need zero or more")


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a frame: what is restored, and the context that is read for it.

    rows, cols : the tile, in pixels of the frame; overlaps its neighbours
    halo_rows, halo_cols : the tile with its context, cut at the frame's border
    """

    index: int
    rows: slice
    cols: slice
    halo_rows: slice
    halo_cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of the tile, context left out."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the tile lies inside its halo region."""
        return _inside(self.rows, self.halo_rows), _inside(self.cols, self.halo_cols)

    def finer(self, factor: int) -> "Tile":
        """Give the same tile where every pixel is cut into factor x factor finer ones."""
        rows, cols, halo_rows, halo_cols = (
            slice(part.start * factor, part.stop * factor)
            for part in (self.rows, self.cols, self.halo_rows, self.halo_cols)
        )
        return Tile(self.index, rows, cols, halo_rows, halo_cols)


def plan_tiles(shape: tuple[int, int], options: TileOptions) -> list[Tile]:
    """Cover a frame of (rows, cols) with tiles, row by row.

    All tiles are of one size, none larger than the options say. Either each is as large as that,
    and the last of an axis is moved back to end at the border; or, evenly, they share an axis
    among as many. A frame smaller than a tile is one tile.
    """
    return [
        Tile(
            index=index,
            rows=rows,
            cols=cols,
            halo_rows=_widen(rows, options.halo_px, shape[0]),
            halo_cols=_widen(cols, options.halo_px, shape[1]),
        )
        for index, (rows, cols) in enumerate(
            (rows, cols)
            for rows in _cut_axis(shape[0], options)
            for cols in _cut_axis(shape[1], options)
        )
    ]


def tile_borders(
    shape: tuple[int, int], options: TileOptions
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns at which a tile begins or ends inside the frame, ascending.

    Index b stands for the line between pixels b - 1 and b; the frame's own border is left out.
    """
    return _axis_borders(shape[0], options), _axis_borders(shape[1], options)


def _axis_borders(length: int, options: TileOptions) -> NDArray[np.intp]:
    edges = {edge for part in _cut_axis(length, options) for edge in (part.start, part.stop)}
    return np.array(sorted(edges - {0, length}), dtype=np.intp)


def _cut_axis(length: int, options: TileOptions) -> list[slice]:
    size = options.size_px
    if length <= size:
        return [slice(0, length)] if length > 0 else []
    starts = [*range(0, length - size, size - options.overlap_px), length - size]
    if options.evenly:
        last = len(starts) - 1
        size = options.overlap_px + -(-(length - options.overlap_px) // len(starts))
        starts = [number * (length - size) // last for number in range(last + 1)]
    return [slice(start, start + size) for start in starts]


def _widen(part: slice, margin: int, length: int) -> slice:
    return slice(max(part.start - margin, 0), min(part.stop + margin, length))


def _inside(part: slice, outer: slice) -> slice:
    return slice(part.start - outer.start, part.stop - outer.start)
