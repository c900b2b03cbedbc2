"""Laws of tiles in packets: the records and planes of tiles alone, whatever the device does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits

from dip_pipeline.account.record import ALGORITHM_VERSION
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.engine.executors import InlinePool
from dip_pipeline.errors import BrokenProcessError, RestorationError, RunError
from dip_pipeline.frames import open_frame
from dip_pipeline.machine import devices
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing.planning import problem_source, resolve_noise
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from dip_pipeline.runs import ways
from dip_pipeline.runs.place import Place
from dip_pipeline.runs.work import FramePlan, TileTask, problem_of, restore_packet, restore_tile
from dip_pipeline.tiling import plan_tiles
from tests.stand_in import QUICK, arithmetic, planes
from tests.test_pipeline import write

CONFIG = RunConfig().with_overrides(**QUICK, **{"noise.gain_e_per_dn": 2, "noise.read_noise_e": 4})


@pytest.fixture
def tasks(tmp_path):
    """Nine tiles, and a way to have them in another store."""
    science = np.random.default_rng(3).normal(100, 3, (96, 112)).astype(np.float32)
    frame = open_frame(write(tmp_path / "in.fits", science))
    source = problem_source(frame, resolve_noise(frame, CONFIG), CONFIG)
    tiles = plan_tiles(frame.shape, CONFIG.tile_options())

    def of(name):
        from dip_pipeline.engine import TileStore

        (tmp_path / name).mkdir(exist_ok=True)
        plan = FramePlan(source, 0, TileStore(tmp_path / name), None, ALGORITHM_VERSION)
        return [TileTask(plan, tile) for tile in tiles]

    return of


@pytest.fixture
def packets(monkeypatch):
    """Sizes of the packets that are fitted; the restoration is a stand-in."""
    sizes = []

    def fit_priors(problems):
        sizes.append(len(problems))
        if len(problems) > room[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [f"prior of {problem.seed}" for problem in problems]

    def restore(problem, prior):
        assert prior in (None, f"prior of {problem.seed}")
        return arithmetic(problem, prior)

    room = [100]
    monkeypatch.setattr(devices, "fit_priors", fit_priors)
    monkeypatch.setattr(ways, "restore", restore)
    monkeypatch.setattr(devices, "_ROOM", {})
    return sizes, room


def stored(tasks):
    return {t.tile.index: t.plan.store.load(t.tile.index)[0]["science"].tobytes() for t in tasks}


def test_a_packet_leaves_what_its_tiles_alone_leave(tasks, packets):
    together, alone = tasks("together"), tasks("alone")
    records = restore_packet(together)
    for task in alone:
        restore_tile(task)
    assert packets[0] == [9]
    assert [record["tile"] for record in records] == list(range(9))
    assert stored(together) == stored(alone)
    keys = [list(some[0].plan.store.keys().values()) for some in (together, alone)]
    assert keys[0] == keys[1]


def test_a_tile_without_data_is_no_failure_in_a_packet_either(tasks, packets):
    some = tasks("store")
    plan = some[0].plan
    blank = np.full(plan.source.frame.shape, 100.0, np.float32)
    blank[:90] = np.nan
    fits.writeto(plan.source.frame.path, blank, overwrite=True)
    source = replace(plan.source, frame=open_frame(plan.source.frame.path))
    again = [replace(task, plan=replace(plan, source=source)) for task in some]
    empty = sum(not problem_of(task).valid.any() for task in again)
    assert 0 < empty < 9
    assert len(restore_packet(again)) == 9
    assert packets[0] == [9 - empty]


def test_tiles_that_are_there_are_not_fitted_again(tasks, packets):
    some = tasks("store")
    restore_packet(some[2:5])
    before = stored(some[2:5])
    assert [record["tile"] for record in restore_packet(some)] == list(range(9))
    assert packets[0] == [3, 6]
    assert stored(some[2:5]) == before


def test_memory_that_runs_out_halves_the_packet_and_all_is_done(tasks, packets):
    sizes, room = packets
    room[0] = 2
    some = tasks("store")
    assert len(restore_packet(some)) == 9
    assert sizes == [9, 5, 3, 2, 2, 2, 2, 1]
    sizes.clear()
    restore_packet(tasks("another"))
    assert sizes == [2, 2, 2, 2, 1]  # it is known by now


def test_memory_for_not_a_single_fit_is_one_line_with_what_to_do(tasks, packets):
    packets[1][0] = 0
    with pytest.raises(RunError, match="--tile") as caught:
        restore_packet(tasks("store"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("run", [restore_packet, lambda tasks: [restore_tile(t) for t in tasks]])
@pytest.mark.parametrize("answers", [True, False])
def test_an_error_of_the_device_is_told_from_one_of_the_program(
    tasks, packets, monkeypatch, run, answers
):
    def fail(problem, prior):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(ways, "restore", fail)
    monkeypatch.setattr(devices, "answers", lambda _: answers)
    with pytest.raises(RuntimeError if answers else BrokenProcessError) as caught:
        run(tasks("store"))
    if not answers:
        assert "\n" not in str(caught.value)
        assert "illegal memory access" in str(caught.value)


def test_a_processor_always_answers():
    assert devices.answers("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
@pytest.mark.parametrize("run", [restore_packet, lambda tasks: restore_tile(tasks[0])])
def test_a_worker_without_the_gpu_that_was_asked_for_says_so(tasks, packets, run):
    def on_gpu(task):
        plan = task.plan
        return replace(task, plan=replace(plan, source=replace(plan.source, device="cuda")))

    with pytest.raises(RunError, match="no GPU where the work is done"):
        run([on_gpu(task) for task in tasks("store")])
    assert packets[0] == []


def test_one_that_cannot_be_fitted_is_copied_and_the_others_are_restored(
    tasks, packets, monkeypatch
):
    def fit_priors(problems):
        return [RestorationError("nothing"), *(f"prior of {p.seed}" for p in problems[1:])]

    monkeypatch.setattr(devices, "fit_priors", fit_priors)
    records = restore_packet(tasks("store"))
    assert [record["failed"] for record in records] == [True] + [False] * 8
    assert records[0]["stop_reason"] == "NOT_FITTED"


def test_one_that_diverges_in_a_packet_is_tried_with_other_seeds(tasks, packets, monkeypatch):
    tried = []

    def restore(problem, prior):
        restored = arithmetic(problem, prior)
        if problem.origin != (0, 0):
            return restored
        tried.append(problem.seed)
        if len(tried) == 3:
            return restored
        failed = Outcome(steps=0, stop_reason=StopReason.DIVERGED, failed=True)
        return Restored(restored.science, restored.error, restored.flags, failed)

    monkeypatch.setattr(ways, "restore", restore)
    records = restore_packet(tasks("store"))
    assert not any(record["failed"] for record in records)
    assert len(set(tried)) == 3


@pytest.mark.parametrize(
    ("devices", "packet", "items"),
    [
        (("cpu",), None, 1),
        (("cpu",), 8, 1),
        (("cuda:0",), None, 16),
        (("cuda:0", "cuda:1"), 8, 8),
        (("auto",), None, 1),
        (("auto",), 4, 4),
    ],
)
def test_a_processor_fits_one_at_a_time_and_a_gpu_a_packet(devices, packet, items):
    options = WorkerOptions(ExecutorKind.LOCAL, devices=devices, packet=packet)
    assert options.items_a_packet == items


def test_a_frame_in_packets_is_the_frame_alone(tmp_path, packets):
    science = np.random.default_rng(3).normal(100, 3, (96, 112)).astype(np.float32)
    source = write(tmp_path / "in.fits", science)
    pool = InlinePool(WorkerOptions(devices=("auto",), packet=4))
    restore_frame(source, tmp_path / "packets.fits", CONFIG, place=Place(pool))
    assert packets[0] == [4, 4]  # and one by itself
    restore_frame(source, tmp_path / "alone.fits", CONFIG)
    assert packets[0] == [4, 4]  # and one by itself
    assert planes(tmp_path / "packets.fits") == planes(tmp_path / "alone.fits")
