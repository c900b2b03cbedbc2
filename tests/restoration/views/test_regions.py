"""Regions in sky sigma: the noise of a pixel is that of the light that fell on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.regions import measure_sky, prepare

SHAPE = StarShape(a=0.14, b=0.0, d=0.14, beta=3.0)
GAIN, READ_NOISE_E, PEDESTAL_DN = 2.0, 6.0, 300.0
SIDES = (72, 96)


def starry(sky_dn=80.0):
    """Nine stars on a sky, over a pedestal, DN."""
    rows, cols = np.indices(SIDES, dtype=np.float64)
    level = np.full(SIDES, PEDESTAL_DN + sky_dn)
    for row, col in np.ndindex(3, 3):
        level += (1500 + 500 * row) * SHAPE.at(rows - 24 * row - 12.3, cols - 30 * col - 17.8)
    return level


def sigma_dn(level_dn):
    """Of a detector: photons of the light above the pedestal, and read noise."""
    return np.sqrt((level_dn - PEDESTAL_DN) * GAIN + READ_NOISE_E**2) / GAIN


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_is_that_of_all_the_light_also_where_stars_were_taken_off(problem, law, seed):
    level = starry()
    noisy = level + sigma_dn(level) * np.random.default_rng(seed).standard_normal(SIDES)
    noise = law.sensor(gain=GAIN, read_noise=READ_NOISE_E, pedestal=PEDESTAL_DN)
    asked = problem(noisy, noise)
    scale = measure_sky([asked])
    region = prepare(asked, scale)
    assert len(region.shown_stars.places) == 9
    truth = torch.from_numpy((level - scale.level) / scale.sigma).float()[None, None]
    expected = sigma_dn(level) / scale.sigma
    off = region.noise.sigma(truth - region.stars)[0, 0].numpy()
    np.testing.assert_allclose(off, expected, rtol=0.01)
    whole = region.with_shown_stars()
    np.testing.assert_allclose(whole.noise.sigma(truth)[0, 0].numpy(), expected, rtol=0.01)
    assert float(whole.stars.abs().max()) < 1e-3
    given = (noisy - scale.level) / scale.sigma
    np.testing.assert_allclose(whole.observed[0, 0].numpy(), given, atol=1e-2)
    np.testing.assert_allclose(
        (region.observed + region.stars)[0, 0].numpy(), given, atol=1e-2, rtol=1e-3
    )


def test_a_pixel_is_not_held_for_surer_because_its_own_noise_made_it_fainter(problem, law):
    """An error plane is often made from the very counts whose error it tells."""
    counts = np.random.default_rng(3).poisson(30.0, SIDES).astype(np.float64)
    asked = problem(counts, law.error_plane, error=np.sqrt(counts + 1).astype(np.float32))
    region = prepare(asked, measure_sky([asked]))
    both = np.corrcoef(region.sigma.ravel(), region.observed.ravel())[0, 1]
    assert abs(both) < 0.1
    assert float(region.sigma.median()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("held", [1e6, -1e6, np.nan])
def test_what_masked_pixels_hold_is_nowhere_in_a_region(problem, law, held):
    level = starry()
    masked = np.zeros(SIDES, bool)
    masked[34:37, 44:50] = masked[:, 80] = True
    noise = law.sensor(gain=GAIN, read_noise=READ_NOISE_E, pedestal=PEDESTAL_DN)
    options = FitOptions(steps=2)
    planes = []
    for value in (0.0, held):
        pixels = level + sigma_dn(level) * np.random.default_rng(1).standard_normal(SIDES)
        pixels[masked] = value
        asked = problem(pixels, noise, masked=masked, options=options)
        region = prepare(asked, measure_sky([asked]))
        planes.append(torch.cat([region.observed, region.sigma, region.stars, region.noise.floor]))
    assert torch.equal(*planes)


def test_of_two_frames_each_crop_has_the_noise_of_its_own(problem, law):
    """See `CropSource`; the sky of one is ten times as deep as that of the other."""
    regions = []
    for number, gain in enumerate([1.0, 10.0]):
        rng = np.random.default_rng(number)
        asked = problem(rng.poisson(50 * gain, SIDES) / gain, law.counts(gain=gain))
        region = prepare(asked, measure_sky([asked]))
        own = torch.full_like(region.observed, float(number))
        covariance = torch.full_like(region.covariance, float(number))
        regions.append(replace(region, observed=own, covariance=covariance))
    zones = [torch.ones_like(region.trusted) for region in regions]
    batch = CropSource(regions, zones, np.random.default_rng(1)).draw(12)
    seen = set()
    for crop in range(12):
        number = int(batch.observed[crop, 0, 0, 0])
        seen.add(number)
        noise = regions[number].noise
        assert float(batch.noise.slope[crop]) == pytest.approx(noise.slope)
        assert float(batch.noise.dark_level[crop]) == pytest.approx(noise.dark_level)
        assert float(batch.covariance[crop].mean()) == number
    assert seen == {0, 1}
