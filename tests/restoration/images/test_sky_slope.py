"""A slope of the sky is found where there is one, under sources too, and nowhere else."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.hole_errors import distance_px
from dip_pipeline.restoration.images.refilling import fill_again
from dip_pipeline.restoration.images.sky_slope import sky_slope

SHAPE = (128, 112)
STEP_PX = 4


def plane_of(values):
    return torch.from_numpy(np.asarray(values, np.float32))[None, None]


def medians_of(sky):
    blocks = sky.reshape(SHAPE[0] // STEP_PX, STEP_PX, SHAPE[1] // STEP_PX, STEP_PX)
    return plane_of(np.median(blocks.transpose(0, 2, 1, 3).reshape(*blocks.shape[::2], -1), axis=2))


def noise_and_sources(seed=1):
    """Noise of 0.2 sigma, and sources that cover a fifth of the sky."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(SHAPE)
    light = 0.2 * rng.standard_normal(SHAPE)
    for _ in range(30):
        row, col = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1])
        apart = (rows - row) ** 2 + (cols - col) ** 2
        light += rng.uniform(5, 100) * np.exp(-apart / (2 * rng.uniform(1.2, 3) ** 2))
    return light


@pytest.mark.parametrize("bend", [0.0, 15.0])
def test_a_slope_is_found_under_sources(bend):
    down, across = (index / side for index, side in zip(np.indices(SHAPE), SHAPE, strict=True))
    sloping = 10 * down - 4 * across + bend * down * across
    found = sky_slope(medians_of(sloping + noise_and_sources()), SHAPE, STEP_PX)
    assert found is not None
    np.testing.assert_allclose(found[0, 0].numpy(), sloping, atol=0.6)


@pytest.mark.parametrize("seed", range(4))
def test_sources_and_noise_alone_are_no_slope(seed):
    assert sky_slope(medians_of(noise_and_sources(seed)), SHAPE, STEP_PX) is None


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_two_levels_of_amplifiers_are_no_slope(axis, share):
    beyond = np.indices(SHAPE)[axis] >= share * SHAPE[axis]
    assert sky_slope(medians_of(8.0 * beyond + noise_and_sources()), SHAPE, STEP_PX) is None


def test_a_lonely_galaxy_or_nebula_is_no_slope():
    rows, cols = np.indices(SHAPE)
    galaxy = 40 * np.exp(-np.hypot(rows - 40, (cols - 60) / 0.6) / 15)
    cloud = 5 * np.sin(rows / 17) * np.cos(cols / 23)
    for light in (galaxy, cloud):
        assert sky_slope(medians_of(light + noise_and_sources()), SHAPE, STEP_PX) is None


def test_a_slope_ends_where_nothing_is_known():
    medians = medians_of(0.1 * np.indices(SHAPE)[0] + noise_and_sources())
    medians[..., 16:, :] = torch.nan
    found = sky_slope(medians, SHAPE, STEP_PX)
    assert found is not None
    assert float(found.max()) < 0.1 * 64 + 0.5


def test_few_places_tell_of_no_slope():
    medians = torch.full((1, 1, 32, 28), torch.nan)
    medians[0, 0, :2, :20] = torch.arange(20.0)
    assert sky_slope(medians, SHAPE, STEP_PX) is None


def test_a_wide_hole_in_a_sloping_sky_is_filled_with_the_slope():
    rows, cols = np.indices(SHAPE)
    sloping = 0.25 * rows + 0.001 * cols**2
    known = np.ones(SHAPE, bool)
    known[40:80, 40:80] = False  # within
    known[:, -20:] = False  # and at the edge
    away = distance_px(known)
    seen = plane_of(np.where(known, sloping + noise_and_sources(), 0.0))
    filled = fill_again(seen, plane_of(known), torch.zeros_like(seen), plane_of(away))
    np.testing.assert_array_equal(filled[0, 0].numpy()[known], seen[0, 0].numpy()[known])
    missed = np.abs(filled[0, 0].numpy() - sloping)[away > 8]
    assert np.median(missed) < 0.3
    assert np.quantile(missed, 0.9) < 1.5
