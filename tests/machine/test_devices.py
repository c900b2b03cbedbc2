"""Laws of devices: work is done on the GPU that was asked for, and the record names that one.

No GPU is needed: what torch is asked for is looked at.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, RunDirectory, WorkerOptions
from dip_pipeline.engine.executors import InlinePool
from dip_pipeline.machine.devices import device_name, device_watched, devices_used
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing import planning
from dip_pipeline.runs import restoring, ways, work
from dip_pipeline.runs.place import Place
from tests.stand_in import QUICK, arithmetic

GPUS = {"cuda:0": "first GPU", "cuda:1": "second GPU"}


@pytest.fixture
def current(monkeypatch):
    """Two GPUs; gives the devices that were made current, "" where one was left."""
    seen = []

    @contextmanager
    def device(name):
        seen.append(name)
        yield
        seen.append("")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: GPUS[device or "cuda:0"])
    monkeypatch.setattr(torch.cuda, "device", device)
    return seen


def test_a_gpu_is_named_by_the_number_it_was_used_under(current):
    assert [device_name(device) for device in ("cpu", "cuda:1", "cuda:0")] == [
        "cpu",
        "second GPU",
        "first GPU",
    ]
    tiles = [{"device": device_name(device)} for device in ("cuda:1", "cuda:1")]
    assert devices_used(tiles) == "second GPU"


def test_a_gpu_that_does_not_answer_keeps_its_number(current, monkeypatch):
    def fails(_device):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(torch.cuda, "get_device_name", fails)
    assert device_name("cuda:1") == "cuda:1"


def test_the_gpu_of_a_problem_is_the_current_one_while_it_is_worked_on(current):
    with device_watched(SimpleNamespace(device="cuda:1", pixels=np.zeros((4, 4)))):
        assert current == ["cuda:1"]
    assert current == ["cuda:1", ""]
    with device_watched(SimpleNamespace(device="cpu", pixels=np.zeros((4, 4)))):
        assert current == ["cuda:1", ""]


def test_workers_call_their_gpu_the_first_and_the_process_that_asks_by_its_number(
    current, tmp_path, monkeypatch
):
    """A tile that is damaged when tiles are put together is made again by the one that asked."""
    monkeypatch.setattr(planning, "devices_of", lambda _config: ("cuda:1",))
    monkeypatch.setattr(ways, "restore", lambda problem, prior: arithmetic(problem, prior))
    pixels = np.random.default_rng(3).normal(100, 3, (64, 64)).astype(np.float32)
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN"})
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "in.fits")
    devices = []

    def restore_tile(task):
        devices.append(task.plan.source.device)
        return work.restore_tile(task)

    monkeypatch.setattr(restoring, "restore_tile", restore_tile)
    real = RunDirectory.tell

    def tell(self, doing, **facts):
        real(self, doing, **facts)
        if doing == "blend":
            min(self.tiles.folder.glob("*.tile")).unlink()

    monkeypatch.setattr(RunDirectory, "tell", tell)
    config = RunConfig().with_overrides(**QUICK | {"workers.executor": "local"})
    options = WorkerOptions(ExecutorKind.LOCAL, devices=("cuda:1",), packet=1)
    restore_frame(
        str(tmp_path / "in.fits"), tmp_path / "out.fits", config, place=Place(InlinePool(options))
    )
    assert devices[-2:] == ["cuda:0", "cuda:1"]
    assert set(devices[:-1]) == {"cuda:0"}
