"""Stars that an observation shows well, as they are in its scene: the same light, seen sharper."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.optics import Optics
from dip_pipeline.restoration.scene_optics import TARGET_FWHM_PX, scene_optics
from dip_pipeline.restoration.scene_shown import in_scene
from dip_pipeline.restoration.shown_stars import find_shown_stars
from dip_pipeline.restoration.star_shape import StarShape

SHAPE = StarShape(a=0.09, b=0.005, d=0.085, beta=3.2)
SIDE_PX = 64
STARS = np.array([[200.0, 20.3, 41.8], [90.0, 44.0, 18.5], [500.0, 47.6, 47.2]])


def psf():
    """The stars' own light in the middle of 25 x 25 pixels, sum 1."""
    offsets = np.arange(-12.0, 13.0)
    light = SHAPE.at(offsets[:, None], offsets[None, :])
    return (light / light.sum()).astype(np.float32)


def observed(seed=0):
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = sum(height * SHAPE.at(rows - row, cols - col) for height, row, col in STARS)
    return light + np.random.default_rng(seed).standard_normal(light.shape)


def shown(optics):
    frame = observed()
    ones = np.ones_like(frame)
    stars = find_shown_stars(frame, ones, ones > 0, SHAPE)
    return stars, in_scene(stars, SHAPE, optics), frame


OPTICS = [Optics(factor=2), Optics(factor=3), Optics(factor=1, psf=psf())]


@pytest.mark.parametrize("optics", OPTICS, ids=["x2", "x3", "deconvolve"])
def test_the_scene_shows_what_was_observed(optics):
    stars, scene, _ = shown(optics)
    missed = scene.light - stars.light
    assert np.abs(missed).max() < 0.02 * stars.light.max()
    assert scene.light.sum() == pytest.approx(stars.light.sum(), rel=0.01)
    light, _ = scene.scene
    seen = scene_optics(optics).observe(torch.from_numpy(light)[None, None])[0, 0].numpy()
    assert np.allclose(seen, scene.light)


def test_a_deconvolved_star_is_as_narrow_as_the_target():
    _, scene, _ = shown(OPTICS[2])
    light, _ = scene.scene
    half = (light[35:60, 35:60] > 0.5 * light[35:60, 35:60].max()).sum()
    assert half == pytest.approx(np.pi * (TARGET_FWHM_PX / 2) ** 2, abs=1.5)


@pytest.mark.parametrize("optics", OPTICS, ids=["x2", "x3", "deconvolve"])
def test_the_scene_changes_as_its_observation_does(optics):
    """A star moves, and its scene with it, however many of its pixels make one."""
    _, scene, frame = shown(optics)
    left = torch.from_numpy(frame - scene.light)[None, None]
    step = 0.3 * torch.from_numpy(np.random.default_rng(3).standard_normal(frame.shape))
    change = scene.change(left + step) - scene.change(left)
    fine = scene.change_of_scene(left + step) - scene.change_of_scene(left)
    seen = scene_optics(optics).observe(fine)
    assert float((seen - change).std()) < 0.1 * float(change.std())
