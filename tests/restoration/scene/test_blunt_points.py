"""Faint light that one point would explain may be one: the scene errs by what it is unlike it."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.blunt_points import Sighting, error_of_blunt_points
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import DetectorOptions, MoffatPsf
from dip_pipeline.task import Task

SIDE, PLACE, SKY = 48, (23.3, 24.2), 0.4
FAINT, BRIGHT = 110.0, 2000.0  # fluxes, sky sigmas: a S/N of about 13, and of 200


def optics_of(factor):
    offsets = np.arange(-12.0 * factor, 12.0 * factor + 1)
    light = MoffatPsf(4.5 * factor).density(offsets[:, None], offsets[None, :])
    return Optics(factor, (light / light.sum()).astype(np.float32), summed=False)


def apart_px(factor=1):
    rows, cols = ((np.arange(SIDE * factor) + 0.5) / factor - 0.5 - at for at in PLACE)
    return np.hypot(rows[:, None], cols[None, :])


def gaussian(flux, fwhm_px, factor=1):
    sigma_px = fwhm_px / 2.355
    return flux * np.exp(-0.5 * (apart_px(factor) / sigma_px) ** 2) / (2 * np.pi * sigma_px**2)


def star(flux, factor):
    return gaussian(flux, 2.355 * TARGET_SIGMA_PX / factor, factor)


def sighting_of(light):
    noise = np.random.default_rng(3).standard_normal((SIDE, SIDE))
    return Sighting(SKY + light + noise, np.ones((SIDE, SIDE)), np.ones((SIDE, SIDE), bool))


def seen(flux):
    rows, cols = (np.arange(SIDE) - at for at in PLACE)
    return flux * MoffatPsf(4.5).density(rows[:, None], cols[None, :])


@pytest.mark.parametrize("factor", [1, 2])
def test_a_faint_star_left_wide_is_covered(factor):
    blunt = SKY + gaussian(FAINT, 3.5, factor)
    error = error_of_blunt_points(blunt, sighting_of(seen(FAINT)), optics_of(factor))
    off = np.abs(blunt - SKY - star(FAINT, factor))
    core = apart_px(factor) < 1.6 / factor
    assert 0.7 < np.median(error[core]) / np.median(off[core]) < 2.5
    assert not error[apart_px(factor) > 8].any()


def test_of_a_star_as_sharp_as_it_can_be_its_noise_is_told():
    sighting, optics = sighting_of(seen(FAINT)), optics_of(1)
    sharp = error_of_blunt_points(SKY + star(FAINT, 1), sighting, optics)
    blunt = error_of_blunt_points(SKY + gaussian(FAINT, 3.5), sighting, optics)
    peak = tuple(round(at) for at in PLACE)
    assert 0 < sharp[peak] < 0.6 * blunt[peak]


def test_light_that_is_wider_than_a_point_is_left_alone():
    wide = gaussian(BRIGHT, 7.0)
    assert not error_of_blunt_points(SKY + wide, sighting_of(wide), optics_of(1)).any()


def test_of_an_empty_or_unknown_sky_or_without_a_psf_nothing_is_told():
    sky = sighting_of(np.zeros((SIDE, SIDE)))
    assert not error_of_blunt_points(np.full((SIDE, SIDE), SKY), sky, optics_of(1)).any()
    faint = sighting_of(seen(FAINT))
    none = replace(faint, known=np.zeros((SIDE, SIDE), bool))
    assert not error_of_blunt_points(np.full((SIDE, SIDE), SKY), none, optics_of(1)).any()
    assert not error_of_blunt_points(np.full((SIDE, SIDE), SKY), faint, Optics()).any()


def test_the_error_of_a_scene_covers_a_faint_star(problem, law):
    sigma_dn = float(DetectorOptions().sigma_dn(np.array(200.0)))
    light = 200.0 + sigma_dn * (sighting_of(seen(FAINT)).light - SKY)
    asked = problem(
        light.astype(np.float32),
        law.sensor(),
        options=FitOptions(steps=1, views=1, task=Task.DECONVOLVE),
        optics=optics_of(1),
    )
    restored = restore_scene(asked)
    off = np.abs(restored.science - 200.0 - sigma_dn * star(FAINT, 1))[apart_px() < 1.6]
    error = restored.error[apart_px() < 1.6]
    assert np.sqrt(np.mean((off / error) ** 2)) < 1.5
