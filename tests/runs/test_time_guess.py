"""Guesses of time: of the order of what was measured, and on a GPU those of a GPU."""

import pytest

from dip_pipeline.config import RunConfig
from dip_pipeline.runs import time_guess
from dip_pipeline.runs.time_guess import guess_seconds
from dip_pipeline.tiling import plan_tiles

CONFIG = RunConfig()
FRAME, SMALL = (4096, 4096), (512, 512)


def guess(shape, **options):
    config = CONFIG.with_overrides(**options)
    return guess_seconds(shape, plan_tiles(shape, config.tile_options()), config, None)


@pytest.fixture
def on(monkeypatch):
    def device(name):
        monkeypatch.setattr(time_guess, "devices_of", lambda _: (name,))

    return device


@pytest.mark.parametrize(
    ("device", "frame", "measured_s"),
    [
        ("cpu", SMALL, 130),
        ("cpu", FRAME, 414),
        ("cuda:0", SMALL, 4.9),
        ("cuda:0", (2048, 2048), 22),
        ("cuda:0", FRAME, 40),
    ],
)
def test_a_guess_is_roughly_right(on, device, frame, measured_s):
    on(device)
    assert 1 / 1.8 < guess(frame) / measured_s < 1.8


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_what_costs_more_is_guessed_to_take_longer(on, device):
    on(device)
    usual = guess(FRAME)

    def with_(**more):
        return guess(FRAME, **more)

    assert with_(**{"fit.prior": "night.prior"}) < usual
    assert with_(**{"fit.steps": 3000}) > usual
    assert with_(**{"fit.scope": "tile"}) > 5 * usual


def test_a_gpu_of_another_machine_is_guessed_for_without_one_here():
    def on(device):
        return guess(FRAME, **{"workers.device": device})

    assert on("cuda") == on("cuda:63") < on("cpu") / 5
