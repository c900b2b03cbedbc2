"""Laws of the level that a pixel's noise is taken at: that of the light there, and not its own."""

import numpy as np
import pytest

from dip_pipeline.sensor.smooth_level import level_for_noise, level_without
from dip_pipeline.simulate import MoffatPsf

WHOLE = (slice(None), slice(None))
SIDE, SKY, READ = 96, 15.0, 1.5


def sigmas(level):
    return np.sqrt(np.maximum(level, 0.0) / 2 + READ**2)


@pytest.fixture(scope="module", params=[2.0, 2.7, 4.0])
def stars(request):
    """Nine stars of S/N 100 and more, each off the middle of its pixel by another share."""
    rng = np.random.default_rng(3)
    rows, cols = np.indices((SIDE, SIDE), dtype=float)
    level, psf = np.full((SIDE, SIDE), SKY), MoffatPsf(request.param)
    for node in np.ndindex(3, 3):
        row, col = np.array(node) * 32 + 16 + rng.uniform(-0.5, 0.5, 2)
        level += 3e4 * psf.density(rows - row, cols - col)
    return level


def seen(level, seed=1):
    noise = sigmas(level) * np.random.default_rng(seed).standard_normal(level.shape)
    return (level + noise).astype(np.float32)


def test_the_noise_beside_cores_and_in_them_is_that_of_the_light_there(stars):
    good = np.ones(stars.shape, bool)
    ratio = sigmas(level_for_noise(seen(stars), good, WHOLE, sigmas)) / sigmas(stars)
    bright = stars > SKY + 30 * sigmas(SKY)
    faint = (stars > SKY + 5 * sigmas(SKY)) & ~bright
    assert np.mean(ratio[bright]) == pytest.approx(1.0, abs=0.16)
    assert np.std(ratio[bright]) < 0.12
    assert np.mean(ratio[faint]) == pytest.approx(1.0, abs=0.13)


def test_where_nothing_is_steep_the_level_is_the_mean_around(stars):
    even = seen(np.full_like(stars, SKY))
    good = np.ones(stars.shape, bool)
    found = level_for_noise(even, good, WHOLE, sigmas)
    assert np.mean(found == level_without(even, good)) > 0.9995


def test_no_level_holds_what_is_bad_or_the_pixel_itself(stars):
    observed, good = seen(stars), np.ones(stars.shape, bool)
    good[16, 17] = False
    spoiled = np.where(good, observed, np.float32(1e6))
    plain, changed = (level_for_noise(each, good, WHOLE, sigmas) for each in (observed, spoiled))
    np.testing.assert_array_equal(plain, changed)
    moved = observed.copy()
    moved[16, 16] += 500.0
    assert level_for_noise(moved, good, WHOLE, sigmas)[16, 16] == plain[16, 16]


def test_a_bad_pixel_darkens_none_beside_it():
    light = np.full((20, 20), 1000.0)
    good = np.ones(light.shape, bool)
    good[8:10, 8] = False
    found = level_for_noise(np.where(good, seen(light), np.nan), good, WHOLE, sigmas)
    np.testing.assert_allclose(found, light, atol=4 * sigmas(1000.0) / 8**0.5)
