"""By how much stars are wider in one exposure than in another: measured, whatever their profile."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration import register, see
from dip_pipeline.simulate import (
    GALAXY,
    STAR,
    MoffatPsf,
    Scene,
    SceneOptions,
)

_SHAPE = (256, 256)


def _stars(count):
    rng = np.random.default_rng(2)
    stars = np.zeros(count, STAR)
    stars["row"], stars["col"] = rng.uniform(5, 251, (2, count))
    stars["flux_dn"] = 10 ** rng.uniform(3, 4.6, count)
    return stars


def _seen(*, fwhm_px=2.4, blurred_px=0.0, seed=0, count=90):
    """Expose the same stars; blurred by a Gaussian before noise comes in."""
    options = SceneOptions(
        shape=_SHAPE, seed=seed, psf=MoffatPsf(fwhm_px), sky_dn=200.0, saturated_star=False
    )
    level = Scene(options, _stars(count), np.zeros(0, GALAXY)).render()
    if blurred_px:
        level = gaussian_filter(level, blurred_px)
    noise = np.random.default_rng(seed).standard_normal(_SHAPE) * np.sqrt(level / 2 + 9)
    pixels = (level + noise).astype(np.float32)
    return see("exposure", pixels, np.zeros(_SHAPE, bool))


@pytest.mark.parametrize("blurred_px", [0.5, 0.9, 1.5])
def test_the_gaussian_between_two_exposures_is_found(blurred_px):
    sharp, broad = _seen(seed=1), _seen(blurred_px=blurred_px, seed=2)
    found = register(broad, sharp)
    assert found.wider_px2 == pytest.approx(blurred_px**2, rel=0.12)
    assert register(sharp, broad).wider_px2 == pytest.approx(-found.wider_px2, rel=0.02)
    assert "; stars wider by FWHM" in found.seeing_words


def test_the_same_seeing_is_none():
    found = register(_seen(seed=1), _seen(seed=3))
    assert found.wider_px2 == 0.0
    assert found.seeing_words == ""


def test_a_wider_profile_is_told_in_gaussians():
    """Between Moffat profiles of 2.4 and 3.2 px lies nearly a Gaussian of their difference."""
    found = register(_seen(fwhm_px=3.2, seed=4), _seen(seed=1))
    assert found.wider_px2 == pytest.approx((3.2**2 - 2.4**2) / 2.3548**2, rel=0.3)


def test_few_stars_tell_nothing():
    few = register(_seen(blurred_px=0.9, seed=2, count=3), _seen(seed=1, count=3))
    assert few.wider_px2 == 0.0


@pytest.mark.parametrize("seen", [{"blurred_px": 0.9}, {"blurred_px": 1.5}, {"fwhm_px": 3.2}])
def test_the_light_of_wider_stars_is_the_same(seen):
    """An aperture holds less of it: 3 to 10 % were taken for a thinner sky."""
    broad, sharp = _seen(**seen, seed=2), _seen(seed=1)
    assert register(broad, sharp).flux_scale == pytest.approx(1.0, abs=0.01)
    assert register(sharp, broad).flux_scale == pytest.approx(1.0, abs=0.01)


def test_a_thinner_sky_is_told_beside_another_seeing():
    thin = see("exposure", 0.8 * _seen(blurred_px=0.9, seed=2).pixels, np.zeros(_SHAPE, bool))
    assert register(thin, _seen(seed=1)).flux_scale == pytest.approx(0.8, rel=0.01)
