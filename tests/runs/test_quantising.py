"""The step of a compressed output follows the noise of its input, not that of the result."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.restored_hdu import RestoredHdu
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing.planning import resolve_noise
from dip_pipeline.runs import quantising, ways
from dip_pipeline.runs.quantising import storage_step
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_kernel import WHITE
from tests.stand_in import QUICK, arithmetic

FZ = Path("out.fits.fz")


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(8)
    science = fits.ImageHDU(rng.normal(50, 3, (64, 80)).astype("f4"), name="SCI")
    error = fits.ImageHDU(np.full((64, 80), 3, "f4"), name="ERR")
    error.data[:, 40:] = 300
    path = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), science, error]).writeto(path)
    return path


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


def test_the_step_is_a_share_of_the_noise_where_it_is_low(source):
    frame = open_frame(source)
    noise = resolve_noise(frame, config())
    assert storage_step(FZ, frame, noise, config()) == pytest.approx(0.75)
    finer = config(**{"output.quantize_sigma": 0.1})
    assert storage_step(FZ, frame, noise, finer) == pytest.approx(0.3)
    given = resolve_noise(frame, config(**{"noise.sigma": 2.0}))
    assert storage_step(FZ, frame, given, config()) == pytest.approx(0.5)
    law = {"noise.gain_e_per_dn": 1.0, "noise.read_noise_e": 0.0, "noise.pedestal_dn": 0.0}
    counting = resolve_noise(frame, config(**law))
    quiet = np.percentile(frame.read(slice(None), slice(None)).science, 10)
    assert storage_step(FZ, frame, counting, config()) == pytest.approx(quiet**0.5 / 4, rel=0.01)


def test_pixels_are_stored_exactly_where_nothing_asks_for_steps(source):
    frame = open_frame(source)
    noise = resolve_noise(frame, config())
    assert storage_step(Path("out.fits"), frame, noise, config()) is None
    assert storage_step(Path("out.fits.gz"), frame, noise, config()) is None
    assert storage_step(FZ, frame, noise, config(**{"output.quantize_sigma": 0.0})) is None
    unknown = NoiseModel(NoiseKind.NONE, "asked for", correlation=WHITE)
    assert storage_step(FZ, frame, unknown, config()) is None
    assert storage_step(FZ, frame, replace(unknown), config()) is None
    filled = config(**{"task.name": "inpaint"})  # known pixels stay as they are
    assert storage_step(FZ, frame, noise, filled) is None
    filled = config(**{"task.name": "inpaint", "task.denoise_known": True})
    assert storage_step(FZ, frame, noise, filled) == pytest.approx(0.75)


def test_masked_pixels_say_nothing_of_the_step(source):
    law = {"noise.gain_e_per_dn": 1.0, "noise.read_noise_e": 0.0, "noise.pedestal_dn": 0.0}
    wanted = [
        storage_step(FZ, frame, resolve_noise(frame, config(**more)), config())
        for frame in [open_frame(source)]
        for more in ({}, law)
    ]
    with fits.open(source, mode="update") as hdus:
        hdus["SCI"].data[:16], hdus["ERR"].data[:16] = 1.0, 0.01
        flags = np.zeros((64, 80), "u1")
        flags[:16] = 1
        hdus.append(fits.ImageHDU(flags, name="DQ"))
    frame = open_frame(source)
    for more, step in zip(({}, law), wanted, strict=True):
        noise = resolve_noise(frame, config(**more))
        assert storage_step(FZ, frame, noise, config()) == pytest.approx(step, rel=0.02)


def test_the_step_is_that_of_the_usual_window_and_none_where_nothing_is_seen(source, monkeypatch):
    frame = open_frame(source)
    noise = resolve_noise(frame, config())
    rows = slice(0, 64)
    parts = [(rows, slice(first, first + 20)) for first in (0, 20, 60)]
    monkeypatch.setattr(quantising, "fit_windows", lambda *_, **__: parts)
    assert storage_step(FZ, frame, noise, config()) == pytest.approx(0.75)
    with fits.open(source, mode="update") as hdus:
        hdus["SCI"].data[:, 20:60] = np.nan
    frame = open_frame(source)
    monkeypatch.setattr(quantising, "fit_windows", lambda *_, **__: [(rows, slice(20, 60))])
    assert storage_step(FZ, frame, noise, config()) is None


def test_a_product_is_compressed_by_that_step_and_says_so(source, monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)
    plain, packed = source.with_name("a.fits"), source.with_name("a.fits.fz")
    restore_frame(str(source), plain, config())
    restore_frame(str(source), packed, config())
    with fits.open(plain) as old, fits.open(packed) as new:
        apart = np.abs(new["SCI"].data - old["SCI"].data)
        assert 0.3 < apart.max() <= 0.375 * 1.0001
        assert new["SCI"].header["DIPQSTEP"] == pytest.approx(0.75)
        assert "DIPQSTEP" not in old["SCI"].header
        np.testing.assert_array_equal(new["DIP_FLAG"].data, old["DIP_FLAG"].data)
    assert restore_frame(str(source), packed, config()).status == "already done"


@pytest.mark.parametrize(
    ("steps", "wanted"), [((0.5, 0.25), 0.25), ((0.5, None), None), ((None, None), None)]
)
def test_planes_of_one_hdu_are_stored_as_the_finest_of_them(steps, wanted):
    planes = tuple(SimpleNamespace(planes=SimpleNamespace(step=step)) for step in steps)
    assert RestoredHdu(1, (2, 9, 9), [], planes, []).step == wanted
