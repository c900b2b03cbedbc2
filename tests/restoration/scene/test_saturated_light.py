"""Around saturated pixels a PSF brings light whose source is not known: it is told of."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.restoration.scene.saturated_light import SaturatedLight
from dip_pipeline.restoration.stars.hidden_stars import nothing_hidden
from dip_pipeline.restoration.views import regions
from dip_pipeline.simulate import DetectorOptions, MoffatPsf
from dip_pipeline.task import Task

SIDE = 48
LIMIT = 5000.0


def psf_of(factor, reach_px=9):
    offsets = np.arange(-reach_px, reach_px + 1.0)
    light = MoffatPsf(3.0 * factor).density(offsets[:, None], offsets[None, :])
    return (light / light.sum()).astype(np.float32)


@pytest.fixture(params=[1, 2])
def clipped(request, problem, law):
    """A problem of an even sky and one star that is clipped."""
    rng = np.random.default_rng(4)
    offsets = np.arange(SIDE) - 24.0
    level = 200 + 4e5 * MoffatPsf(3.0).density(offsets[:, None], offsets[None, :])
    observed = level + DetectorOptions().sigma_dn(level) * rng.standard_normal(level.shape)
    saturated = observed > LIMIT
    assert 4 < saturated.sum() < 60
    asked = problem(
        np.where(saturated, LIMIT, observed).astype(np.float32),
        law.sensor(),
        options=FitOptions(steps=3, views=2, task=Task.DECONVOLVE),
        optics=Optics(request.param, psf_of(request.param), summed=False),
    )
    return replace(asked, saturated=saturated)


def in_the_dark(clipped, seed=6):
    """The same clipped pixels, and sky that shows nothing of their star."""
    rng = np.random.default_rng(seed)
    sky = 200 + DetectorOptions().sigma_dn(np.array(200.0)) * rng.standard_normal((SIDE, SIDE))
    pixels = np.where(clipped.saturated, clipped.pixels, sky.astype(np.float32))
    return replace(clipped, pixels=pixels)


@pytest.mark.parametrize("nebula", [0.0, 1000.0])
def test_it_is_as_much_as_the_pixels_around_show_of_it_and_no_other_light(clipped, nebula):
    pixels = np.where(clipped.saturated, LIMIT, clipped.pixels + np.float32(nebula))
    factor = clipped.optics.factor
    wide = Optics(factor, psf_of(factor, 12 * factor), summed=False)
    asked = replace(clipped, pixels=pixels.astype(np.float32), optics=wide)
    near = SaturatedLight.around(asked, 200.0)
    offsets = (np.arange(SIDE * factor) + 0.5) / factor - 0.5 - 24.0
    star = 4e5 * MoffatPsf(3.0).density(offsets[:, None], offsets[None, :])
    away = np.hypot(offsets[:, None], offsets[None, :])
    around = ~near.too_much & (away < 9.0)
    assert around.any()
    assert np.median(near.light[around] / star[around]) == pytest.approx(1.0, abs=0.4)


def test_it_is_as_much_as_the_psf_brings_of_what_they_hold_at_least(clipped):
    """As much as that where the pixels around show no more."""
    near = SaturatedLight.around(in_the_dark(clipped), 200.0)
    factor = clipped.optics.factor
    whole = (LIMIT - 200) * np.count_nonzero(clipped.saturated) * factor**2
    assert near.light.sum() == pytest.approx(whole, rel=0.01)
    assert near.too_much[24 * factor, 24 * factor]
    assert not near.too_much[:4].any()


def test_nothing_can_be_claimed_where_a_hundredth_of_the_light_would_be_theirs(clipped):
    factor, psf = clipped.optics.factor, clipped.optics.psf.astype(np.float64)
    sources = np.kron(clipped.saturated, np.ones((factor, factor)))
    share = ndimage.convolve(sources, psf, mode="constant")
    near = SaturatedLight.around(in_the_dark(clipped), 200.0)
    told = np.abs(share - 0.01) > 1e-6
    np.testing.assert_array_equal(near.too_much[told], (share > 0.01)[told])


def test_noise_of_the_pixels_around_makes_it_no_more(clipped):
    """Of pixels that hold hardly more than the sky they would show anything."""
    faint = np.where(clipped.saturated, np.float32(230.0), clipped.pixels)
    whole = 30.0 * np.count_nonzero(clipped.saturated) * clipped.optics.factor**2
    for seed in range(12):
        dark = in_the_dark(replace(clipped, pixels=faint), seed)
        near = SaturatedLight.around(dark, 200.0)
        assert near.light.sum() == pytest.approx(whole, rel=0.01)


def test_of_pixels_without_a_number_it_is_that_of_the_others(clipped):
    first = tuple(np.argwhere(clipped.saturated)[0])
    pixels = clipped.pixels.copy()
    pixels[first] = np.nan
    near = SaturatedLight.around(in_the_dark(replace(clipped, pixels=pixels)), 200.0)
    whole = (LIMIT - 200) * (np.count_nonzero(clipped.saturated) - 1) * clipped.optics.factor**2
    assert near.light.sum() == pytest.approx(whole, rel=0.01)
    assert near.light.min() >= 0


def test_there_is_none_without_a_psf_and_without_saturated_pixels(clipped):
    assert SaturatedLight.around(replace(clipped, optics=Optics(2)), 200.0) is None
    nothing = np.zeros_like(clipped.saturated)
    assert SaturatedLight.around(replace(clipped, saturated=nothing), 200.0) is None


def test_pixels_that_it_rules_are_of_low_confidence_and_claim_no_error(clipped):
    result, factor = restore_scene(clipped), clipped.optics.factor
    saturated = result.flags == PixelFlag.SATURATED
    unsure = result.flags == PixelFlag.LOW_CONFIDENCE
    assert saturated.sum() == clipped.saturated.sum() * factor**2
    assert unsure.sum() > 2 * saturated.sum()
    np.testing.assert_array_equal(np.isnan(result.error), unsure | saturated)
    assert not unsure[: 4 * factor].any()
    assert np.isfinite(result.science).all()


def test_farther_out_it_widens_the_error(clipped, monkeypatch):
    """The less the farther; where the clipped star itself is found, nothing is claimed as far."""
    monkeypatch.setattr(regions, "find_hidden_stars", lambda light, *_: nothing_hidden(light.shape))
    result, factor = restore_scene(clipped), clipped.optics.factor
    row = result.error[24 * factor]
    claimed = row[np.isfinite(row)]
    assert claimed.max() > 2 * np.median(result.error[: 4 * factor])
