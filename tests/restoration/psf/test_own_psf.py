"""The PSF that a frame's stars show is the one that they were drawn with."""

import numpy as np
import pytest

from dip_pipeline.restoration.psf import own_psf
from dip_pipeline.restoration.psf.own_psf import StarField, measure_psf
from dip_pipeline.restoration.stars.star_shape import AS_GAUSSIANS, StarShape, fit_bright_stars

SIDE_PX = 192
REACH_PX = 18
MIDDLES = (np.arange(5) - 2) / 5  # of the fifths of a pixel


def moffat(rows, cols):
    return StarShape(0.10, 0.01, 0.14, 3.0).profile(rows, cols)


def coma(rows, cols):
    return moffat(rows, cols) + 0.4 * moffat((rows - 1.4) / 1.5, (cols - 0.9) / 1.5)


def donut(rows, cols):
    radius = np.hypot(rows, cols)
    return np.exp(-0.5 * (radius - 2.2) ** 2) + 0.02 * (1 + (radius / 4) ** 2) ** -2.5


def narrow(rows, cols):
    """FWHM 0.8 px: 0.8 % of its light falls beyond 3 px."""
    return (1 + (rows**2 + cols**2) / 0.5) ** -2.3


def drawn(profile, away, reach_px, factor=1):
    """Light of pixels around a star, of which so many make one along an axis."""
    offsets = np.arange(-reach_px, reach_px + 1, dtype=float)
    rows, cols = (offsets - shift for shift in away)
    return sum(
        profile((rows[:, None] + down) / factor, (cols[None, :] + across) / factor)
        for down in MIDDLES
        for across in MIDDLES
    )


def field(profile, seed, *, stars=40, faintest=3.0, side_px=SIDE_PX):
    rng = np.random.default_rng(seed)
    light = np.zeros((side_px + 2 * REACH_PX,) * 2)
    total = drawn(profile, (0, 0), 60).sum()
    for _ in range(stars):
        place = rng.uniform(0, side_px - 1, 2)
        row, col = np.round(place).astype(int)
        stamp = drawn(profile, place - np.round(place), REACH_PX) / total
        light[row : row + 2 * REACH_PX + 1, col : col + 2 * REACH_PX + 1] += (
            10 ** rng.uniform(faintest, 5) * stamp
        )
    light = light[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    sigma = np.sqrt(light + 125.0)
    return StarField(
        light + sigma * rng.standard_normal(light.shape), sigma, np.ones(light.shape, bool)
    )


def measured(seen, factor=1):
    fitted = fit_bright_stars(seen.light, seen.sigma, seen.trusted, most=60, most_beta=AS_GAUSSIANS)
    return measure_psf(seen, fitted, factor=factor)


@pytest.fixture
def undoubted(monkeypatch):
    """Without the doubt, which takes three measurements more and leaves the PSF as it is."""
    monkeypatch.setattr(own_psf, "_FEWEST_TO_HALVE", 10**6)


def misplaced(profile, found, factor=1):
    """Share of the light that lies elsewhere, centres of both laid on each other."""
    reach = found.kernel.shape[0] // 2
    away = np.zeros(2)
    for _ in range(4):
        truth = drawn(profile, away, reach, factor)
        core = np.where(truth > 0.02 * truth.max(), truth, 0)
        offsets = np.arange(-reach, reach + 1)
        away -= np.array([core.sum(1) @ offsets, core.sum(0) @ offsets]) / core.sum()
    return 0.5 * np.abs(found.kernel - truth / truth.sum()).sum()


@pytest.mark.parametrize(
    ("profile", "factor", "most"),
    [(moffat, 1, 0.01), (moffat, 2, 0.01), (coma, 1, 0.025), (donut, 2, 0.018)],
)
@pytest.mark.usefixtures("undoubted")
def test_the_light_of_a_star_lies_where_the_psf_has_it(profile, factor, most):
    found = measured(field(profile, 1, stars=28), factor)
    assert found.stars >= 8
    assert found.kernel.sum() == pytest.approx(1)
    assert misplaced(profile, found, factor) < most


@pytest.mark.usefixtures("undoubted")
def test_neighbours_and_masked_pixels_do_not_come_into_it():
    seen = field(moffat, 2, stars=220, faintest=1.5)
    broken = np.random.default_rng(3).uniform(size=seen.light.shape) < 0.002
    light = np.where(broken, 1e6, seen.light)
    found = measured(StarField(light, seen.sigma, ~broken))
    assert misplaced(moffat, found) < 0.01


def light_beyond_4_px(profile, found):
    """Light of the wings over what there is."""
    reach = found.kernel.shape[0] // 2
    truth, offsets = drawn(profile, (0, 0), reach), np.arange(-reach, reach + 1)
    far = np.hypot(offsets[:, None], offsets[None, :]) > 4
    return found.kernel[far].sum() / (truth[far].sum() / truth.sum())


@pytest.mark.usefixtures("undoubted")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_where_every_star_has_bright_neighbours_its_wings_are_kept(seed):
    """With neighbours in it, 0.93 of the wings, and 0.0093 to 0.0100 of the light misplaced."""
    found = measured(field(moffat, seed, stars=210, faintest=3.0))
    assert light_beyond_4_px(moffat, found) > 0.95
    assert misplaced(moffat, found) < 0.0075


@pytest.mark.usefixtures("undoubted")
@pytest.mark.parametrize("factor", [1, 3])
def test_wings_of_stars_narrower_than_a_pixel_are_kept(factor):
    """Of an image that ends at 4 FWHM, 4 px, their light was in the core: 0.6 to 0.8 % too much."""
    found = measured(field(narrow, 5, stars=28), factor)
    reach = found.kernel.shape[0] // 2
    truth, offsets = drawn(narrow, (0, 0), factor * 40, factor), np.arange(-reach, reach + 1)
    inside = slice(factor * 40 - 3 * factor, factor * 40 + 3 * factor + 1)
    core = np.abs(offsets) <= 3 * factor
    seen = found.kernel[np.ix_(core, core)].sum()
    assert seen == pytest.approx(truth[inside, inside].sum() / truth.sum(), abs=0.003)


@pytest.mark.usefixtures("undoubted")
def test_what_is_masked_does_not_matter_at_all():
    seen = field(moffat, 8, stars=14, faintest=4.0)
    bright = fit_bright_stars(seen.light, seen.sigma, seen.trusted, most=60, most_beta=AS_GAUSSIANS)
    kernels = []
    for ghost in (0.3, -0.3):
        light, trusted = seen.light.copy(), seen.trusted.copy()
        for star in bright:
            row, col = star.at
            beside = slice(row - 1, row + 2), slice(col + 7, col + 10)
            light[beside] += ghost * star.height
            trusted[beside] = False
        kernels.append(measured(StarField(light, seen.sigma, trusted)).kernel)
    np.testing.assert_array_equal(*kernels)


@pytest.mark.usefixtures("undoubted")
def test_beyond_the_edge_there_is_nothing_as_under_a_mask():
    seen = field(moffat, 9, stars=30, faintest=4.0)
    stars = fit_bright_stars(seen.light, seen.sigma, seen.trusted, most=60, most_beta=AS_GAUSSIANS)
    end = min(star.at[1] for star in stars if star.at[1] > SIDE_PX // 2) + 9
    masked = seen.trusted.copy()
    masked[:, end:] = False
    cut = StarField(seen.light[:, :end], seen.sigma[:, :end], seen.trusted[:, :end])
    at_edge, at_mask = (measured(one) for one in (cut, StarField(seen.light, seen.sigma, masked)))
    assert at_edge.stars == at_mask.stars
    np.testing.assert_allclose(at_edge.kernel, at_mask.kernel, atol=1e-9)


def test_galaxies_of_one_width_in_all_directions_are_no_stars():
    def galaxy(angle):
        def profile(rows, cols):
            along = np.cos(angle) * rows + np.sin(angle) * cols
            across = np.cos(angle) * cols - np.sin(angle) * rows
            return moffat(along, 2 * across)

        return profile

    each = [
        field(galaxy(angle), 10 + n, stars=3, faintest=4.5) for n, angle in enumerate((0, 1, 2))
    ]
    light = sum(one.light for one in each)
    assert measured(StarField(light, 2 * each[0].sigma, each[0].trusted)) is None


@pytest.mark.parametrize(
    ("profile", "stars"), [(moffat, 14), pytest.param(coma, 24, marks=pytest.mark.slow)]
)
def test_it_is_told_how_well_it_is_known(profile, stars):
    found = measured(field(profile, 4, stars=stars))
    assert 0.4 < found.doubt / misplaced(profile, found) < 1.6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_neighbours_do_to_all_stars_alike_is_in_it(seed):
    """Halves of the stars agree on it: they tell 0.56 of it."""
    found = measured(field(moffat, seed, stars=300, faintest=2.0, side_px=320))
    assert 0.7 < found.doubt / misplaced(moffat, found) < 1.4


def test_too_few_stars_tell_nothing():
    assert measured(field(moffat, 7, stars=3, faintest=4.5)) is None
