"""Laws of areas where every pixel is one number: masked where that is no light, else left."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter, rotate

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.blank_areas import without_blanks
from dip_pipeline.preparing.planning import settle_frame

SIDE_PX = 160
SHAPE = (SIDE_PX, SIDE_PX)
ROWS, COLS = np.indices(SHAPE)
WHOLE = [(slice(0, SIDE_PX), slice(0, SIDE_PX))]


@pytest.fixture
def masked_in(tmp_path):
    def made(pixels, cast="f4"):
        path = tmp_path / "frame.fits"
        fits.writeto(path, pixels.astype(cast), overwrite=True)
        return without_blanks(open_frame(str(path)), WHOLE)

    return lambda *of: made(*of).read(*WHOLE[0]).masked


def sky(level, sigma=12.0, seed=1):
    stars = np.zeros(SHAPE)
    stars[tuple(np.random.default_rng(seed).integers(0, SIDE_PX, (2, 40)))] = 5e3
    noise = np.random.default_rng(seed + 1).normal(0, sigma, SHAPE)
    return level + gaussian_filter(stars, 1.2) + noise


def gaps():
    return (abs(COLS - 60) < 4) | (abs(ROWS - 90) < 6) | (COLS > 150)


def corners():
    return rotate(np.ones(SHAPE), 30, reshape=False, order=0) == 0


@pytest.mark.parametrize("area", [gaps(), corners()], ids=["gaps", "corners"])
@pytest.mark.parametrize("level", [0.0, 200.0])
@pytest.mark.parametrize("cast", ["f4", "i2"])
def test_gaps_and_edges_of_a_mosaic_are_masked(area, level, cast, masked_in, caplog):
    found = masked_in(np.where(area, 0, sky(level)), cast)
    assert np.mean(found[area]) > 0.99
    assert np.mean(found[~area]) < 0.005  # whole numbers beside them may be 0 by chance
    assert "where every pixel is 0" in caplog.text


def test_dead_pixels_of_the_same_number_do_not_hide_them(masked_in):
    pixels = np.where(gaps(), 0, sky(200.0))
    pixels[np.random.default_rng(5).random(SHAPE) < 0.05] = 0
    assert masked_in(pixels)[gaps()].all()


def moon():
    """Cut off at zero; nothing is darker than a sky without noise."""
    limb = gaussian_filter(200.0 * (np.hypot(ROWS - 80, COLS - 80) < 50), 1.2)
    return np.clip(np.rint(limb + np.random.default_rng(3).normal(0, 0.1 * limb**0.5)), 0, 255)


def clipped():
    stars = sky(200.0)
    stars[100:106, 100:106] = stars.max() + 1e3
    stars[40:52, 30:36] = stars.max()
    return gaussian_filter(stars, 1.0).clip(None, 300.0)


def few_counts():
    return np.random.default_rng(4).poisson(0.02, SHAPE).astype(float)


def whole_numbers(level=100.0):
    return np.rint(np.random.default_rng(7).normal(level, 0.25, SHAPE))


@pytest.mark.parametrize(
    "pixels",
    [
        sky(200.0),
        sky(0.0),
        moon(),
        clipped(),
        few_counts(),
        few_counts() / 1234.5,
        whole_numbers(),
        whole_numbers() / 1234.5,
        whole_numbers(0.0),
        np.repeat(np.repeat(np.rint(sky(200.0)[:20, :20]), 8, 0), 8, 1),
        np.full(SHAPE, 3.0),
    ],
    ids=[
        *("sky", "sky subtracted", "moon", "clipped stars", "few counts", "a second of them"),
        *("whole numbers", "scaled", "about zero", "pixels drawn larger", "nothing"),
    ],
)
def test_even_light_is_left(pixels, masked_in, caplog):
    assert not masked_in(pixels).any()
    assert not caplog.text


def test_a_region_is_masked_as_the_whole_frame_is(tmp_path):
    fits.writeto(tmp_path / "frame.fits", np.where(corners(), 0, sky(200.0)).astype("f4"))
    frame = without_blanks(open_frame(str(tmp_path / "frame.fits")), WHOLE)
    part = np.s_[3:61, 100:157]
    np.testing.assert_array_equal(frame.read(*part).masked, frame.read(*WHOLE[0]).masked[part])


@pytest.mark.parametrize("task", ["denoise", "inpaint"])
def test_known_pixels_of_inpainting_and_of_pictures_stay(task, tmp_path):
    fits.writeto(tmp_path / "frame.fits", np.where(gaps(), 0, sky(200.0)).astype("f4"))
    law = {"noise.law": "none", "fit.input": "code"} if task == "denoise" else {"noise.sigma": 12.0}
    config = RunConfig().with_overrides(**law | {"task.name": task})
    frame, _ = settle_frame(open_frame(str(tmp_path / "frame.fits")), config)
    assert not frame.read(*WHOLE[0]).masked.any()
