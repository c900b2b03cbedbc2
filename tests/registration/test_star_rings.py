"""Between stars of different seeing lie several Gaussians: wings and cores come right alike."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration import mixture_between, register, see
from dip_pipeline.registration.star_rings import star_rings
from dip_pipeline.simulate import MoffatPsf
from dip_pipeline.simulate.psf import add_star

_SIDE = 160


def _star(fwhm_px, side=81):
    star = np.zeros((side, side))
    add_star(star, (side // 2, side // 2), 1.0, psf=MoffatPsf(fwhm_px), oversample=1)
    return star


def _seen(fwhm_px, *, seed, count=40, light=1.0):
    """Expose the same stars; light : of the sky's clearness."""
    rng = np.random.default_rng(7)
    level = np.full((_SIDE, _SIDE), 200.0)
    for row, col, magnitude in zip(
        *rng.uniform(4, _SIDE - 4, (2, count)), rng.uniform(3, 5, count), strict=True
    ):
        psf = MoffatPsf(fwhm_px)
        add_star(level, (row, col), light * 10**magnitude, psf=psf, oversample=1)
    noise = np.random.default_rng(seed).standard_normal(level.shape) * np.sqrt(level / 2 + 9)
    return see("exposure", (level + noise).astype(np.float32), np.zeros(level.shape, bool))


def _through(mixture, star):
    return sum(share * (gaussian_filter(star, px) if px else star) for share, px in mixture)


@pytest.mark.parametrize(("sharp_px", "broad_px"), [(2.2, 3.0), (2.6, 3.6), (2.4, 2.8)])
def test_moffat_stars_become_those_of_another_seeing(sharp_px, broad_px):
    sharp, broad = _seen(sharp_px, seed=1), _seen(broad_px, seed=2)
    rings = register(broad, sharp).rings, register(sharp, sharp).rings
    mixture = mixture_between(rings[1], rings[0])
    assert sum(share for share, _ in mixture) == pytest.approx(1, abs=1e-4)
    wanted = _star(broad_px)
    away = np.hypot(*np.indices(wanted.shape) - np.array([[[40]], [[40]]]))

    def misplaced(told):
        made = _through(told, _star(sharp_px))
        grown = [(made - wanted)[away < radius].sum() for radius in (1, 2, 3, 4, 6, 9, 14)]
        return np.abs(grown).max()

    gaussian = ((1.0, register(broad, sharp).wider_px2 ** 0.5),)
    assert misplaced(mixture) < 0.011
    assert misplaced(mixture) < 0.5 * misplaced(gaussian)


@pytest.mark.parametrize(("own_px", "other_px"), [(2.2, 3.0), (3.0, 2.2), (3.6, 2.4)])
@pytest.mark.parametrize("light", [1.0, 0.85])
def test_wings_beyond_an_aperture_are_no_thinner_sky(own_px, other_px, light):
    """Two to three percent of the light of the wider stars was taken for clouds."""
    found = register(_seen(own_px, seed=1, light=light), _seen(other_px, seed=2))
    assert found.flux_scale == pytest.approx(light, rel=0.013)


def test_light_that_rings_lack_is_not_made_up_for():
    """It lies farther out, and was taken for sky."""
    rings = [register(_seen(px, seed=3), _seen(2.4, seed=2)).rings for px in (2.4, 3.2)]
    free = mixture_between(*rings)
    for ratio, total in ((1.02, 1 / 1.02), (0.99, 1 / 0.99), (1.5, 1.0)):
        told = mixture_between(*rings, ratio)
        assert sum(share for share, _ in told) == pytest.approx(total, rel=0.015)
        assert [px for _, px in told] == [px for _, px in free]


def test_few_stars_tell_nothing():
    rings = [
        register(_seen(px, seed=2, count=3), _seen(2.4, seed=1, count=3)).rings for px in (2, 3)
    ]
    assert not all(rings) or mixture_between(*rings) == ()


def test_rings_are_as_wide_on_the_sky_and_go_by_the_numbers_of_the_reference():
    seen = _seen(2.4, seed=1)
    own = np.arange(len(seen.stars))
    rings = star_rings(seen, own, own + 100, 2.4, 1.0)
    finer = star_rings(seen, own, own + 100, 4.8, 2.0)  # of a reference of half the pixels
    assert len(rings.numbers) > 4
    assert rings.numbers.min() >= 100
    np.testing.assert_array_equal(finer.numbers, rings.numbers)
    np.testing.assert_allclose(finer.light, rings.light)
    np.testing.assert_allclose(finer.sigmas_px, 2 * np.array(rings.sigmas_px))
    few = replace(rings, numbers=rings.numbers[:3], light=rings.light[:3])
    assert mixture_between(rings, few) == ()
    assert mixture_between(rings, rings) == ((1.0, 0.0),)


def test_rings_are_of_stars_that_are_whole_and_no_ring_is_cut_by_a_border():
    seen = _seen(2.4, seed=1)
    own = np.arange(len(seen.stars))
    rings = star_rings(seen, own, own, 1.8, 1.0)
    reach = 9 * 1.8
    kept = seen.stars.places[rings.numbers]
    assert len(kept) > 4
    assert kept.min() >= reach
    assert kept.max() <= _SIDE - 1 - reach
    assert seen.stars.places.min() < reach / 2  # otherwise this test guards nothing
    row, col = np.rint(kept[0]).astype(int)
    unusable = seen.cleaned.unusable.copy()
    unusable[row : row + 2, col] = True
    spoilt = replace(seen, cleaned=replace(seen.cleaned, unusable=unusable))
    left = star_rings(spoilt, own, own, 1.8, 1.0).numbers
    np.testing.assert_array_equal(left, rings.numbers[1:])


def test_light_is_smoothed_as_if_the_whole_exposure_were():
    seen = _seen(2.4, seed=1)
    own = np.arange(len(seen.stars))
    rings = star_rings(seen, own, own, 1.8, 1.0)
    plane = gaussian_filter(seen.cleaned.light, rings.sigmas_px[-1])
    for number, light in zip(rings.numbers, rings.light[:, -1], strict=True):
        away = np.hypot(*(np.indices(plane.shape) - seen.stars.places[number][:, None, None]))
        assert light.sum() == pytest.approx(plane[away < 9 * 1.8].sum(), rel=0.02)


def test_a_mixture_is_that_of_most_stars_in_whatever_unit_and_with_its_faint_wings():
    seen = _seen(2.4, seed=1)
    own = np.arange(len(seen.stars))
    sharp = star_rings(seen, own, own, 1.8, 1.0)
    widest = sharp.sigmas_px[-1]
    light = 0.988 * sharp.light[:, 2] + 0.012 * sharp.light[:, -1]
    broad = replace(sharp, light=np.repeat(light[:, None], 8, axis=1))
    assert mixture_between(sharp, broad) == ((0.988, sharp.sigmas_px[2]), (0.012, widest))
    hit = broad.light.copy()
    hit[1, 0, 4] *= 1.5
    told = {px: share for share, px in mixture_between(sharp, replace(broad, light=hit))}
    assert told[widest] == pytest.approx(0.012, abs=0.001)
    rough = hit * (1 + 0.05 * np.random.default_rng(3).standard_normal(hit.shape))
    many, few = (
        mixture_between(sharp, replace(broad, light=unit * rough, noise=0.01 * unit * broad.noise))
        for unit in (1.0, 1e3)
    )
    np.testing.assert_allclose(many, few, atol=1e-4)
