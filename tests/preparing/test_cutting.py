"""Laws of cutting problems out of frames: what is bad, and what is saturated."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.cutting import ExposureSource, ProblemSource
from dip_pipeline.registration import Geometry
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced

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
