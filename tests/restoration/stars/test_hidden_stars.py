"""Stars under masked pixels: found by their wings, told from what is no star."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.restoration.stars import explained
from dip_pipeline.restoration.stars.common_shape import measure_shape
from dip_pipeline.restoration.stars.hidden_stars import find_hidden_stars
from dip_pipeline.restoration.stars.star_shape import (
    StarShape,
    fit_bright_stars,
    stars_of_each,
)
from dip_pipeline.restoration.stars.star_sheet import Sheet
from dip_pipeline.restoration.stars.star_trial import grid_px
from dip_pipeline.simulate import MoffatPsf

SHAPE = StarShape(a=0.14, b=0.02, d=0.11, beta=3.0)
SIDE_PX = 96


def field(*stars, seed=0, noise=1.0):
    """Stars of (row, col, height) in white noise of one sigma."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = sum(
        (height * SHAPE.at(rows - row, cols - col) for row, col, height in stars),
        np.zeros((SIDE_PX, SIDE_PX)),
    )
    return light, light + noise * np.random.default_rng(seed).standard_normal(light.shape)


def trail(width_px=8, top=44):
    trusted = np.ones((SIDE_PX, SIDE_PX), bool)
    trusted[top : top + width_px] = False
    return trusted


def drawn(observed, trusted, shape=SHAPE):
    return find_hidden_stars(observed, np.ones_like(observed), trusted, shape).light


def in_square(row, col, reach):
    trusted = np.ones((SIDE_PX, SIDE_PX), bool)
    trusted[row - reach : row + reach + 1, col - reach : col + reach + 1] = False
    return trusted


@pytest.mark.parametrize(("reach", "faintest"), [(1, 30.0), (2, 30.0), (4, 500.0)])
def test_the_error_of_hidden_light_is_as_large_as_it_is(reach, faintest):
    """Stars whose wings stand out around a hole, however little of the middle these tell.

    None is quite as wide as the others: of real frames they scatter by 1.5 %, and far out wings go
    by the sixth power of the width.
    """
    rng = np.random.default_rng(5)
    trusted = in_square(48, 48, reach)
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    ratios = []
    for seed in range(40):
        row, col = 48 + rng.uniform(-0.5, 0.5, 2)
        own = SHAPE.widened(np.exp(0.015 * rng.standard_normal()))
        light = faintest * 10 ** rng.uniform(0, 1.5) * own.at(rows - row, cols - col)
        observed = light + np.random.default_rng(seed).standard_normal(light.shape)
        found = find_hidden_stars(observed, np.ones_like(observed), trusted, SHAPE)
        assert not found.error[trusted].any()
        missed = (found.light - light)[~trusted]
        ratios.append(np.linalg.norm(missed) / np.linalg.norm(found.error[~trusted]))
    assert 0.5 < np.mean(np.array(ratios) < 1) < 0.9
    assert np.mean(np.array(ratios) < 3) > 0.9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("width", "height"), [(1.3, 100.0), (2.0, 100.0), (2.0, 200.0)])
def test_a_galaxy_with_a_hidden_core_is_as_bright_as_it_was(width, height, seed):
    """Of a width between those of stars and of the widest galaxies; it looks like none of them."""
    trusted = in_square(48, 48, 1)
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    galaxy = height * SHAPE.widened(width).at(rows - 48.2, cols - 47.9)
    observed = galaxy + np.random.default_rng(seed).standard_normal(galaxy.shape)
    assert np.abs(drawn(observed, trusted) - galaxy)[~trusted].max() < 0.1 * height + 3


def test_bright_hidden_stars_are_found_between_the_places_of_a_grid():
    rng = np.random.default_rng(5)
    trusted = in_square(48, 48, 1)
    missed = []
    for seed in range(20):
        place = 48 + rng.uniform(-0.5, 0.5, 2)
        light, observed = field((*place, 10 ** rng.uniform(2, 3)), seed=seed)
        missed.append(np.abs(drawn(observed, trusted) - light).max() / light.max())
    assert np.median(missed) < 0.012


def test_a_star_of_unknown_shape_is_not_drawn_but_may_be_there():
    trusted = in_square(48, 48, 1)
    light, observed = field((48.2, 47.9, 60.0))
    found = find_hidden_stars(observed, np.ones_like(observed), trusted, None)
    assert not found.light.any()
    assert not found.doubted[trusted].any()
    assert found.doubted.sum() == pytest.approx(light[~trusted].sum(), rel=0.5)


@pytest.mark.parametrize(("height", "offset_px", "most"), [(600.0, 0.3, 0.2), (200.0, -1.2, 0.6)])
def test_a_star_under_a_trail_is_known_from_its_wings(height, offset_px, most):
    trusted = trail()
    missed, hidden = [], []
    for seed in range(6):
        light, observed = field((47.5 + offset_px, 40.2, height), seed=seed)
        missed.append((drawn(observed, trusted) - light)[~trusted])
        hidden.append(light[~trusted])
    assert np.mean(np.square(missed)) < most**2 * np.mean(np.square(hidden))


def test_the_mean_of_all_stars_that_explain_the_wings_errs_less_than_the_likeliest(monkeypatch):
    """Over stars as they are: anywhere under the trail, many faint and few bright."""
    trusted = trail()
    rng = np.random.default_rng(11)
    stars = [
        (rng.uniform(44, 52), rng.uniform(30, 60), min(30 * rng.random() ** -1.5, 1000.0))
        for _ in range(80)
    ]

    def error():
        squares = []
        for seed, star in enumerate(stars):
            light, observed = field(star, seed=seed)
            squares.append(((drawn(observed, trusted) - light)[~trusted] ** 2).mean())
        return np.mean(squares)

    mean = error()
    monkeypatch.setattr(explained, "_SPREAD", (0.0, 1.0))
    assert mean < 0.95 * error()


def test_what_lies_under_the_mask_is_not_used():
    _, observed = field((47.4, 40.2, 300.0))
    trusted = trail()
    spoilt = np.where(trusted, observed, 1e6)
    np.testing.assert_array_equal(drawn(observed, trusted), drawn(spoilt, trusted))


def test_neighbours_are_told_apart():
    """A star of little wing under the trail, between two bright ones at its borders.

    Where it is not told from them, it is at least not drawn wrongly.
    """
    trusted = trail()
    misses = []
    for seed in range(20):
        light, observed = field(
            (47.5, 40.0, 300.0), (52.5, 45.0, 250.0), (39.0, 36.0, 400.0), seed=seed
        )
        missed = (drawn(observed, trusted) - light)[~trusted]
        misses.append(np.sqrt(np.mean(missed**2) / np.mean(light[~trusted] ** 2)))
    assert np.count_nonzero(np.array(misses) < 0.35) >= 7
    assert max(misses) < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_each_of_two_neighbours_that_are_not_believed_may_be_there(seed):
    light, observed = field((48.2, 45.5, 80.0), (48.1, 50.5, 70.0), seed=seed)
    trusted = in_square(48, 46, 2) & in_square(48, 50, 2)
    found = find_hidden_stars(observed, np.ones_like(observed), trusted, None)
    assert not found.light.any()
    assert not found.doubted[trusted].any()
    for col in (46, 50):
        assert found.doubted[48, col] == pytest.approx(light[48, col], rel=0.7)


@pytest.mark.parametrize("seed", range(4))
def test_a_galaxy_under_a_trail_is_not_drawn_as_a_star(seed):
    """Wings at both borders look like those of a star whose unseen middle is ten times brighter."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    galaxy = 25 * SHAPE.widened(2.2).at(rows - 47.6, cols - 40.3)
    observed = galaxy + field(seed=seed)[1]
    assert drawn(observed, trail()).max() < 2 * galaxy.max()


def test_two_stars_with_a_wing_on_each_side_are_seldom_one_between_them():
    trusted = trail()
    brightness = []
    for seed in range(9):
        light, observed = field((45.0, 40.5, 60.0), (50.3, 39.8, 25.0), seed=seed)
        brightness.append(drawn(observed, trusted).max() / light.max())
    assert np.median(brightness) < 1.5


def test_a_star_just_outside_of_the_frame_is_known_by_what_shows_of_it():
    trusted = trail()
    missed, hidden = [], []
    for seed in range(6):
        light, observed = field((45.5, -0.8, 400.0), seed=seed)
        missed.append((drawn(observed, trusted) - light)[~trusted])
        hidden.append(light[~trusted])
    assert np.mean(np.square(missed)) < 0.1 * np.mean(np.square(hidden))


def test_stars_that_no_hole_is_near_are_left_in_the_frame():
    _, observed = field((20.0, 20.0, 500.0), (80.0, 70.0, 300.0))
    assert not drawn(observed, trail()).any()


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_stars(seed):
    _, observed = field(seed=seed)
    assert not drawn(observed, trail()).any()


def test_smooth_light_under_a_trail_is_no_star():
    clouds = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((96, 96)), 8.0)
    _, noise = field(seed=3)
    assert not drawn(40 * clouds / clouds.std() + noise, trail()).any()


def test_a_whole_frame_hides_nothing_and_an_empty_one_shows_nothing():
    _, observed = field((47.5, 40.0, 300.0))
    whole = np.ones_like(observed, bool)
    assert not drawn(observed, whole).any()
    assert not drawn(observed, ~whole).any()


def test_a_saturated_star_is_known_by_its_halo():
    light, observed = field((30.2, 30.7, 2e4))
    trusted = light < 2e3
    found = drawn(observed, trusted)
    ring = trusted & (light > 20)
    assert np.sqrt(np.mean((found - light)[ring] ** 2)) < 0.05 * np.sqrt(np.mean(light[ring] ** 2))


def places(count, seed=1):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([12, 30, 48, 66, 84], [12, 30, 48, 66, 84]), axis=-1)
    return grid.reshape(-1, 2)[:count] + rng.uniform(-0.5, 0.5, (count, 2))


def shape_of(observed, trusted=None):
    trusted = np.ones_like(observed, bool) if trusted is None else trusted
    return measure_shape(fit_bright_stars(observed, np.ones_like(observed), trusted))


def test_the_shape_of_stars_is_measured():
    _, observed = field(*((row, col, 300.0) for row, col in places(12)))
    found = shape_of(observed)
    assert found is not None
    assert found.fwhm_px == pytest.approx(SHAPE.fwhm_px, rel=0.03)
    offsets = np.array([[0.0, 3.0], [3.0, 0.0], [2.0, 2.0], [2.0, -2.0]])
    np.testing.assert_allclose(found.at(*offsets.T), SHAPE.at(*offsets.T), atol=0.02)


@pytest.mark.parametrize("deep", [-50.0, -3000.0])
def test_a_peak_in_a_dark_bowl_begins_no_fit_out_of_its_bounds(deep):
    """As in a smooth map whose sky was taken away: around the peak it is darker than bright."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    apart = np.hypot(rows - 48, cols - 48)
    observed = np.where(apart < 2.5, 40.0, np.where(apart < 12, deep, 0.0))
    shape_of(observed)


@pytest.mark.parametrize(("fwhm_px", "most"), [(1.6, 0.4), (2.7, 0.15)])
def test_wings_beyond_the_fitted_pixels_are_those_of_the_star(fwhm_px, most):
    """Stars as a detector sees them, averaged over pixels: the core must not bend the wings."""
    psf = MoffatPsf(fwhm_px)
    inner = (np.arange(9) - 4) / 9

    def seen(rows, cols):
        fine = [psf.density(rows + down, cols + across) for down in inner for across in inner]
        return np.mean(fine, axis=0) / psf.peak

    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    stars = sum(2000 * seen(rows - row, cols - col) for row, col in places(12))
    found = shape_of(stars + field(seed=6)[1])
    assert found is not None
    far = np.array([9.0, 12.0, 20.0])
    share = found.at(far, far * 0) / found.at(0.0, 0.0)
    np.testing.assert_allclose(share, seen(far, far * 0) / seen(0.0, 0.0), rtol=most)


def test_too_few_stars_noise_and_unlike_galaxies_have_no_shape():
    assert shape_of(field(*((row, col, 300.0) for row, col in places(3)))[1]) is None
    assert shape_of(field(seed=4)[1]) is None
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    galaxies = np.zeros((SIDE_PX, SIDE_PX))
    for number, (row, col) in enumerate(places(9)):
        wide = StarShape(a=0.4 / 1.5**number, b=0.0, d=0.4 / 1.5**number, beta=2.0)
        galaxies += 300 * wide.at(rows - row, cols - col)
    assert shape_of(galaxies + field(seed=5)[1]) is None


def test_stars_across_holes_do_not_shape_the_others():
    _, observed = field(*((row, col, 300.0) for row, col in places(12)))
    trusted = np.ones_like(observed, bool)
    trusted[:, 12] = False
    observed[:, 12] = 1e5
    found = shape_of(observed, trusted)
    assert found is not None
    assert found.fwhm_px == pytest.approx(SHAPE.fwhm_px, rel=0.03)


def saturated_core(row, col, radius_px=3.0):
    rows, cols = np.indices((SIDE_PX, SIDE_PX))
    return np.hypot(rows - row, cols - col) > radius_px


@pytest.mark.parametrize("seed", range(3))
def test_a_bright_star_shows_its_shape_where_no_other_star_does(seed):
    light, observed = field((47.3, 40.2, 3000.0), seed=seed)
    trusted = saturated_core(47.3, 40.2)
    missed = (drawn(observed, trusted, None) - light)[~trusted]
    assert np.abs(missed).max() < 0.1 * 3000.0
    _, faint = field((47.3, 40.2, 30.0), seed=seed)
    assert not drawn(faint, trusted, None).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_bright_star_may_differ_from_the_others(seed):
    """As stars do that are far from each other in a field."""
    light, observed = field((47.3, 40.2, 3000.0), seed=seed)
    trusted = saturated_core(47.3, 40.2)
    missed = (drawn(observed, trusted, SHAPE.widened(1.1)) - light)[~trusted]
    assert np.abs(missed).max() < 0.1 * 3000.0


@pytest.mark.parametrize(("fwhm_px", "reach"), [(3.3, 2), (3.3, 3), (4.8, 3)])
def test_the_error_of_a_star_of_its_own_shape_holds_how_flat_its_core_may_be(fwhm_px, reach):
    """As in real frames: a core as flat as a Moffat profile of 5, wings of 2.3.

    What fits the wings is too bright in the middle, by up to the half here.
    """
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    core, wings = (of_width(*one) for one in ((fwhm_px, 5.0), (1.3 * fwhm_px, 2.3)))
    offsets = rows - 48.2, cols - 47.9
    light = 500.0 * (0.8 * core.at(*offsets) + 0.2 * wings.at(*offsets))
    observed = light + np.random.default_rng(2).standard_normal(light.shape)
    hole = ~in_square(48, 48, reach)
    found = find_hidden_stars(observed, np.ones_like(light), ~hole, None)
    missed, error = (found.light - light)[hole], np.hypot(found.error + found.doubted, 1)[hole]
    assert np.linalg.norm(missed) < 2 * np.linalg.norm(error)
    assert error.max() < 0.7 * max(found.light.max(), light.max())


def of_width(fwhm_px, beta):
    a = (2 ** (1 / beta) - 1) / (fwhm_px / 2) ** 2
    return StarShape(a, 0.0, a, beta)


@pytest.mark.parametrize("shape", [SHAPE, None])
def test_a_bright_galaxy_under_a_trail_is_not_drawn_as_a_star_of_its_own_shape(shape):
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = 400.0 * np.exp(-(np.hypot(rows - 47.5, cols - 40.0) / 5.0))
    observed = light + np.random.default_rng(3).standard_normal(light.shape)
    trusted = trail()
    excess = (drawn(observed, trusted, shape) - light)[~trusted]
    assert excess.max() < 0.3 * 400.0


def test_many_places_are_tried_as_each_would_be_alone():
    rng = np.random.default_rng(3)
    sheet = Sheet(rng.normal(size=(40, 40)), np.ones((40, 40)), rng.random((40, 40)) > 0.1, SHAPE)
    trial = sheet.trial(20.3, 19.6, 50.0)
    places = grid_px(3.0, 0.25)
    assert len(places) > 600
    together = trial.tried(SHAPE, places)
    alone = [trial.tried(SHAPE, place[None]) for place in places]
    for all_at_once, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(all_at_once, np.concatenate(one_by_one), rtol=1e-6, atol=1e-9)


def test_of_many_regions_fewer_stars_each_are_fitted_but_some_of_each():
    assert [stars_of_each(regions) for regions in (1, 3, 12, 1000)] == [40, 40, 10, 4]
    _, observed = field(*((row, col, 300.0) for row, col in places(12)))
    trusted = np.ones_like(observed, bool)
    assert len(fit_bright_stars(observed, np.ones_like(observed), trusted, most=5)) == 5
