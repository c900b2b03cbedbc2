"""What a worker does: read a region of the frame, restore it, publish the tile.

Tasks are plain picklable values; a worker opens the frame itself and reads the prior from the
run directory, once a process.
"""

import hashlib
import logging
import os
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from dip_pipeline.engine import TileStore, read_published
from dip_pipeline.errors import GpuMemoryError, RestorationError
from dip_pipeline.machine.devices import device_name, device_watched, fit_in_packets
from dip_pipeline.preparing.cutting import ProblemSource, problems_key
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.computing.side_by_side import load_linear_algebra, side_by_side
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.problem import Outcome, Problem, Restored, StopReason
from dip_pipeline.runs.seeds import tile_seed
from dip_pipeline.runs.ways import AnyPrior, way_of
from dip_pipeline.task import Task
from dip_pipeline.tiling import Tile

Record = Mapping[str, object]
Planes = Mapping[str, np.ndarray]

log = logging.getLogger(__name__)

_PRIORS_KEPT = 4  # read once by a process: planes that it restores side by side have their own
MORE_SEEDS = 2  # tried where a fit diverges


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What all tasks of one frame share.

    prior_path : where the frame's prior is published; None where each tile has its own
    algorithm : version of the algorithm, part of the key of every tile
    first_tile : number of its first tile in the run
    """

    source: ProblemSource
    seed: int
    store: TileStore
    prior_path: Path | None
    algorithm: int
    first_tile: int = 0

    def seed_of(self, tile: Tile) -> int:
        """Seed of a tile: the same, whichever planes of the file are restored with its own."""
        return tile_seed(self.seed, tile.index - self.first_tile)


@dataclass(frozen=True, slots=True)
class TileTask:
    """One tile to restore."""

    plan: FramePlan
    tile: Tile


def restore_tile(task: TileTask) -> Record:
    """Restore one tile and publish it; returns its record. Safe to run twice."""
    started = time.monotonic()
    done = task.plan.store.record_of(task.tile.index)
    if done is not None:  # by a process that died before it could say so
        return done
    problem = problem_of(task)
    with device_watched(problem):
        prior = None if task.plan.prior_path is None else _read_prior(task.plan)
        solved = _solved(problem, prior, own=prior is None)
    return _publish(task, *solved, seconds=time.monotonic() - started)


def restore_packet(tasks: Sequence[TileTask]) -> list[Record]:
    """Restore some tiles, each with networks of its own that are fitted together.

    Returns their records. Safe to run twice.
    """
    done: dict[int, Record | None] = {
        task.tile.index: task.plan.store.record_of(task.tile.index) for task in tasks
    }
    missing = [task for task in tasks if done[task.tile.index] is None]
    started = time.monotonic()
    problems = [problem_of(task) for task in missing]
    # One without any data is none to fit to, and no failure.
    fitted = [problem for problem in problems if problem.valid.any()]
    priors: Iterator[Prior | RestorationError] = iter(())
    if fitted:
        with device_watched(fitted[0]):
            priors = iter(fit_in_packets(fitted))
    seconds = (time.monotonic() - started) / max(1, len(missing))
    for task, problem in zip(missing, problems, strict=True):
        prior = next(priors) if problem.valid.any() else None
        started = time.monotonic() - seconds
        with device_watched(problem):
            solved = _solved(problem, prior, own=True)
        done[task.tile.index] = _publish(task, *solved, seconds=time.monotonic() - started)
    return [record for record in done.values() if record is not None]


def restore_side_by_side(tasks: Sequence[TileTask]) -> list[Record]:
    """Restore some tiles whose priors are there, at once; returns their records.

    Networks have all threads to answer on, but the stars of a tile are looked for on one: meanwhile
    another tile has the rest. The pixels are those of each alone. Tiles that a GPU does not hold at
    once follow one by one. Safe to run twice.
    """
    done: dict[int, Record | None] = {
        task.tile.index: task.plan.store.record_of(task.tile.index) for task in tasks
    }
    missing = [task for task in tasks if done[task.tile.index] is None]
    # Read and published in turn: a file is read by one at a time.
    problems = [problem_of(task) for task in missing]

    def solved(problem: Problem, prior: AnyPrior) -> tuple[tuple[Problem, Restored], float]:
        started = time.monotonic()
        with device_watched(problem):
            found = _solved(problem, prior, own=False)
        return found, time.monotonic() - started

    def tried(problem: Problem, prior: AnyPrior) -> tuple[tuple[Problem, Restored], float] | None:
        try:
            return solved(problem, prior)
        except GpuMemoryError:
            return None

    if missing:
        settle_computing(problems[0].threads)
        if problems[0].device.startswith("cuda"):  # a process that did not fit has not started it
            with device_watched(problems[0]):
                load_linear_algebra(torch.cuda.current_device())
        asked = [
            (problem, _read_prior(task.plan))
            for task, problem in zip(missing, problems, strict=True)
        ]
        results = side_by_side([partial(tried, *one) for one in asked])
        for task, one, result in zip(missing, asked, results, strict=True):
            found, seconds = solved(*one) if result is None else result
            done[task.tile.index] = _publish(task, *found, seconds=seconds)
    return [record for record in done.values() if record is not None]


def _solved(
    problem: Problem, prior: AnyPrior | RestorationError | None, *, own: bool
) -> tuple[Problem, Restored]:
    """Restore a problem; one whose own fit diverges is tried with derived seeds.

    prior : the frame's, or its own; an error where that could not be fitted
    """
    if isinstance(prior, RestorationError):
        return problem, _unchanged(problem, StopReason.NOT_FITTED)
    restored = _tried(problem, prior)
    if not restored.outcome.stop_reason.diverged or not own:
        return problem, restored
    for number in range(1, MORE_SEEDS + 1):
        again = replace(problem, seed=tile_seed(problem.seed, number))
        retried = _tried(again, None)
        if not retried.outcome.failed:
            return again, retried
    return problem, restored


def copy_tile(task: TileTask) -> Record:
    """Publish a tile unchanged and flagged: its workers died over it."""
    problem = problem_of(task)
    return _publish(task, problem, _unchanged(problem, StopReason.WORKER_LOST), seconds=0.0)


def problem_of(task: TileTask) -> Problem:
    """Read what a tile is restored from."""
    tile = task.tile
    seed = task.plan.seed_of(tile)
    return task.plan.source.problem((tile.halo_rows, tile.halo_cols), seed=seed, inner=tile.inner)


def tile_key(task: TileTask) -> str:
    """Digest of all that decides the pixels of a tile; reads its part of the frame."""
    return _key_of(task, problem_of(task))


def _key_of(task: TileTask, problem: Problem) -> str:
    plan = task.plan
    shared = [] if plan.prior_path is None else [_prior_digest(plan.prior_path)]
    return problems_key([problem], plan.source.frame.shape, plan.algorithm, *shared)


def _tried(problem: Problem, prior: AnyPrior | None) -> Restored:
    try:
        return way_of(problem.options, problem.optics).restore(problem, prior)
    except RestorationError:
        return _unchanged(problem, StopReason.NOT_FITTED)


def _unchanged(problem: Problem, reason: StopReason) -> Restored:
    return way_of(problem.options, problem.optics).unchanged(problem, reason)


def _publish(task: TileTask, problem: Problem, restored: Restored, *, seconds: float) -> Record:
    planes: dict[str, np.ndarray] = {
        "science": restored.science,
        "error": restored.error,
        "flags": restored.flags,
    }
    record = tile_record(task.tile, restored.outcome, problem, seconds=seconds)
    # By the tile's own seed, whichever of the derived ones it came out with.
    own = replace(problem, seed=task.plan.seed_of(task.tile))
    task.plan.store.publish(task.tile.index, planes, record, key=_key_of(task, own))
    return record


def tile_record(
    tile: Tile, outcome: Outcome, problem: Problem, *, seconds: float
) -> dict[str, object]:
    """One row of the tile table, in plain values."""
    facts = asdict(outcome)
    facts["stop_reason"] = outcome.stop_reason.name
    of_exposures = list(facts.pop("exposures"))
    # Of every tile of a combination, for they share one table; elsewhere it would say nothing.
    if problem.options.task is Task.COMBINE and problem.optics is not None:
        facts["exposures"] = of_exposures
    if problem.optics is None or problem.optics.psf is None:
        facts.pop("doubted_pixels")  # there is nothing to doubt
    if not problem.keeps_spikes:
        facts.pop("kept_pixels")
    return {
        "tile": tile.index,
        "row": tile.rows.start,
        "col": tile.cols.start,
        "rows": tile.shape[0],
        "cols": tile.shape[1],
        **facts,
        "seconds": round(seconds, 3),
        "device": device_name(problem.device),
        "pid": os.getpid(),
        "seed": problem.seed,
    }


def _read_prior(plan: FramePlan) -> AnyPrior:
    path = cast(Path, plan.prior_path)
    stat = path.stat()
    kind = way_of(plan.source.options, plan.source.optics).prior
    return _parsed_prior(path, stat.st_ino, stat.st_mtime_ns, cast(Hashable, kind))


def _prior_digest(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=_PRIORS_KEPT)
def _digest(path: Path, inode: int, mtime_ns: int) -> str:  # noqa: ARG001  (cache key)
    return hashlib.sha256(read_published(path)).hexdigest()


@lru_cache(maxsize=_PRIORS_KEPT)
def _parsed_prior(path: Path, inode: int, mtime_ns: int, kind: Hashable) -> AnyPrior:  # noqa: ARG001  (cache key)
    return cast(type[AnyPrior], kind).from_bytes(read_published(path))
