"""The tiles of a frame: made where they are missing, then blended into planes."""

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory, TileStore, map_items, output_error
from dip_pipeline.frames import Frame, RestoredPlanes
from dip_pipeline.planning import devices_of
from dip_pipeline.progress import Told
from dip_pipeline.tiling import Tile, blend
from dip_pipeline.work import FramePlan, Record, TileTask, copy_tile, restore_tile

PRIOR = "prior"


def restore_tiles(
    plan: FramePlan,
    tiles: Sequence[Tile],
    config: RunConfig,
    run: RunDirectory,
    told: Told,
    make_prior: Callable[[], bytes],
) -> tuple[list[Record], int]:
    """Make the frame's prior if it has one, then restore the tiles that are not done."""
    workers = config.worker_options(devices_of(config))
    done = plan.store.finished()
    told.progress.frame_started(told.source, len(tiles), len(done))
    missing = [tile for tile in tiles if tile.index not in done]
    if missing and plan.prior_path is not None and run.find_file(PRIOR) is None:
        run.publish_file(PRIOR, make_prior())
    records: dict[int, Record] = dict(done)
    tasks: Iterable[TileTask] = (TileTask(plan, tile) for tile in missing)
    finished = map_items(restore_tile, tasks, workers, key=_tile_name, on_lost=copy_tile)
    for record in finished:
        records[int(str(record["tile"]))] = record
        told.progress.tile_done(record)
    return [records[tile.index] for tile in tiles], len(done)


def _tile_name(task: TileTask) -> str:
    return f"tile {task.tile.index}"


def blend_tiles(
    frame: Frame, tiles: Sequence[Tile], store: TileStore, run: RunDirectory
) -> RestoredPlanes:
    """Blend the tiles, band by band, into files of the run directory."""
    kinds = {"science": np.float32, "error": np.float32, "flags": np.uint8}
    planes = {name: _reserve(run, name, frame.shape, kind) for name, kind in kinds.items()}
    height = max(64, tiles[0].shape[0])
    for first in range(0, frame.shape[0], height):
        rows = slice(first, min(first + height, frame.shape[0]))
        band = blend(
            (rows, slice(0, frame.shape[1])), tiles, lambda tile: store.load(tile.index)[0]
        )
        for name, plane in planes.items():
            plane[rows] = band[name]
    return RestoredPlanes(**planes)


def _reserve(run: RunDirectory, name: str, shape: tuple[int, int], kind: type) -> np.ndarray:
    """Map a file of the run directory as an array; its room on the disk is taken at once."""
    path = run.path / f"blended_{name}.npy"
    try:
        path.unlink(missing_ok=True)
        plane = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(kind), shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk must not become a bus error later
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        n_bytes = shape[0] * shape[1] * np.dtype(kind).itemsize
        raise output_error(error, path, n_bytes) from error
    return plane
