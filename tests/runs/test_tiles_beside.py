"""Laws of tiles restored side by side: the pixels, records and failures of tiles alone."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.errors import RunError
from dip_pipeline.frames import open_frame, read_provenance
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.restoration.restore import restore
from dip_pipeline.runs import restoring, ways
from dip_pipeline.tiling import TileOptions, plan_tiles
from tests.stand_in import any_prior, arithmetic
from tests.test_pipeline import write

SETTINGS = {
    "noise.gain_e_per_dn": 2,
    "noise.read_noise_e": 4,
    "tiles.size_px": 48,
    "tiles.overlap_px": 8,
    "fit.effort": "fast",
    "fit.steps": 2,
    "workers.threads_per_fit": 2,
    "workers.device": "cpu",
}


@pytest.fixture
def source(tmp_path):
    """A frame with stars, as tiles look for, and a bad column."""
    rng = np.random.default_rng(3)
    rows, cols = np.indices((80, 112))
    light = np.full((80, 112), 100.0)
    for row, col, height in zip(
        *rng.uniform(6, [[74], [106]], (2, 14)), rng.uniform(50, 900, 14), strict=True
    ):
        light += height * (1 + ((rows - row) ** 2 + (cols - col) ** 2) * 0.14) ** -3
    science = (light + rng.normal(0, 1, light.shape) * np.sqrt(light / 2 + 4)).astype(np.float32)
    science[:, 60] = np.nan
    return write(tmp_path / "in.fits", science)


def product(source, name, **more):
    target = Path(source).parent / name
    restore_frame(str(source), target, RunConfig().with_overrides(**{**SETTINGS, **more}))
    return target


def science(target):
    return open_frame(target).read(slice(None), slice(None)).science


def counting(monkeypatch, restored):
    """Most tiles that were restored at the same time, in a list that is written to."""
    now, most, lock = [0], [0], threading.Lock()

    def counted(problem, prior):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        try:
            return restored(problem, prior)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(ways, "restore", counted)
    return most


@pytest.fixture
def at_once(monkeypatch):
    return counting(monkeypatch, restore)


def slow_arithmetic(problem, prior=None):
    """Long enough for another tile to begin beside it."""
    time.sleep(0.02)
    return arithmetic(problem, prior)


@pytest.fixture
def standing_in(monkeypatch):
    """As at_once, of tiles that no network restores."""
    monkeypatch.setattr(ways, "fit_prior", any_prior)
    return counting(monkeypatch, slow_arithmetic)


def test_tiles_side_by_side_are_what_they_are_alone(source, at_once, monkeypatch):
    together = product(source, "together.fits")
    assert at_once[0] == 2
    at_once[0] = 0
    monkeypatch.setattr(restoring, "_SIDE_BY_SIDE", 1)
    alone = product(source, "alone.fits")
    assert at_once[0] == 1
    assert np.array_equal(science(together), science(alone), equal_nan=True)
    records = [read_provenance(one).tiles for one in (together, alone)]
    for one, other in zip(*records, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_only_where_threads_would_wait_and_they_are_small(source, standing_in, monkeypatch):
    product(source, "beside.fits")
    assert standing_in[0] == 2
    standing_in[0] = 0
    product(source, "one_thread.fits", **{"workers.threads_per_fit": 1})
    assert standing_in[0] == 1
    standing_in[0] = 0
    monkeypatch.setattr(restoring, "_MOST_PIXELS_BESIDE", 32 * 32)
    product(source, "large.fits")
    assert standing_in[0] == 1


def test_those_that_a_gpu_does_not_hold_at_once_follow_one_by_one(source, standing_in, monkeypatch):
    """What a GPU says where its memory is at an end, said by a processor."""
    counted, refused = ways.restore, []

    def short_of_memory(problem, prior):
        if threading.current_thread() is not threading.main_thread():
            refused.append(problem.seed)
            raise torch.cuda.OutOfMemoryError
        return counted(problem, prior)

    monkeypatch.setattr(ways, "restore", short_of_memory)
    target = product(source, "out.fits")
    assert refused
    assert standing_in[0] == 1
    monkeypatch.setattr(restoring, "_SIDE_BY_SIDE", 1)
    monkeypatch.setattr(ways, "restore", arithmetic)
    alone = product(source, "alone.fits")
    assert np.array_equal(science(target), science(alone), equal_nan=True)


@pytest.mark.parametrize(
    ("options", "tiles", "at_once"),
    [
        (WorkerOptions(threads_per_fit=4, devices=("cuda",)), 16, 4),
        (WorkerOptions(threads_per_fit=2, devices=("cuda",)), 16, 2),
        (WorkerOptions(threads_per_fit=4, devices=("cuda",)), 1, 1),
        (WorkerOptions(ExecutorKind.LOCAL, 2, 4, ("cuda:0", "cuda:1")), 6, 3),
        (WorkerOptions(ExecutorKind.LOCAL, None, 4, ("cuda:0",)), 6, 4),
        (WorkerOptions(ExecutorKind.LOCAL, 3, 4, ("cuda:0",)), 16, 1),
        (WorkerOptions(ExecutorKind.DASK, None, 4, ("auto",)), 16, 1),
        (WorkerOptions(ExecutorKind.LOCAL, 3, 4), 16, 1),
        (WorkerOptions(threads_per_fit=4), 16, 1),
    ],
)
def test_a_gpu_that_nobody_shares_has_several_at_once(options, tiles, at_once):
    """Tiles of 512 px and their halos, which are too large for two at once on a processor."""
    tile = plan_tiles((512, 512), TileOptions(512, 32))[0]
    assert restoring._tiles_at_once([tile] * tiles, options) == at_once


def test_one_that_fails_ends_the_run_and_the_same_command_resumes(source, monkeypatch):
    seen = []
    monkeypatch.setattr(ways, "fit_prior", any_prior)

    def failing(problem, prior):
        seen.append(problem.seed)
        if len(seen) == 4:
            raise RunError("the disk is gone")
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", failing)
    with pytest.raises(RunError, match="the disk is gone"):
        product(source, "out.fits")
    first = len(seen)
    monkeypatch.setattr(
        ways, "restore", lambda problem, prior: seen.append(0) or arithmetic(problem, prior)
    )
    target = product(source, "out.fits")
    assert first >= 4
    assert len(seen) - first < len(read_provenance(target).tiles)


@pytest.mark.gpu
def test_on_a_gpu_tiles_side_by_side_are_what_they_are_alone(source, at_once, monkeypatch):
    more = {"workers.device": "cuda", "workers.threads_per_fit": 4}
    together = product(source, "together.fits", **more)
    assert at_once[0] == 4
    monkeypatch.setattr(restoring, "_SIDE_BY_SIDE_ON_GPU", 1)
    alone = product(source, "alone.fits", **more)
    assert np.array_equal(science(together), science(alone), equal_nan=True)
