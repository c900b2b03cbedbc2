"""The tiles of a frame: made where they are missing, then blended into planes."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

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
from dip_pipeline.runs.prior_work import PriorTask, StackFit, provide_prior, provide_stack
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
_PRIOR_LOOK_S = 0.5
_SIDE_BY_SIDE = 2  # tiles at once, where one leaves cores idle
_MOST_PIXELS_BESIDE = 400 * 400  # of such a tile and its halo
# A GPU that answers for one tile waits for a core to have found the stars of the next.
_SIDE_BY_SIDE_ON_GPU = 4
_MOST_PIXELS_BESIDE_ON_GPU = 800 * 800


def restore_tiles(
    prior: PriorTask, tiles: Sequence[Tile], run: RunDirectory, place: Place, told: Told
) -> tuple[list[Record], int]:
    """Make the frame's prior if it has one, then restore the tiles that are not done.

    Returns the records of all tiles that are done now, and how many were found done.
    Raises RunError where tiles are missing that are only to be put together.
    """
    plan = prior.plan
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
    told.progress.frame_started(told.source, len(tiles), len(done))
    found_done = len(done)
    if missing and place.finish:
        raise RunError(
            f"{run.path}: {len(missing)} of {len(tiles)} tiles are missing, the first is tile "
            f"{missing[0].index}; run its shards again, or add --complete to restore them here"
        )
    if missing:
        _provide_prior(prior, run, place, told)
    run.tell("tiles")
    tasks: Iterable[TileTask] = (TileTask(plan, tile) for tile in missing)
    source = plan.source
    alone = plan.prior_path is not None or source.optics is not None or bool(source.exposures)
    alone = alone or source.options.by_hiding
    together, packet = restore_packet, 1 if alone else place.pool.options.items_a_packet
    of_a_frame = plan.prior_path is not None and source.optics is None and not source.exposures
    if of_a_frame and (at_once := _tiles_at_once(missing, place.pool.options)) > 1:
        together, packet = restore_side_by_side, at_once
    job = Job(restore_tile, copy_tile, run.path, place.rank, together=together, packet=packet)
    for record in run_items(place.pool, job, tasks, key=_tile_name):
        done[int(str(record["tile"]))] = record
        told.progress.tile_done(record)
    _tell_tried_again(tiles, done, plan, told)
    return [done[tile.index] for tile in tiles if tile.index in done], found_done


def _tell_tried_again(
    tiles: Sequence[Tile], done: Mapping[int, Record], plan: FramePlan, told: Told
) -> None:
    """Say how many tiles came out with another seed than their own."""
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


def _provide_prior(task: PriorTask, run: RunDirectory, place: Place, told: Told) -> None:
    """Make the prior, and before it the networks of the stack that it is made of, if it is one."""
    path, stack = task.plan.prior_path, task.stack
    if path is None or run.find_file(path.name) is not None:
        return
    if stack is not None:
        _provide(stack.path.name, provide_stack, stack, run, place, told)
    _provide(path.name, provide_prior, task, run, place, told)


def _provide(
    name: str,
    work: Callable[..., None],
    task: PriorTask | StackFit,
    run: RunDirectory,
    place: Place,
    told: Told,
) -> None:
    """Have a file made in the pool; of several shards one makes it, and the others wait for it."""
    while run.find_file(name) is None:
        lock = run.alone_at(name)
        if lock is None:
            time.sleep(_PRIOR_LOOK_S)
            continue
        try:
            run.tell("fit")
            if place.pool.options.executor is ExecutorKind.INLINE:
                work(task, told.on_step)
            else:
                with _watched(run, told):
                    job = Job(work, folder=run.path, rank=place.rank)
                    list(run_items(place.pool, job, [task], key=lambda _: "prior"))
        finally:
            lock.release()


@contextmanager
def _watched(run: RunDirectory, told: Told) -> Iterator[None]:
    """Tell how a fit in another process goes on."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            facts = run.told()
            if facts.get("doing") == "fit" and "step" in facts:
                told.progress.fit_step(facts["step"], facts["steps"], facts["loss"])

    thread = threading.Thread(target=watch, name="dip-fit-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
