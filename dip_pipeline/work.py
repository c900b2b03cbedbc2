"""What a worker does: read a region of the frame, restore it, publish the tile.

Tasks are plain picklable values; a worker opens the frame itself and reads the prior from the
run directory, once a process.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dip_pipeline.engine import TileStore, read_published
from dip_pipeline.errors import RestorationError
from dip_pipeline.frames import Frame
from dip_pipeline.restoration import Prior, SharedPrior, fit_prior, restore, unchanged
from dip_pipeline.restoration.problem import FitOptions, Outcome, Problem, Restored, StopReason
from dip_pipeline.restoration.stopping import StepHook, ignore_step
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.tiling import Tile

Window = tuple[slice, slice]
Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ProblemSource:
    """Cuts problems out of a frame."""

    frame: Frame
    noise: NoiseModel
    options: FitOptions
    saturation_dn: float | None
    device: str
    threads: int

    def problem(self, window: Window, *, seed: int, inner: Window | None = None) -> Problem:
        """Read one window of the frame as a problem to restore."""
        pixels = self.frame.read(*window)
        science = pixels.science
        limit = np.inf if self.saturation_dn is None else self.saturation_dn
        saturated = np.isfinite(science) & (science >= limit)
        return Problem(
            pixels=science,
            error=pixels.error if self.noise.from_error_plane else None,
            masked=pixels.masked & ~saturated,
            saturated=saturated,
            noise=self.noise,
            options=self.options,
            seed=seed,
            origin=(window[0].start, window[1].start),
            inner=inner or (slice(None), slice(None)),
            device=self.device,
            threads=self.threads,
        )


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What all tasks of one frame share.

    prior_path : where the frame's prior is published; None where each tile has its own
    """

    source: ProblemSource
    seed: int
    store: TileStore
    prior_path: Path | None


@dataclass(frozen=True, slots=True)
class TileTask:
    """One tile to restore."""

    plan: FramePlan
    tile: Tile


def tile_seed(run_seed: int, tile_index: int) -> int:
    """Seed of one tile: the same whichever worker runs it, and in whichever order."""
    return int(np.random.SeedSequence([run_seed, tile_index]).generate_state(1)[0])


def prior_seed(run_seed: int) -> int:
    """Seed of a prior: none that a tile has."""
    return int(np.random.SeedSequence([run_seed, 1 << 31]).generate_state(1)[0])


def fit_frame_prior(
    plan: FramePlan, windows: Sequence[Window], on_step: StepHook = ignore_step
) -> bytes:
    """Fit the prior of a frame on some windows of it; returns its bytes.

    Raises RestorationError where the frame holds nothing to fit.
    """
    seed, source = prior_seed(plan.seed), plan.source
    problems = [source.problem(window, seed=seed) for window in windows]
    return fit_prior(problems, source.frame.shape, seed=seed, on_step=on_step).to_bytes()


def bind_frame_prior(
    plan: FramePlan, windows: Sequence[Window], shared: SharedPrior, *, seen: bool
) -> bytes:
    """Calibrate a prior of other frames on some windows of this one; returns its bytes.

    seen : whether this frame is one that the prior was fitted on
    """
    seed, source = prior_seed(plan.seed), plan.source
    problems = [source.problem(window, seed=seed) for window in windows]
    return shared.bound_to(problems, source.frame.shape, seed=seed, seen=seen).to_bytes()


def restore_tile(task: TileTask) -> Record:
    """Restore one tile and publish it; returns its record. Safe to run twice."""
    started = time.monotonic()
    problem = _problem_of(task)
    prior = None if task.plan.prior_path is None else _read_prior(task.plan.prior_path)
    try:
        restored = restore(problem, prior)
    except RestorationError:
        restored = unchanged(problem, StopReason.NOT_FITTED)
    return _publish(task, problem, restored, seconds=time.monotonic() - started)


def copy_tile(task: TileTask) -> Record:
    """Publish a tile unchanged and flagged: its workers died over it."""
    problem = _problem_of(task)
    return _publish(task, problem, unchanged(problem, StopReason.WORKER_LOST), seconds=0.0)


def _problem_of(task: TileTask) -> Problem:
    tile = task.tile
    seed = tile_seed(task.plan.seed, tile.index)
    return task.plan.source.problem((tile.halo_rows, tile.halo_cols), seed=seed, inner=tile.inner)


def _publish(task: TileTask, problem: Problem, restored: Restored, *, seconds: float) -> Record:
    planes: dict[str, np.ndarray] = {
        "science": restored.science,
        "error": restored.error,
        "flags": restored.flags,
    }
    record = tile_record(task.tile, restored.outcome, problem, seconds=seconds)
    task.plan.store.publish(task.tile.index, planes, record)
    return record


def tile_record(
    tile: Tile, outcome: Outcome, problem: Problem, *, seconds: float
) -> dict[str, object]:
    """One row of the tile table, in plain values."""
    facts = asdict(outcome)
    facts["stop_reason"] = outcome.stop_reason.name
    return {
        "tile": tile.index,
        "row": tile.rows.start,
        "col": tile.cols.start,
        "rows": tile.shape[0],
        "cols": tile.shape[1],
        **facts,
        "seconds": round(seconds, 3),
        "device": problem.device,
        "pid": os.getpid(),
        "seed": problem.seed,
    }


def _read_prior(path: Path) -> Prior:
    stat = path.stat()
    return _parsed_prior(path, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _parsed_prior(path: Path, inode: int, mtime_ns: int) -> Prior:  # noqa: ARG001  (cache key)
    return Prior.from_bytes(read_published(path))
