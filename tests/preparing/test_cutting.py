"""Laws of cutting problems out of frames: what is bad, and what is saturated."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.cutting import ExposureSource, ProblemSource
from dip_pipeline.registration import Geometry
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions, InputKind
from dip_pipeline.restoration.restore import restore
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.task import Task

LIMIT = 60000.0
ALL = slice(0, 32), slice(0, 32)


@pytest.fixture
def frame(tmp_path):
    """Clipped cores of stars, without an error, and a dead block of the largest number there is."""
    pixels = np.full((32, 32), 100.0, np.float32)
    pixels[4:6, 4:6] = LIMIT
    pixels[20:23, 20:25] = 65535.0
    pixels[10, 10:12] = LIMIT
    dead = (pixels == 65535.0).astype(np.uint8)
    error = np.where(pixels == LIMIT, np.float32(0), np.float32(5))

    def written(**cards):
        primary = fits.PrimaryHDU(header=fits.Header(cards))
        hdus = [primary, fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU(dead, name="DQ")]
        hdus.append(fits.ImageHDU(error, name="ERR"))
        fits.HDUList(hdus).writeto(tmp_path / "a.fits")
        return open_frame(tmp_path / "a.fits")

    return written


def problem_of(frame):
    noise = NoiseModel(NoiseKind.GAUSSIAN, "test", sigma=Sourced(5.0, "DN", "test"))
    source = ProblemSource(frame, noise, FitOptions(), LIMIT, "cpu", 1)
    return source.problem(ALL, seed=1)


def exposure_of(frame):
    noise = NoiseModel(NoiseKind.NONE, "test")
    geometry = Geometry(matrix=((1.0, 0.0), (0.0, 1.0)), shift_px=(0.0, 0.0))
    return ExposureSource(frame, noise, LIMIT, geometry, 1.0, 0.0).exposure(ALL)


@pytest.mark.parametrize("cut", [problem_of, exposure_of])
def test_pixels_that_flags_call_bad_are_bad_whatever_they_hold(frame, cut):
    found = cut(frame(TELESCOP="JWST", INSTRUME="NIRCAM"))
    assert found.masked[20:23, 20:25].all()
    assert not found.saturated[20:23, 20:25].any()
    assert found.saturated[4:6, 4:6].all()
    assert found.saturated.sum() == 4 + 2
    assert found.masked.sum() == 15


@pytest.mark.parametrize("cut", [problem_of, exposure_of])
def test_where_flags_do_not_tell_bad_from_saturated_the_value_does(frame, cut):
    found = cut(frame())
    assert not found.masked.any()
    assert found.saturated.sum() == 15 + 4 + 2


def spiky(folder):
    """A sky with stars of FWHM 1.5 px, and a hot pixel, a track and a dead pixel between them."""
    rows, cols = np.indices((64, 64)) % 16 - 7.7
    light = 3e3 * 0.5 ** (4 * (rows**2 + cols**2) / 1.5**2)
    pixels = 100 + light + np.random.default_rng(2).normal(0, 5, light.shape)
    spikes = np.zeros(light.shape, bool)
    for place in [(31, 31), (15, 30), (16, 31), (17, 32), (47, 16)]:
        spikes[place] = True
    pixels[spikes] = [4e3, 900.0, 2e3, 400.0, -400.0]
    pixels[48, 33:36] = [np.nan, 4e3, 100.0]  # beside what is not known it may be anything
    fits.writeto(folder / "a.fits", pixels.astype(np.float32))
    return open_frame(folder / "a.fits"), spikes, pixels


@pytest.mark.parametrize(
    ("options", "kind", "kept"),
    [
        (FitOptions(), NoiseKind.GAUSSIAN, True),
        (FitOptions(task=Task.INPAINT), NoiseKind.GAUSSIAN, False),
        (FitOptions(input=InputKind.CODE), NoiseKind.NONE, False),
    ],
)
def test_what_is_sharper_than_light_is_kept_and_tells_nothing_of_others(
    tmp_path, options, kind, kept
):
    frame, spikes, _ = spiky(tmp_path)
    sigma = None if kind is NoiseKind.NONE else Sourced(5.0, "DN", "test")
    source = ProblemSource(frame, NoiseModel(kind, "test", sigma=sigma), options, None, "cpu", 1)
    found = source.problem((slice(0, 64), slice(0, 64)), seed=1)
    assert (found.kept is not None) is kept
    if kept:
        np.testing.assert_array_equal(found.kept, spikes)
        np.testing.assert_array_equal(found.masked & np.isfinite(found.pixels), spikes)
        part = source.problem((slice(8, 56), slice(8, 56)), seed=1)
        np.testing.assert_array_equal(part.kept, spikes[8:56, 8:56])


@pytest.mark.parametrize("each", [True, False])
def test_beside_others_what_is_sharper_than_light_tells_nothing_of_them(tmp_path, each):
    """Exposures that are restored for themselves share hot pixels where they are not dithered."""
    frame, spikes, _ = spiky(tmp_path)
    noise = NoiseModel(NoiseKind.GAUSSIAN, "test", sigma=Sourced(5.0, "DN", "test"))
    geometry = Geometry(shift_px=(0.0, 0.0))
    other = ExposureSource(frame, noise, None, geometry, 1.0, 0.0)
    options = FitOptions(task=Task.COMBINE)
    source = ProblemSource(
        frame, noise, options, None, "cpu", 1, optics=None if each else Optics(), exposures=(other,)
    )
    found = source.problem((slice(0, 64), slice(0, 64)), seed=1)
    for cut in (found, found.exposures[0]):
        known = np.isfinite(cut.pixels)
        np.testing.assert_array_equal(cut.masked & known, spikes if each else spikes & False)
    assert (found.kept is not None) is each


@pytest.mark.parametrize("plane", [True, False])
def test_what_is_kept_comes_back_as_it_was_observed(tmp_path, plane):
    """With the noise that its own light has, and without a flag."""
    frame, spikes, pixels = spiky(tmp_path)
    gain, read = (Sourced(value, unit, "test") for value, unit in ((2.0, "e/DN"), (8.0, "e")))
    sensor = Sensor(gain_e_per_dn=gain, read_noise_e=read)
    noise = NoiseModel(NoiseKind.POISSON_GAUSSIAN, "test", sensor=sensor)
    source = ProblemSource(frame, noise, FitOptions(input=InputKind.CODE, steps=2), None, "cpu", 1)
    problem = source.problem((slice(0, 64), slice(0, 64)), seed=1)
    own = np.sqrt(np.maximum(pixels, 0) / 2 + 16).astype(np.float32)
    if plane:
        problem = replace(
            problem, error=own, noise=NoiseModel(NoiseKind.GAUSSIAN, "test", from_error_plane=True)
        )
    restored = restore(problem)
    np.testing.assert_array_equal(restored.science[spikes], pixels[spikes].astype(np.float32))
    np.testing.assert_allclose(restored.error[spikes], own[spikes], rtol=1e-3)
    assert not restored.flags[spikes].any()
    assert restored.outcome.kept_pixels == spikes.sum()
    assert (restored.flags[~spikes & np.isfinite(pixels)] == 0).all()
