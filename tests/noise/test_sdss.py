"""The noise of an SDSS frame, rebuilt from what its file holds."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.frames import open_frame
from dip_pipeline.noise.sdss import numbers_of, with_sdss_noise
from dip_pipeline.preparing.planning import settle_frame

ALL = slice(None)
SHAPE = (120, 160)
GAIN, DARK = 4.72, 1.3225  # of CCD r3


def write(path, cards=None, sky_rows=SHAPE[0]):
    """A frame made the way round that the survey's pipeline goes: counts, sky, calibration."""
    rng = np.random.default_rng(1)
    rows, cols = np.indices(SHAPE)
    sky = 150.0 + 10.0 * cols / SHAPE[1]
    light = 400.0 * np.exp(-((rows - 60) ** 2 + (cols - 80) ** 2) / 200.0)
    dn = rng.poisson((sky + light) * GAIN) / GAIN + rng.normal(0, DARK**0.5, SHAPE)
    calibration = 0.005 * (1 + 0.05 * np.sin(np.arange(SHAPE[1]) / 9))
    image = (dn - sky) * calibration
    sigma = calibration * np.sqrt((sky + light) / GAIN + DARK)
    coarse = np.array([[150.0, 155.0, 160.0]] * 2)
    x = np.arange(SHAPE[1]) / SHAPE[1] * 2
    y = np.linspace(0, 1, sky_rows)
    columns = [
        fits.Column("ALLSKY", "6E", dim="(3,2)", array=coarse[None]),
        fits.Column("XINTERP", f"{len(x)}E", array=x[None]),
        fits.Column("YINTERP", f"{len(y)}E", array=y[None]),
    ]
    primary = fits.PrimaryHDU(image.astype("f4"))
    told = {"BUNIT": "nanomaggy", "RUN": 3918, "CAMCOL": 3, "FILTER": "r", **(cards or {})}
    primary.header.update(told)
    vector = fits.ImageHDU(calibration.astype("f4"))
    fits.HDUList([primary, vector, fits.BinTableHDU.from_columns(columns)]).writeto(path)
    return open_frame(path), sigma


def test_the_error_plane_is_that_of_the_counts(tmp_path):
    frame, sigma = write(tmp_path / "frame-r-003918-3-0213.fits")
    assert frame.layout == "SDSS frame"
    settled, noise = settle_frame(frame, RunConfig())
    assert noise.from_error_plane
    assert "SDSS" in noise.rung
    error = settled.read(ALL, ALL).error
    inner = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(np.median(error[inner] / sigma[inner]), 1.0, rtol=0.01)
    assert np.std(error[inner] / sigma[inner]) < 0.03


def test_a_region_has_the_errors_of_the_whole(tmp_path):
    frame = with_sdss_noise(write(tmp_path / "a.fits")[0])
    whole = frame.read(ALL, ALL).error
    part = frame.read(slice(50, 71), slice(33, 90)).error
    np.testing.assert_array_equal(part, whole[50:71, 33:90])


def test_some_numbers_changed_with_the_run():
    assert numbers_of(1000, 2, "u")[0] == 1.595
    assert numbers_of(1100, 2, "u")[0] == 1.825
    assert numbers_of(1499, 4, "z")[1] == 9.61
    assert numbers_of(1500, 4, "z")[1] == 12.6025
    assert numbers_of(5000, 3, "r") == (GAIN, DARK)


@pytest.mark.parametrize("cards", [{"CAMCOL": 9}, {"FILTER": "Y"}, {"RUN": "x"}])
def test_a_ccd_that_is_none_is_refused(tmp_path, cards):
    frame, _ = write(tmp_path / "a.fits", cards)
    with pytest.raises(FrameError, match="name no CCD of SDSS"):
        settle_frame(frame, RunConfig())


def test_a_sky_of_another_size_is_refused(tmp_path):
    frame, _ = write(tmp_path / "a.fits", sky_rows=99)
    with pytest.raises(FrameError, match="its sky is for 99 x 160 pixels"):
        settle_frame(frame, RunConfig())
