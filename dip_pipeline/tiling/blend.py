"""Put tiles together: a pure function of a region of the frame and the tiles that touch it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.tiling.plan import Tile

Planes = Mapping[str, NDArray[Any]]  # by name, each of the tile's shape


def blend(
    region: tuple[slice, slice], tiles: Sequence[Tile], load: Callable[[Tile], Planes]
) -> dict[str, NDArray[Any]]:
    """Blend one region of the frame from the tiles that touch it.

    region : (rows, cols) of the frame, with start and stop
    tiles : the whole plan, because the weights of a tile depend on its neighbours
    load : gives the planes of a tile; called once for each tile that touches the region

    A floating plane is the weighted mean of its tiles, an integer plane their bitwise or. A
    pixel that is NaN in one tile is NaN in the blend. (The mean is right for an error plane too:
    errors of overlapping tiles come from the same data, so they do not average down.)
    Tiles are added in the order of their index, in float64: the result does not depend on how
    the frame is cut into regions.
    """
    row_weights = _weights_by_start(tile.rows for tile in tiles)
    col_weights = _weights_by_start(tile.cols for tile in tiles)
    sums: dict[str, NDArray[Any]] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for tile in sorted(tiles, key=lambda tile: tile.index):
        rows, cols = _common(tile.rows, region[0]), _common(tile.cols, region[1])
        if rows is None or cols is None:
            continue
        weights = np.outer(
            row_weights[tile.rows.start][_shift(rows, tile.rows.start)],
            col_weights[tile.cols.start][_shift(cols, tile.cols.start)],
        )
        here = _shift(rows, region[0].start), _shift(cols, region[1].start)
        for name, plane in load(tile).items():
            if plane.shape != tile.shape:
                raise ValueError(f"tile {tile.index}: {name} is {plane.shape}, not {tile.shape}")
            if name not in sums:
                sums[name] = _empty_sum(region, plane.dtype)
                dtypes[name] = plane.dtype
            part = plane[_shift(rows, tile.rows.start), _shift(cols, tile.cols.start)]
            if plane.dtype.kind == "f":
                sums[name][here] += weights * part
            else:
                sums[name][here] |= part
    return {name: total.astype(dtypes[name], copy=False) for name, total in sums.items()}


def axis_weights(parts: Sequence[slice]) -> list[NDArray[np.float64]]:
    """Weights of the tiles along one axis, for their own pixels: never 0, summing to 1.

    parts : where the tiles lie on the axis, ascending

    Linear ramps over what neighbours share, divided by the sum over all tiles: the ramps of
    neighbours alone do not sum to 1 where three tiles overlap, as the last one often does.
    """
    ramps = []
    for number, part in enumerate(parts):
        length = part.stop - part.start
        before = parts[number - 1].stop - part.start if number > 0 else 0
        after = part.stop - parts[number + 1].start if number + 1 < len(parts) else 0
        centres = np.arange(length) + 0.5
        rising = centres / max(before, 0.5)
        falling = centres[::-1] / max(after, 0.5)
        ramps.append(np.minimum(1.0, np.minimum(rising, falling)))
    total = np.zeros(max((part.stop for part in parts), default=0))
    for part, ramp in zip(parts, ramps, strict=True):
        total[part] += ramp
    return [ramp / total[part] for part, ramp in zip(parts, ramps, strict=True)]


def _weights_by_start(parts: Iterable[slice]) -> dict[int, NDArray[np.float64]]:
    ascending = [slice(*bounds) for bounds in sorted({(part.start, part.stop) for part in parts})]
    weights = axis_weights(ascending)
    return {part.start: weight for part, weight in zip(ascending, weights, strict=True)}


def _empty_sum(region: tuple[slice, slice], dtype: np.dtype[Any]) -> NDArray[Any]:
    shape = tuple(part.stop - part.start for part in region)
    return np.zeros(shape, dtype=np.float64 if dtype.kind == "f" else dtype)


def _common(a: slice, b: slice) -> slice | None:
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start, stop) if start < stop else None


def _shift(part: slice, origin: int) -> slice:
    return slice(part.start - origin, part.stop - origin)
