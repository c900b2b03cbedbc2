"""Laws of work on a GPU, checked on one that is none: nothing meets the processor's by mistake."""

from functools import partial

import numpy as np
import pytest
import torch
from astropy.io import fits

from dip_pipeline.cli.main import main
from dip_pipeline.restoration.fits import (
    finer_picture,  # noqa: F401 (generators)
    fit_code,  # noqa: F401 (generators)
    fit_image,
)
from dip_pipeline.restoration.networks import published  # noqa: F401 (generators)
from tests.pretended_gpu import pretended_gpu

SENSOR = ("--gain", "2", "--read-noise", "4")
PLAIN = ("--noise", "none")


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    """In bfloat16, which a processor with a matrix unit takes, rounding alone would differ."""
    monkeypatch.setattr(fit_image, "_has_bfloat16", lambda _: False)


def sky(seed, shift=(0.0, 0.0), times=1.0):
    """Stars, one beyond what the sensor holds, and a bad column."""
    places = np.random.default_rng(3).uniform(6, 50, (8, 3))
    rows_cols, light = np.indices((60, 56)), np.full((60, 56), 100.0)
    for row, col, height in places:
        rows, cols = rows_cols[0] - row - shift[0], rows_cols[1] - col - shift[1]
        light += 15 * height * (1 + (rows**2 + cols**2) * 0.14) ** -3
    light *= times
    pixels = light + np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(light / 2 + 4)
    pixels[:, 30] = np.nan
    return np.minimum(pixels, 700 * times).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, pixels in {
        "a": sky(1),
        "b": sky(2, (1.3, -2.4)),
        "deep": sky(4, times=3.0),
    }.items():
        card = fits.Header({"SATURATE": 690.0 if name != "deep" else 2070.0})
        fits.PrimaryHDU(pixels, card).writeto(tmp_path / f"{name}.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restore(*command):
    settings = ("--executor", "inline", "--threads-per-fit", "1")
    fit = ("--effort", "fast", "--steps", "2")
    with pytest.raises(SystemExit) as ended:
        main([*command, *settings, *fit])
    assert ended.value.code == 0


def run(device, *command):
    target = f"{device}.fits"
    restore(*command, "-o", target, "--device", device)
    with fits.open(target) as hdus:
        return hdus["DIP_ERR"].data, hdus[0].data


@pytest.mark.parametrize(
    "command",
    [
        # Fitted and asked as the two below, less what is special to them.
        pytest.param(("denoise", "a.fits", *SENSOR), marks=pytest.mark.slow),
        pytest.param(
            ("denoise", "a.fits", "--scope", "tile", "--tile", "40", "--overlap", "12", *SENSOR),
            marks=pytest.mark.slow,
        ),
        ("denoise", "a.fits", "--noise-correlation", "0.4", "--sigma", "8"),
        pytest.param(
            ("denoise", "a.fits", "--network", "hourglass", *SENSOR),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("denoise", "a.fits", "--guide", "deep.fits", *SENSOR),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("inpaint", "a.fits", "--denoise-known", *SENSOR),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("super-resolve", "a.fits", "--factor", "2", "--fwhm", "2.4", *SENSOR),
            marks=pytest.mark.slow,
        ),
        ("deconvolve", "a.fits", "--fwhm", "2.4", "--tile", "56", "--overlap", "12", *SENSOR),
        ("combine", "a.fits", "b.fits", "--factor", "2", *SENSOR),
    ],
    ids=" ".join,
)
def test_a_gpu_restores_as_the_processor_does(folder, command):
    wanted = run("cpu", *command)
    with pretended_gpu():
        found = run("cuda", *command)
    error, pixels = (partial(pytest.approx, each, abs=0.02, nan_ok=True) for each in wanted)
    # Where rounding puts a pixel of so few into the next bin of the table, errors differ by more.
    assert found[0] == error(rel=0.02)
    assert found[1] == pixels(rel=1e-3)


@pytest.mark.parametrize(
    "command",
    [
        ("denoise", "a.fits", "--input", "code", *SENSOR),
        ("inpaint", "a.fits", *PLAIN),
        ("super-resolve", "a.fits", "--factor", "2", "--input", "code", *PLAIN),
    ],
    ids=" ".join,
)
def test_a_gpu_fits_codes_and_pictures(folder, command):
    """By draws of its own."""
    with pretended_gpu():
        _, found = run("cuda", *command)
    assert np.isfinite(found).mean() > 0.95


def test_every_exposure_is_restored_at_its_own_epoch(folder):
    exposures = ("a.fits", "b.fits", "--each", *SENSOR)
    with pretended_gpu():
        restore("combine", *exposures, "-o", "out", "--device", "cuda")
    assert len(list((folder / "out").glob("*.fits"))) == 2


def test_the_pretended_gpu_keeps_the_rules_of_one():
    here = torch.arange(6.0)
    with pretended_gpu():
        there = torch.arange(6.0, device="cuda")
        assert (there + 1).device.type == here.to("cuda").device.type == "cuda"
        assert there.cpu().device.type == (there[here.long()] * 2).to("cpu").device.type == "cpu"
        with pytest.raises(RuntimeError, match="add: tensors of the GPU and of the processor"):
            there + here
        with pytest.raises(TypeError, match="no numpy array"):
            there.numpy()
        with pytest.raises(RuntimeError, match="generator of another device"):
            torch.randn(3, generator=torch.Generator(), device="cuda")
        layer = torch.nn.Linear(6, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.grad.device.type == "cuda"
