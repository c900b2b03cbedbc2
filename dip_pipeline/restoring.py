"""The tiles of a frame: made where they are missing, then blended into planes."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from dip_pipeline.engine import PlaneFile, RunDirectory, WorkerOptions, map_items
from dip_pipeline.errors import RunError
from dip_pipeline.frames import RestoredPlanes
from dip_pipeline.progress import Told
from dip_pipeline.tiling import Tile, blend
from dip_pipeline.work import FramePlan, Planes, Record, TileTask, copy_tile, restore_tile, tile_key

log = logging.getLogger(__name__)

_PLANES = {"science": np.float32, "error": np.float32, "flags": np.uint8}
_LEAST_BAND_ROWS = 64


def restore_tiles(
    plan: FramePlan,
    tiles: Sequence[Tile],
    run: RunDirectory,
    workers: WorkerOptions,
    told: Told,
    make_prior: Callable[[], bytes],
) -> tuple[list[Record], int]:
    """Make the frame's prior if it has one, then restore the tiles that are not done.

    A shard restores those alone that are its part.
    Returns the records of all tiles that are done now, and how many were found done.
    """
    done: dict[int, Record] = dict(plan.store.finished())
    ours = [tile for tile in tiles if workers.shard is None or workers.shard.has(tile.index)]
    missing = [tile for tile in ours if tile.index not in done]
    if missing:
        kept = _adopt(plan, missing, run)
        done.update(kept)
        missing = [tile for tile in missing if tile.index not in kept]
    told.progress.frame_started(told.source, len(tiles), len(done))
    found_done = len(done)
    if missing:
        _provide_prior(plan, run, make_prior)
    run.tell("tiles")
    tasks: Iterable[TileTask] = (TileTask(plan, tile) for tile in missing)
    for record in map_items(restore_tile, tasks, workers, key=_tile_name, on_lost=copy_tile):
        done[int(str(record["tile"]))] = record
        told.progress.tile_done(record)
    return [done[tile.index] for tile in tiles if tile.index in done], found_done


def blend_tiles(plan: FramePlan, tiles: Sequence[Tile], run: RunDirectory) -> RestoredPlanes:
    """Blend the tiles, band by band, into files of the run directory.

    A tile that is damaged by now is told of and made anew.
    """
    run.tell("blend")
    shape = plan.source.frame.shape
    planes = {
        name: PlaneFile.create(run.work_path / f"{name}.raw", shape, kind)
        for name, kind in _PLANES.items()
    }
    height = max(_LEAST_BAND_ROWS, tiles[0].shape[0])
    for first in range(0, shape[0], height):
        rows = slice(first, min(first + height, shape[0]))
        band = blend((rows, slice(0, shape[1])), tiles, partial(_load, plan))
        for name, plane in planes.items():
            plane.write(rows, band[name])
    return RestoredPlanes(**planes)


def _adopt(plan: FramePlan, missing: Sequence[Tile], run: RunDirectory) -> dict[int, Record]:
    """Take over tiles of earlier runs whose pixels what has changed since does not change."""
    if plan.prior_path is not None and run.find_file(plan.prior_path.name) is None:
        return {}  # none of them came from the prior that will be fitted
    adopted = set()
    for store in run.previous_tiles(plan.store):
        keys = store.keys()
        for tile in missing:
            key = keys.get(tile.index)
            if key and key == tile_key(TileTask(plan, tile)):
                plan.store.adopt(tile.index, store)
                adopted.add(tile.index)
    if adopted:
        log.warning("%s: %d tiles kept, whose pixels do not change", run.path, len(adopted))
    return {index: plan.store.load(index)[1] for index in adopted}


def _provide_prior(plan: FramePlan, run: RunDirectory, make_prior: Callable[[], bytes]) -> None:
    if plan.prior_path is not None and run.find_file(plan.prior_path.name) is None:
        run.tell("fit")
        run.publish_file(plan.prior_path.name, make_prior())


def _load(plan: FramePlan, tile: Tile) -> Planes:
    try:
        return plan.store.load(tile.index)[0]
    except RunError as error:
        log.warning("%s; made anew", error)
        plan.store.drop(tile.index)
        restore_tile(TileTask(plan, tile))
        return plan.store.load(tile.index)[0]


def _tile_name(task: TileTask) -> str:
    return f"tile {task.tile.index}"
