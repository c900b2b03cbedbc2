"""Laws of room: what cannot fit is refused before a step is made, with the numbers."""

import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions, faults, usable_memory_bytes
from dip_pipeline.engine import options as engine_options
from dip_pipeline.errors import DiskFullError, OutputError, RunError
from dip_pipeline.machine import room
from dip_pipeline.machine.devices import device_watched
from dip_pipeline.pipeline import describe_frame, restore_frame, scratch_of
from dip_pipeline.runs import ways, work
from tests.stand_in import QUICK, arithmetic

CONFIG = RunConfig().with_overrides(**QUICK)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def frame(tmp_path, monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)
    path = tmp_path / "in.fits"
    science = np.random.default_rng(3).normal(100, 3, (96, 112)).astype(np.float32)
    fits.PrimaryHDU(science, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0})).writeto(path)
    return path


@pytest.fixture
def free(monkeypatch):
    """Set how much is free on every disk."""

    def settle(n_bytes):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(n_bytes, 0, n_bytes))

    return settle


def test_a_disk_too_small_is_refused_before_anything_is_made(frame, free, tmp_path):
    free(100_000)
    with pytest.raises(OutputError) as caught:
        restore_frame(str(frame), tmp_path / "out.fits", CONFIG)
    said = str(caught.value)
    assert "\n" not in said
    numbers = re.findall(r"\d{4,}", said.replace(str(tmp_path), ""))
    needed, tiles, blending, product, there = map(int, numbers)
    assert needed == tiles + blending + product > there == 100_000
    assert blending == 96 * 112 * 9
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]


def test_what_a_run_takes_on_the_disk_is_what_was_said(frame, tmp_path, monkeypatch):
    shown = describe_frame(str(frame), CONFIG)
    taken = []
    real = work.TileStore.load

    def load(self, index):
        scratch = scratch_of(tmp_path / "out.fits")
        taken.append(room._size(scratch))
        return real(self, index)

    monkeypatch.setattr(work.TileStore, "load", load)
    restore_frame(str(frame), tmp_path / "out.fits", CONFIG)
    product = (tmp_path / "out.fits").stat().st_size
    assert shown.disk_bytes - (5 << 20) < max(taken) + product < shown.disk_bytes


def test_what_is_done_already_needs_no_room_again(frame, free, tmp_path, monkeypatch):
    target = tmp_path / "out.fits"
    needed = describe_frame(str(frame), CONFIG).disk_bytes
    monkeypatch.setenv(faults.VARIABLE, "before save:1:full")
    faults.forget()
    with pytest.raises(OSError, match="No space"):
        restore_frame(str(frame), target, CONFIG)
    monkeypatch.delenv(faults.VARIABLE)
    free(needed - 50_000)
    assert restore_frame(str(frame), target, CONFIG).found_done == 9


def test_a_disk_that_fills_up_all_the_same_says_what_the_run_still_needs(
    frame, tmp_path, monkeypatch
):
    monkeypatch.setenv(faults.VARIABLE, "before publish:5:full")
    faults.forget()
    with pytest.raises(DiskFullError, match=r"all of the run: \d{6,} more bytes") as caught:
        restore_frame(str(frame), tmp_path / "out.fits", CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scope", ["frame", "tile"])
def test_a_scratch_folder_that_vanishes_is_told_and_the_same_command_begins_anew(
    frame, tmp_path, monkeypatch, scope
):
    config = CONFIG.with_overrides(**{"fit.scope": scope, "fit.steps": 1})
    folder, publish = tmp_path / "there", work._publish
    folder.mkdir()

    def vanish(*given, **options):
        shutil.rmtree(folder)
        return publish(*given, **options)

    with monkeypatch.context() as broken:
        broken.setattr(work, "_publish", vanish)
        with pytest.raises(OutputError, match=r"^\S*out.fits.dip: vanished .* begins anew$"):
            restore_frame(str(frame), folder / "out.fits", config)
    assert not folder.exists()
    folder.mkdir()
    assert restore_frame(str(frame), folder / "out.fits", config).found_done == 0
    assert [path.name for path in folder.iterdir()] == ["out.fits"]


def test_memory_that_the_machine_does_not_have_is_refused(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "usable_memory_bytes", lambda: 10**8)
    with pytest.raises(
        RunError, match=r"this machine has 100000000; use fewer --workers"
    ) as caught:
        restore_frame(str(frame), tmp_path / "out.fits", CONFIG)
    assert "\n" not in str(caught.value)
    assert not scratch_of(tmp_path / "out.fits").exists()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_is_told_is_about_what_a_run_takes(tmp_path, threads):
    frame = str(Path(__file__).parents[2] / "sample_data" / "crowded.fits")
    options = {"fit.steps": 10, "workers.threads_per_fit": threads, "workers.device": "cpu"}
    told = describe_frame(frame, RunConfig().with_overrides(**options))
    words = ["denoise", frame, "-o", "out.fits", "--steps", "10", "--device", "cpu"]
    command = [sys.executable, "-m", "dip_pipeline", *words, "--threads-per-fit", str(threads)]
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    taken = int(ended.stdout.splitlines()[-1])
    assert 0.6 < taken / told.memory_bytes < 1.1  # threads need not hold theirs at once


def test_memory_that_is_told_is_that_of_all_processes(frame):
    alone, four = (
        describe_frame(str(frame), CONFIG.with_overrides(**options))
        for options in (
            {"workers.executor": "inline"},
            {"workers.executor": "local", "workers.workers": 4},
        )
    )
    assert (alone.processes, four.processes) == (1, 4)
    assert four.memory_bytes > 4 * alone.memory_bytes


def test_exposures_that_guide_each_other_are_kept_in_memory_as_they_are_seen(tmp_path):
    rng = np.random.default_rng(4)
    paths = [str(tmp_path / f"{number}.fits") for number in range(3)]
    for path in paths:
        header = fits.Header({"GAIN": 2.0, "RDNOISE": 4.0})
        fits.writeto(path, rng.normal(100, 3, (64, 80)).astype(np.float32), header)
    joint, each = (
        describe_frame(
            paths[0],
            CONFIG.with_overrides(
                **{"task.name": "combine", "task.exposures": paths[1:], "task.each": each}
            ),
        )
        for each in (False, True)
    )
    assert each.memory_bytes == joint.memory_bytes + 14 * 3 * 64 * 80


def test_memory_that_runs_out_is_one_line_with_what_to_do():
    problem = SimpleNamespace(device="cpu", pixels=np.zeros((40, 50)))
    with (
        pytest.raises(RunError, match="no memory left at 40 x 50 px; use a smaller") as caught,
        device_watched(problem),
    ):
        torch.empty(10**14)
    assert "\n" not in str(caught.value)


def test_workers_elsewhere_have_memory_of_their_own(monkeypatch):
    monkeypatch.setattr(room, "usable_memory_bytes", lambda: 1)
    need = room.Room(10**9, 2, 1, 1, 1)
    room.check_memory(need, "a.fits", WorkerOptions(ExecutorKind.DASK))
    with pytest.raises(RunError, match="2 x 1000000000"):
        room.check_memory(need, "a.fits", WorkerOptions(ExecutorKind.LOCAL, workers=2))


def test_an_address_space_too_small_is_refused_and_not_waited_in(monkeypatch):
    need = room.Room(400 << 20, 1, 0, 0, 0)
    for left, fits_in in ((300 << 20, False), (500 << 20, False), (700 << 20, True), (None, True)):
        monkeypatch.setattr(room, "address_space_left_bytes", lambda left=left: left)
        if fits_in:
            room.check_memory(need, "a.fits", WorkerOptions())
            continue
        with pytest.raises(RunError, match=r"a\.fits: .*\(ulimit -v\) leaves \d+; raise it by \d+"):
            room.check_memory(need, "a.fits", WorkerOptions())


def test_the_address_space_that_is_left_is_the_limit_less_what_is_taken():
    resource = pytest.importorskip("resource")
    script = (
        "import resource; from dip_pipeline.engine import address_space_left_bytes as left; "
        "before = left(); resource.setrlimit(resource.RLIMIT_AS, (4 << 30, -1)); "
        "print(before, left())"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        assert said[0] == "None"
    assert (1 << 30) < int(said[1]) < (4 << 30)


@pytest.mark.parametrize(("limit", "least"), [("500000000\n", 500_000_000), ("max\n", None)])
def test_a_limit_of_a_container_counts(tmp_path, monkeypatch, limit, least):
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(engine_options, "_MEMORY_LIMITS", ())
    whole = usable_memory_bytes()
    monkeypatch.setattr(engine_options, "_MEMORY_LIMITS", (tmp_path / "memory.max",))
    assert usable_memory_bytes() == (least or whole)


def test_chips_of_unlike_sizes_are_counted_each_by_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)
    path, rng = tmp_path / "mef.fits", np.random.default_rng(3)
    chips = [
        fits.ImageHDU(rng.normal(100, 3, shape).astype(np.float32), name=f"CCD{number}")
        for number, shape in enumerate(((48, 48), (96, 112), (48, 48)), start=1)
    ]
    primary = fits.PrimaryHDU(header=fits.Header({"GAIN": 2.0, "RDNOISE": 4.0}))
    fits.HDUList([primary, *chips]).writeto(path)
    shown = describe_frame(str(path), CONFIG)
    report = restore_frame(str(path), tmp_path / "out.fits", CONFIG)
    assert shown.tile_lines.startswith(f"{report.tiles} tiles of ")
    alone = [describe_frame(f"{path}[{number}]", CONFIG) for number in (1, 2, 3)]
    assert shown.memory_bytes == max(item.memory_bytes for item in alone)
    assert shown.seconds == pytest.approx(sum(item.seconds for item in alone))
    # The file itself is in the product once.
    assert shown.disk_bytes == sum(item.disk_bytes for item in alone) - 2 * room._size(path)
