"""Laws of light that one exposure alone shows and no pixel tells: it is gone, nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from dip_pipeline.restoration.exposures.combining import combined
from dip_pipeline.restoration.exposures.faint_trails import faint_light
from tests.restoration.exposed import SKY, draw_sky, exposed, with_exposure
from tests.restoration.exposures.test_combining import _inside, _rejected

SIDE = 72
SIGMA = np.sqrt(SKY / 2 + 9)  # of a pixel of the sky


def beside(rows, cols):
    """Distance from a slanted line through the middle, pixels."""
    return (rows - SIDE / 2 - 0.3 * (cols - SIDE / 2)) / np.hypot(1, 0.3)


@pytest.mark.parametrize(
    ("peak", "width_px", "exposures", "most"),
    [(8, 1.9, 4, 0.08), (4, 1.9, 4, 0.09), (30, 1.9, 4, 0.07), (8, 1.9, 2, 0.15)],
)
def test_a_trail_is_gone_with_its_wings(peak, width_px, exposures, most):
    """Pixel by pixel 0.19, 0.38, 0.10, 0.47 sigma of an exposure were left beside it."""
    clean, _ = exposed((SIDE, SIDE), factor=1, sky=draw_sky((SIDE, SIDE), count=15, brightest=3e3))
    clean = replace(clean, exposures=clean.exposures[: exposures - 1])
    away_px = np.abs(beside(*np.indices(clean.pixels.shape)))
    trail = peak * SIGMA * np.exp(-(away_px**2) / (2 * width_px**2))
    pixels = (clean.exposures[0].pixels + trail).astype(np.float32)
    struck = with_exposure(clean, 1, pixels=pixels)
    left = (combined(struck).pixels - combined(clean).pixels) / SIGMA
    near, far = _inside(away_px) < 5, _inside(away_px) > 15
    assert abs(_inside(left)[near].mean()) < most
    assert np.abs(_inside(left)[far]).max() < 0.01


def plane(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)[None, None]


@pytest.fixture
def noise():
    return np.random.default_rng(3).standard_normal((SIDE, SIDE))


def found(off, room=0.0, usable=None, hit=None):
    none = np.zeros(off.shape, bool)
    usable = ~none if usable is None else usable
    hit = none if hit is None else hit
    planes = plane(off), plane(np.zeros(off.shape) + room)
    made = faint_light(*planes, plane(usable) > 0, plane(hit) > 0)
    return made[0, 0].numpy()


def test_of_noise_nothing_is_left_out(noise):
    assert not found(noise).any()


def test_one_pixel_alone_is_left_to_the_rule_of_pixels(noise):
    noise[30, 30] = 300.0
    assert not found(noise).any()


def test_light_below_the_noise_of_the_law_is_none_however_even_the_rest_is(noise):
    faint = np.where(np.abs(np.indices(noise.shape)[0] - 31) < 3, 0.25, 0.0)
    assert not found(0.05 * noise + faint).any()
    assert found(0.05 * noise + 8 * faint).any()


def test_where_a_source_may_be_off_noise_stands_out_no_more_than_elsewhere(noise):
    wide = ndimage.gaussian_filter(noise, 1.2, mode="wrap")
    assert not found(1.3 * wide / wide.std(), room=1.0).any()


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_nor_of_noise_that_hangs_together_and_is_larger_than_its_law(noise, times):
    whole = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    assert not found(times * whole).any()


def test_a_sky_that_is_not_quite_right_is_no_light(noise):
    rows, cols = np.indices(noise.shape) / SIDE
    assert not found(noise + 1.5 + 3 * (cols - rows)).any()


def test_what_a_source_may_be_off_is_no_light_and_twice_as_much_is(noise):
    away2 = ((np.indices(noise.shape) - SIDE / 2) ** 2).sum(axis=0)
    source = 3 * np.exp(-away2 / 18)
    assert not found(noise + source, room=source).any()
    assert found(noise + 2 * source, room=source)[SIDE // 2, SIDE // 2]


def test_a_cosmic_ray_takes_nothing_from_around_it(noise):
    hit = np.zeros(noise.shape, bool)
    hit[30, 30:34] = True
    assert not found(np.where(hit, 1e4, noise), hit=hit).any()


def test_light_beside_many_hits_is_theirs(noise):
    """Between them, where it is told by less than far from any."""
    hit = np.zeros(noise.shape, bool)
    hit[30:33, 20:50] = True
    glow = np.where(np.abs(np.indices(noise.shape)[0] - 31) < 4, 1.2, 0.0)
    glow[:, :20] = glow[:, 50:] = 0
    assert found(noise + glow, hit=hit)[[28, 29, 33, 34], 22:48].mean() > 0.6
    assert found(noise + glow, hit=hit)[:, :12].sum() == 0
    assert found(noise + glow, hit=hit)[36:40, 20:50].mean() < 0.1
    gap = np.ones(noise.shape, bool)
    gap[:, 30:32] = False
    assert not found(noise + glow, usable=gap, hit=hit & gap)[~gap].any()


def test_less_light_than_the_others_show_is_left_to_the_rule_of_pixels(noise):
    assert not found(noise - 4 * np.eye(SIDE) - 4 * np.eye(SIDE, k=1)).any()


def test_what_cannot_be_compared_is_not_judged(noise):
    usable = np.ones(noise.shape, bool)
    usable[20:50, 20:50] = False
    off = np.where(usable, noise, 50.0)
    assert not found(off, usable=usable).any()
    assert not found(np.full(noise.shape, 9.0), usable=np.zeros(noise.shape, bool)).any()


@pytest.mark.parametrize("scale", [1.01, 1.02])
def test_another_transparency_over_extended_light_is_no_trail(scale):
    rows, cols = np.indices((SIDE, SIDE))
    nebula = 4000 * np.exp(-((rows - 36) ** 2 + (cols - 36) ** 2) / (2 * 15**2))
    problem, _ = exposed((SIDE, SIDE), factor=1, sky=draw_sky((SIDE, SIDE), count=0))
    rng = np.random.default_rng(4)
    for number in range(4):
        level = SKY + nebula * (scale if number == 2 else 1.0)
        pixels = (level + np.sqrt(level / 2 + 9) * rng.standard_normal(level.shape)).astype("f4")
        problem = with_exposure(problem, number, pixels=pixels)
    rejected = _rejected(problem)
    assert rejected[2].mean() < 2 * max(0.001, *(rejected[n].mean() for n in (1, 3)))
