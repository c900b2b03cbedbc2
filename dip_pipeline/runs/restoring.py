"""The tiles of a frame: made where they are missing, then blended into planes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from dip_pipeline.account.record import is_lost
from dip_pipeline.engine import (
    ExecutorKind,
    Job,
    PlaneFile,
    RunDirectory,
    WorkerOptions,
    reach,
    run_items,
)
from dip_pipeline.errors import RunError
from dip_pipeline.frames import RestoredPlanes
from dip_pipeline.progress import Told
from dip_pipeline.runs.place import Place
from dip_pipeline.runs.prior_work import PriorTask, StackFit
from dip_pipeline.runs.providing import provide_priors
from dip_pipeline.runs.work import (
    FramePlan,
    Planes,
    Record,
    TileTask,
    copy_tile,
    restore_packet,
    restore_side_by_side,
    restore_tile,
    tile_key,
)
from dip_pipeline.tiling import Tile, blend

log = logging.getLogger(__name__)

_PLANES = {"science": np.float32, "error": np.float32, "flags": np.uint8}
_LEAST_BAND_ROWS = 64
_SIDE_BY_SIDE = 2  # tiles at once, where one leaves cores idle
_MOST_PIXELS_BESIDE = 400 * 400  # of such a tile and its halo
# A GPU that answers for one tile waits for a core to have found the stars of the next.
_SIDE_BY_SIDE_ON_GPU = 4
_MOST_PIXELS_BESIDE_ON_GPU = 800 * 800


@dataclass(frozen=True, slots=True)
class PlaneWork:
    """One plane to restore: its prior, its tiles, and what it is called.

    stack : the fit of the networks that it shares with other planes; None where they are its own
    """

    prior: PriorTask
    tiles: tuple[Tile, ...]
    name: str
    stack: StackFit | None = None


class _Begun(NamedTuple):
    """A plane in work: records of tiles that are done, by number; how many of them were found.

    missing : tiles that are to be made here
    """

    work: PlaneWork
    done: dict[int, Record]
    missing: list[Tile]
    found_done: int

    @property
    def plan(self) -> FramePlan:
        """What its tiles share."""
        return self.work.prior.plan

    @property
    def records(self) -> list[Record]:
        """Of the tiles that are done, in their order."""
        return [self.done[tile.index] for tile in self.work.tiles if tile.index in self.done]


def restore_tiles(
    works: Sequence[PlaneWork], run: RunDirectory, place: Place, told: Told
) -> list[tuple[list[Record], int]]:
    """Make the prior of each plane that has one, then restore the tiles that are not done.

    Where there are workers, or shards, all planes are in work at once, else one follows the other.
    Returns, for each plane, the records of all tiles that are done now, and how many were found
    done. Raises RunError where tiles are missing that are only to be put together.
    """
    if place.pool.options.executor is not ExecutorKind.INLINE or place.shard is not None:
        return _restored(works, run, place, told)
    groups = [list(group) for _, group in groupby(works, key=_fitted_as)]
    return [ended for group in groups for ended in _restored(group, run, place, told)]


def _fitted_as(work: PlaneWork) -> object:
    """Tell planes that are fitted together from those that are not."""
    return work.tiles[0].index if work.stack is None else work.stack.key


def _restored(
    works: Sequence[PlaneWork], run: RunDirectory, place: Place, told: Told
) -> list[tuple[list[Record], int]]:
    begun = [_begun(work, run, place) for work in works]
    name = works[0].name if len(works) == 1 else told.source
    told = Told(told.progress, name)
    told.progress.frame_started(
        name, sum(len(work.tiles) for work in works), sum(one.found_done for one in begun)
    )
    missing = [one for one in begun if one.missing]
    if missing and place.finish:
        count = sum(len(one.missing) for one in missing)
        raise RunError(
            f"{run.path}: {count} of {sum(len(work.tiles) for work in works)} tiles are missing, "
            f"the first is tile {missing[0].missing[0].index}; run its shards again, or add "
            "--complete to restore them here"
        )
    stacks = {one.work.stack.path: one.work.stack for one in missing if one.work.stack is not None}
    provide_priors([one.work.prior for one in missing], stacks, run, place, told)
    run.tell("tiles")
    owners = {tile.index: one for one in missing for tile in one.missing}
    tasks = (TileTask(one.plan, tile) for one in missing for tile in one.missing)
    for record in run_items(place.pool, _job(missing, run, place), tasks, key=_tile_name):
        index = int(str(record["tile"]))
        owners[index].done[index] = record
        told.progress.tile_done(record)
    for one in begun:
        _tell_tried_again(one, Told(told.progress, one.work.name))
    return [(one.records, one.found_done) for one in begun]


def _begun(work: PlaneWork, run: RunDirectory, place: Place) -> _Begun:
    """Look what of a plane is done, in this run or in earlier ones."""
    plan, tiles = work.prior.plan, work.tiles
    found = ((tile.index, plan.store.record_of(tile.index)) for tile in tiles)
    done: dict[int, Record] = {index: record for index, record in found if record is not None}
    if not place.finish:
        for index in [index for index, record in done.items() if is_lost(record)]:
            plan.store.forget(index)  # its workers died: it may go well this time
            del done[index]
    ours = [tile for tile in tiles if place.shard is None or place.shard.has(tile.index)]
    missing = [tile for tile in ours if tile.index not in done]
    if missing:
        kept = _adopt(plan, missing, run)
        done.update(kept)
        missing = [tile for tile in missing if tile.index not in kept]
    return _Begun(work, done, missing, len(done))


def _job(begun: Sequence[_Begun], run: RunDirectory, place: Place) -> Job[TileTask, Record]:
    """Say how the missing tiles of some planes, which are all restored alike, are worked on."""
    job = Job(restore_tile, copy_tile, run.path, place.rank)
    if not begun:
        return job
    source = begun[0].plan.source
    framed = begun[0].plan.prior_path is not None
    plain = source.optics is None and not source.exposures
    if not framed and plain and not source.options.by_hiding:
        return replace(job, together=restore_packet, packet=place.pool.options.items_a_packet)
    if framed and plain:
        at_once = _tiles_at_once([t for one in begun for t in one.missing], place.pool.options)
        return replace(job, together=restore_side_by_side, packet=at_once)
    return job


def _tell_tried_again(begun: _Begun, told: Told) -> None:
    """Say how many tiles came out with another seed than their own."""
    plan, done, tiles = begun.plan, begun.done, begun.work.tiles
    again = [
        tile.index
        for tile in tiles
        if tile.index in done and done[tile.index]["seed"] != plan.seed_of(tile)
    ]
    if again:
        told.progress.note(
            f"{told.source}: {len(again)} of {len(tiles)} tiles fitted again with another seed, "
            f"for the first fit failed: {', '.join(map(str, again[:8]))}"
            f"{', ...' if again[8:] else ''}"
        )


def _tiles_at_once(tiles: Sequence[Tile], options: WorkerOptions) -> int:
    """How many tiles a process restores at once, on threads; 1 where they are too large for it.

    Processes that share a device are at once themselves.
    """
    spans = [(tile.halo_rows, tile.halo_cols) for tile in tiles]
    pixels = max(
        ((high.stop - high.start) * (wide.stop - wide.start) for high, wide in spans), default=0
    )
    inline, device = options.executor is ExecutorKind.INLINE, options.devices[0]
    if device == "cpu":
        room = inline and options.threads_per_fit > 1 and pixels <= _MOST_PIXELS_BESIDE
        return _SIDE_BY_SIDE if room else 1
    alone = inline or options.slots <= len(options.devices)
    if device == "auto" or not alone or pixels > _MOST_PIXELS_BESIDE_ON_GPU:
        return 1
    of_each = -(-len(tiles) // options.slots)
    return max(1, min(_SIDE_BY_SIDE_ON_GPU, options.threads_per_fit, of_each))


def blend_tiles(
    plan: FramePlan, tiles: Sequence[Tile], run: RunDirectory, place: Place
) -> RestoredPlanes:
    """Blend the tiles, band by band, into files of the run directory.

    The planes are of the scene's pixels: factor times the frame's, where its optics have one.
    A tile that is damaged by now is told of and made anew, here.
    """
    run.tell("blend")
    # Worker processes see one GPU each, their first; this process sees all of them.
    here = place.pool.options.devices[0]
    plan = replace(plan, source=replace(plan.source, device=here))
    reach("before blend")
    factor = 1 if plan.source.optics is None else plan.source.optics.factor
    own = {tile.index: tile for tile in tiles}
    tiles = [tile.finer(factor) for tile in tiles]
    rows_in_all, cols_in_all = (side * factor for side in plan.source.frame.shape)
    shape = (rows_in_all, cols_in_all)
    planes = {
        name: PlaneFile.create(run.work_path / f"{name}-{plan.first_tile}.raw", shape, kind)
        for name, kind in _PLANES.items()
    }
    height = max(_LEAST_BAND_ROWS, tiles[0].shape[0] // factor)  # bands of finer pixels are wide
    for first in range(0, shape[0], height):
        rows = slice(first, min(first + height, shape[0]))
        band = blend((rows, slice(0, shape[1])), tiles, lambda tile: _load(plan, own[tile.index]))
        for name, plane in planes.items():
            plane.write(rows, band[name])
    return RestoredPlanes(planes["science"], planes["error"], planes["flags"])


def _adopt(plan: FramePlan, missing: Sequence[Tile], run: RunDirectory) -> dict[int, Record]:
    """Take over tiles of earlier runs whose pixels what has changed since does not change."""
    if plan.prior_path is not None and run.find_file(plan.prior_path.name) is None:
        return {}  # none of them came from the prior that will be fitted
    adopted = set()
    for store in run.previous_tiles():
        keys = store.keys()
        for tile in missing:
            key = keys.get(tile.index)
            if key and key == tile_key(TileTask(plan, tile)):
                plan.store.adopt(tile.index, store)
                adopted.add(tile.index)
    if adopted:
        log.warning("%s: %d tiles kept, whose pixels do not change", run.path, len(adopted))
    return {index: plan.store.load(index)[1] for index in adopted}


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
