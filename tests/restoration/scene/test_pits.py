"""Where a scene is darker than its frame's light can be, no light looks like the frame: told of."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.pits import beside_pits
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import DetectorOptions, MoffatPsf
from dip_pipeline.task import Task

SIDE = 48
PATCH = (slice(20, 28), slice(20, 28))


def psf_of(factor):
    offsets = np.arange(-9.0, 10.0)
    light = MoffatPsf(3.0 * factor).density(offsets[:, None], offsets[None, :])
    return (light / light.sum()).astype(np.float32)


def asked_of(problem, law, level, factor=1, steps=3):
    rng = np.random.default_rng(4)
    observed = level + DetectorOptions().sigma_dn(level) * rng.standard_normal(level.shape)
    return problem(
        observed.astype(np.float32),
        law.sensor(),
        options=FitOptions(steps=steps, views=2, task=Task.DECONVOLVE),
        optics=Optics(factor, psf_of(factor), summed=False),
    )


@pytest.fixture(params=[1, 2])
def sky(request, problem, law):
    """A problem of an even sky of 200 DN."""
    return asked_of(problem, law, np.full((SIDE, SIDE), 200.0), request.param)


def scene_of(asked, value):
    side = SIDE * asked.optics.factor
    return np.full((side, side), float(value)), np.full((side, side), 5.0)


def test_a_scene_as_dark_as_the_frame_has_no_pits(sky):
    science, error = scene_of(sky, 200.0)
    science[10, 10] -= 5 * error[10, 10]
    assert beside_pits(science, error, sky) is None


def test_a_pit_rules_as_far_as_the_psf_takes_its_light(sky):
    science, error = scene_of(sky, 200.0)
    factor = sky.optics.factor
    there = tuple(slice(20 * factor, 21 * factor) for _ in range(2))
    science[there] -= 100
    beside = beside_pits(science, error, sky)
    rows, cols = np.indices(science.shape) / factor
    away = np.hypot(rows - 20, cols - 20)
    assert beside[away <= 1.5].all()
    assert not beside[away > 6].any()


def test_pixels_that_are_not_known_make_the_frame_no_darker(sky):
    """Smoothed over holes it would be: and no scene too dark for it."""
    masked = np.random.default_rng(3).random((SIDE, SIDE)) < 0.3
    science, error = scene_of(sky, 200.0)
    science[30:32, 30:32] -= 90
    assert beside_pits(science, error, replace(sky, masked=masked)) is not None


def test_where_no_error_is_claimed_and_without_a_psf_there_are_none(sky):
    science, error = scene_of(sky, 200.0)
    science[20, 20], error[20, 20] = 0.0, np.nan
    assert beside_pits(science, error, sky) is None
    error[20, 20] = 1.0
    assert beside_pits(science, error, sky) is not None
    assert beside_pits(science, error, replace(sky, optics=Optics(2))) is None


def test_a_dark_cloud_of_a_nebula_is_no_pit(problem, law):
    """Seen through the PSF it is shallower than it is; here 2000 DN of 2600."""
    rows, cols = np.indices((SIDE, SIDE))
    cloud = np.exp(-((rows - 20) ** 2 + (cols - 20) ** 2) / 8)
    asked = asked_of(problem, law, 5200 - 2000 * cloud)
    science, error = 5200 - 2600 * cloud, np.full((SIDE, SIDE), 5.0)
    assert beside_pits(science, error, asked) is None


@pytest.mark.parametrize("patch_dn", [500.0, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_wide_patch_that_no_light_makes_claims_no_error_and_is_told(problem, law, patch_dn):
    """Hot or dead, eight pixels wide, named by no mask; whatever the PSF allows elsewhere stays."""
    asked = asked_of(problem, law, np.full((SIDE, SIDE), 200.0), steps=30)
    pixels = asked.pixels.copy()
    pixels[PATCH] = pixels[PATCH] + 300 if patch_dn else 0.0
    result = restore_scene(replace(asked, pixels=pixels))
    unsure = result.flags == PixelFlag.LOW_CONFIDENCE
    assert unsure[PATCH].all()
    np.testing.assert_array_equal(np.isnan(result.error), unsure)
    assert not unsure[:10].any()
    assert np.isfinite(result.science).all()
    assert result.outcome.doubted_pixels == unsure.sum()


def test_of_an_even_sky_no_pixel_is_doubted(problem, law):
    asked = asked_of(problem, law, np.full((SIDE, SIDE), 200.0), steps=10)
    assert restore_scene(asked).outcome.doubted_pixels == 0


def test_a_star_beyond_the_edge_claims_no_error_beside_it_and_is_told(problem, law):
    """Its middle is 2 px outside: nothing in the frame, mirrored at its edge, rises like that."""
    rows, cols = np.indices((SIDE, SIDE))
    star = MoffatPsf(3.0).density(rows - 24.0, cols + 2.5)
    result = restore_scene(asked_of(problem, law, 200 + 3e5 * star, steps=10))
    unsure = np.isnan(result.error)
    assert unsure[22:27, :3].all()
    assert not unsure[:, 12:].any()
    assert result.outcome.doubted_pixels == unsure.sum()
