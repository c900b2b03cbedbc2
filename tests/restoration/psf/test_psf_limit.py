"""No star at any place is sharper than its PSF allows; what is no light of the sky is."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.restoration.forward.gaussian_psf import gaussian_psf
from dip_pipeline.restoration.psf.psf_limit import PsfLimit

SIDE_PX = 96
SKY = 200.0


def stars(fwhm_px, seed, *, count=60, brightest=40_000.0):
    """Gaussian stars integrated over pixels, at any place in them, and Poisson noise."""
    rng = np.random.default_rng(seed)
    light = np.zeros((SIDE_PX * 5, SIDE_PX * 5))
    for row, col in rng.integers(40, SIDE_PX * 5 - 40, (count, 2)):
        light[row, col] += brightest * 10 ** rng.uniform(-3, 0)
    light = ndimage.gaussian_filter(light, 5 * fwhm_px / 2.3548, truncate=6)
    light = light.reshape(SIDE_PX, 5, SIDE_PX, 5).sum(axis=(1, 3)) * (fwhm_px / 1.2) ** 2
    return rng.poisson(light + SKY).astype(np.float64)


def look(observed, fwhm_px, factor=1):
    limit = PsfLimit.of(gaussian_psf(fwhm_px * factor), factor)
    known = np.ones(observed.shape, bool)
    return limit.too_sharp(observed, np.sqrt(np.maximum(observed, 1)), known)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("fwhm_px", [1.2, 2.0, 3.5, 5.0])
def test_stars_at_any_place_are_as_sharp_as_their_psf_allows(fwhm_px, factor):
    for seed in (1, 2):
        seen = look(stars(fwhm_px, seed), fwhm_px, factor)
        assert not seen.found.any()
        assert not seen.dark.any()


@pytest.mark.parametrize("fwhm_px", [1.2, 2.0, 3.5])
def test_so_they_are_beside_a_psf_that_is_three_tenths_too_wide(fwhm_px):
    assert not look(stars(fwhm_px, 3), 1.3 * fwhm_px).sharpest.any()


@pytest.mark.parametrize(("fwhm_px", "share"), [(1.2, 0.25), (2.0, 0.8), (3.5, 0.9)])
def test_cosmic_rays_are_found_as_points_and_as_tracks(fwhm_px, share):
    observed, rng = stars(fwhm_px, 4), np.random.default_rng(5)
    hit = np.zeros(observed.shape, bool)
    for _ in range(30):
        (row, col), angle = rng.integers(8, SIDE_PX - 8, 2), rng.uniform(0, np.pi)
        for step in range(rng.integers(1, 7)):
            hit[row + int(step * np.sin(angle)), col + int(step * np.cos(angle))] = True
    observed[hit] += rng.uniform(400, 4000, np.count_nonzero(hit))
    found = look(observed, fwhm_px).found
    assert (found & hit).sum() >= share * hit.sum()
    assert not (found & ~hit).any()


def test_a_dead_pixel_in_a_star_and_a_saturated_one_make_nothing_too_sharp():
    observed = stars(2.0, 6)
    peaks = np.argwhere(observed > 0.5 * observed.max())
    known = np.ones(observed.shape, bool)
    observed[tuple(peaks[0])] = 0.0
    known[tuple(peaks[-1])] = False
    limit = PsfLimit.of(gaussian_psf(2.0), 1)
    assert not limit.too_sharp(observed, np.sqrt(observed + 1), known).found.any()


def test_a_psf_that_is_a_point_allows_everything():
    observed = stars(2.0, 7)
    observed[40, 40] += 10_000
    point = np.zeros((3, 3))
    point[1, 1] = 1.0
    limit = PsfLimit.of(point, 1)
    known = np.ones(observed.shape, bool)
    assert not limit.too_sharp(observed, np.sqrt(observed), known).found.any()


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("fwhm_px", [2.0, 3.5])
def test_dead_columns_and_pixels_are_darker_than_all_sky_and_nothing_beside_them_is(
    fwhm_px, factor
):
    observed, dead = stars(fwhm_px, 7), np.zeros((SIDE_PX, SIDE_PX), bool)
    dead[:, 40] = True
    dead[tuple(np.random.default_rng(3).integers(2, SIDE_PX - 2, (2, 20)))] = True
    seen = look(np.where(dead, 0.0, observed), fwhm_px, factor)
    assert (seen.dark & dead).sum() > 0.9 * dead.sum()
    under_stars = dead & (observed > 10 * SKY)
    assert under_stars.any()
    assert seen.dark[under_stars].all()
    assert not (seen.dark & ~dead).any()


@pytest.mark.parametrize("fwhm_px", [2.0, 3.5])
def test_a_dust_cloud_that_the_psf_has_blurred_is_none(fwhm_px):
    rng = np.random.default_rng(8)
    light = np.full((SIDE_PX * 5, SIDE_PX * 5), 4000.0)
    for row, col in rng.integers(50, SIDE_PX * 5 - 50, (25, 2)):
        light[row - 4 : row + 5, col - 4 : col + 5] = 0.0  # as good as a point, and black
    light = ndimage.gaussian_filter(light, 5 * fwhm_px / 2.3548)
    light = light.reshape(SIDE_PX, 5, SIDE_PX, 5).mean(axis=(1, 3))
    seen = look(rng.poisson(light).astype(np.float64), fwhm_px)
    assert light.min() < 4000 - 15 * 4000**0.5
    assert not seen.dark.any()


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize(("fwhm_px", "share"), [(2.0, 0.3), (2.5, 0.2), (3.5, 0.13)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_pixel_of_a_bright_star_that_is_hot_or_insensitive_is_found(fwhm_px, share, factor, sign):
    """By that share of the star's peak, in its middle and beside it; and nothing else is."""
    observed, odd = stars(fwhm_px, 9, count=25, brightest=400_000.0), set()
    for star, (row, col) in enumerate(peaks_of(observed)):
        at = (row, col + star % 2)
        observed[at] += sign * share * observed[row, col]
        odd.add(at)
    found = set(zip(*np.nonzero(look(observed, fwhm_px, factor).found), strict=True))
    assert len(odd) >= 7
    assert found == odd


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("fwhm_px", [2.0, 2.5, 3.5])
def test_of_two_that_are_hot_side_by_side_in_a_bright_star_no_good_pixel_is_blamed(fwhm_px, share):
    """Of the row the good pixels at its ends explain most alone; they were masked, the hot kept."""
    for seed in (9, 10):
        observed, odd = stars(fwhm_px, seed, count=25, brightest=400_000.0), set()
        for row, col in peaks_of(observed):
            observed[row, [col, col + 1]] += share * observed[row, col]
            odd |= {(row, col), (row, col + 1)}
        found = set(zip(*np.nonzero(look(observed, fwhm_px).found), strict=True))
        assert not found - odd


def test_what_no_narrower_psf_makes_is_among_the_sharpest_on_the_sky_and_in_a_star():
    observed = stars(2.5, 12, count=12, brightest=400_000.0)
    star = tuple(peaks_of(observed)[0])
    observed[4, 50:52] += 5_000.0
    observed[star] *= 3.0
    found = set(zip(*np.nonzero(look(observed, 2.5).sharpest), strict=True))
    assert found == {(4, 50), (4, 51), star}


def test_peaks_are_those_of_what_shines():
    observed = stars(2.5, 12, count=12)
    peaks = look(observed, 2.5).peaks
    shining = observed > SKY + 1000
    brightest = observed >= ndimage.maximum_filter(observed, 5)
    assert np.count_nonzero(brightest & shining) >= 5
    np.testing.assert_array_equal(peaks & shining, brightest & shining)


def peaks_of(observed):
    highest = observed >= ndimage.maximum_filter(observed, 15)
    return np.argwhere(highest & (observed > 20_000))
