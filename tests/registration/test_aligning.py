"""Laws of the last fraction of a pixel: all light of two exposures, brought together."""

import numpy as np
import pytest

from dip_pipeline.registration.aligning import align
from dip_pipeline.registration.geometry import Geometry
from dip_pipeline.registration.stars import Cleaned

_WIDTH_PX = 4.2
_SHIFT_PX = (-1.0, 0.6)


def _clump(seed, shift_px=(0.0, 0.0), *, peak=6.0, level=0.0, lone=0.0):
    """A clump of faint wide stars in a noise of one; some lone pixels are not to be used."""
    rng, side = np.random.default_rng(7), 192
    rows, cols = np.indices((side, side)).astype(float)
    places, heights = rng.normal(side / 2, 22, (90, 2)), rng.exponential(1, 90)
    light = np.zeros((side, side))
    for (row, col), height in zip(places, heights, strict=True):
        away = (rows - row - shift_px[0]) ** 2 + (cols - col - shift_px[1]) ** 2
        light += height * np.exp(-away / 2 / _WIDTH_PX**2)
    light *= peak / light.max()
    rng = np.random.default_rng(seed)
    light += level + rng.normal(0, 1, light.shape)
    return Cleaned(light, rng.random(light.shape) < lone, 0.0, 1.0)


@pytest.mark.parametrize("seed", [3, 5])
def test_another_level_of_the_sky_does_not_make_all_light_unlike(seed):
    """Held against a scale alone, what is bright was unlike, and the scale fell to nothing."""
    exposure = _clump(seed, (1.0, -0.6), peak=3.5, level=0.6)
    found = align(exposure, _clump(seed + 100, peak=3.5), Geometry(), _WIDTH_PX)
    assert found.error_px < 0.4
    np.testing.assert_allclose(found.geometry.shift_px, _SHIFT_PX, atol=3 * found.error_px)


@pytest.mark.parametrize("seed", range(3))
def test_many_lone_pixels_that_are_not_to_be_used_hardly_cost_wide_stars_their_place(seed):
    errors = []
    for lone in (0.0, 0.04):
        exposure = _clump(seed, (1.0, -0.6), lone=lone)
        found = align(exposure, _clump(seed + 100, lone=lone), Geometry(), _WIDTH_PX)
        np.testing.assert_allclose(found.geometry.shift_px, _SHIFT_PX, atol=3 * found.error_px)
        errors.append(found.error_px)
    assert errors[1] < 1.2 * errors[0]


def test_a_hole_is_left_out_with_its_surroundings():
    """What it is filled with lies elsewhere."""
    exposure, reference = _clump(1, (1.0, -0.6)), _clump(101)
    exposure.light[80:110, 80:110] = 8.0
    exposure.unusable[80:110, 80:110] = True
    found = align(exposure, reference, Geometry(), _WIDTH_PX)
    np.testing.assert_allclose(found.geometry.shift_px, _SHIFT_PX, atol=3 * found.error_px)
