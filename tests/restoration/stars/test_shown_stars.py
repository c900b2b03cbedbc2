"""Stars that a frame shows well: taken off where they look like stars, and counted as fitted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.asking import ask_networks, blended, moved_by
from dip_pipeline.restoration.delivering.delivery import finished
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.fits.cross_fitting import Fitting, fit_folds
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stopping import ignore_step
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.images.spectral import LostLight
from dip_pipeline.restoration.problem import FitOptions, InputKind, Problem, StopReason
from dip_pipeline.restoration.psf.shown_in_scene import TargetShape
from dip_pipeline.restoration.stars.shown_stars import find_shown_stars
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.stars.star_sheet import Sheet
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced
from dip_pipeline.task import Task

SHAPE = StarShape(a=0.14, b=0.02, d=0.11, beta=3.0)
SIDE_PX = 96
STARS = [
    (20.3, 20.7, 300.0),
    (20.0, 70.4, 60.0),
    (50.2, 48.0, 1000.0),
    (70.6, 20.1, 25.0),
    (75.0, 72.0, 150.0),
    (78.6, 73.8, 90.0),  # 4 px from the last one
]


def drawn(stars, shape=SHAPE):
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    return sum(
        (height * shape.at(rows - row, cols - col) for row, col, height in stars),
        np.zeros((SIDE_PX, SIDE_PX)),
    )


def white(seed=0):
    return np.random.default_rng(seed).standard_normal((SIDE_PX, SIDE_PX))


def found(observed, trusted=None, **more):
    trusted = np.ones_like(observed, bool) if trusted is None else trusted
    return find_shown_stars(observed, np.ones_like(observed), trusted, SHAPE, **more)


def plane(values):
    return torch.from_numpy(np.ascontiguousarray(values))[None, None]


def frame(observed, **more):
    """A problem of unit noise."""
    return Problem(
        pixels=observed.astype(np.float32),
        masked=np.zeros(observed.shape, bool),
        saturated=np.zeros(observed.shape, bool),
        noise=NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(1.0, "test", "given")),
        options=FitOptions(**more),
        seed=1,
    )


class Nothing(torch.nn.Module):
    """Restores nothing: what it is shown comes back as it is."""

    multiple = 16

    def forward(self, features):
        answer = torch.zeros(len(features), ANSWER_CHANNELS, *features.shape[-2:])
        answer[:, 0] = 30.0
        return answer


def test_a_star_costs_three_unknowns():
    """Least squares leave as much variance as there are unknowns, over all pixels.

    By chance a star may look like none, and stays in the frame: the median does not see it.
    """
    squares = []
    for seed in range(20):
        stars = found(drawn(STARS) + white(seed))
        squares.append(((stars.light - drawn(STARS)) ** 2).sum() / len(STARS))
    assert np.median(squares) == pytest.approx(3.0, abs=0.8)


def test_noise_shows_no_stars():
    assert all(found(white(seed)) is None for seed in range(20))


@pytest.mark.parametrize("height", [40.0, 400.0])
def test_a_galaxy_is_no_star(height):
    """What is wider than a star keeps its pixels: a star's model would leave a hole and a ring."""
    galaxy = drawn([(48.3, 48.9, height)], SHAPE.widened(1.8))
    stars = found(galaxy + white())
    taken = 0.0 if stars is None else stars.light[40:57, 40:57].sum()
    assert taken < 0.05 * galaxy.sum()


def test_light_around_stars_stays():
    """A slope of light is no star's, and the star on it is not fitted with a part of it."""
    slope = np.linspace(0, 12, SIDE_PX)[:, None] * np.ones(SIDE_PX)
    stars = found(drawn(STARS) + slope + white())
    missed = stars.light - drawn(STARS)
    assert abs(missed.sum()) < 0.01 * drawn(STARS).sum()


def test_pixels_that_are_not_trusted_do_not_count():
    trusted = np.ones((SIDE_PX, SIDE_PX), bool)
    trusted[49:52, 44:47] = False  # beside the brightest
    observed = drawn(STARS) + white()
    wrong = np.where(trusted, observed, 1e6)
    assert np.array_equal(found(observed, trusted).light, found(wrong, trusted).light)


def test_correlated_noise_has_to_be_stood_out_of_by_more():
    observed = drawn([(48.0, 48.0, 8.0)]) + white()
    assert found(observed) is not None
    assert found(observed, widening=4.0) is None


def test_change_is_what_a_new_fit_would_give():
    observed = drawn(STARS) + white()
    stars = found(observed)
    step = 0.2 * white(7)
    told = stars.change(plane(observed + step - stars.light))[0, 0].numpy()
    anew = found(observed + step).light - stars.light
    near = drawn(STARS) > 1.0
    # What lies around the stars is measured anew, too, by the new fit alone.
    assert (told - anew)[near].std() < 0.4 * anew[near].std()


def test_nothing_changes_where_nothing_did_nor_twice():
    observed = drawn(STARS) + white()
    stars = found(observed)
    still = stars.change(plane(observed - stars.light))
    assert float(still.abs().max()) < 0.01
    step = plane(white(3) + stars.around)
    once = stars.change(step)
    assert torch.allclose(stars.change(once + plane(stars.around)), once, atol=1e-2)


@pytest.mark.parametrize(
    ("taken", "more"),
    [
        (True, {}),
        (True, {"task": Task.INPAINT}),
        (False, {"input": InputKind.CODE}),
        (True, {"task": Task.SUPER_RESOLVE}),
        (True, {"task": Task.COMBINE}),
    ],
)
def test_stars_are_taken_off_where_that_serves(taken, more):
    problem = frame(drawn(STARS) + white(), **more)
    scale = measure_sky([problem])
    region = prepare(problem, scale)
    assert (region.shown_stars is not None) is taken
    total = (region.observed + region.stars)[0, 0].numpy() * scale.sigma + scale.level
    assert np.allclose(total, problem.pixels, atol=1e-3)


def test_left_in_a_region_is_as_if_none_had_been_taken_off():
    problem = frame(drawn(STARS) + white())
    problem.masked[30:34, 60:75] = True
    scale = measure_sky([problem])
    region = prepare(problem, scale).with_shown_stars()
    bare = prepare(replace(problem, options=FitOptions(input=InputKind.CODE)), scale)
    for name in ("observed", "sigma", "stars"):
        assert torch.allclose(getattr(region, name), getattr(bare, name), atol=1e-3), name
    assert torch.allclose(region.noise.floor, bare.noise.floor, atol=1e-4)


def test_a_restoration_follows_its_pixels_where_stars_were_taken_off():
    """What restores nothing gives back a moved frame: none of it is lost to the stars."""
    problem = frame(drawn(STARS) + white(), views=1)
    region = prepare(problem, measure_sky([problem]))
    moved = moved_by(region, plane(white(5)).float())
    share = torch.ones_like(region.observed)
    given = blended([Nothing()], [share], moved, region, problem.options).image
    assert torch.allclose(given, moved, atol=0.02)


SHRINKING = Restraint(lost=LostLight((0.0,), (0.7,), (0.0,)))


def test_what_a_fit_makes_of_noise_is_not_shrunk_with_what_networks_draw():
    """Of the stars as they are put back nothing is: their noise stays, and is to be known."""
    problem = frame(drawn(STARS) + white(), views=1, flux_scale_px=0.0)
    region = prepare(problem, measure_sky([problem]))
    share = torch.ones_like(region.observed)
    answers = ask_networks([Nothing()], [share], region, problem.options, seed=3)
    done = finished(answers, region, SHRINKING, problem.options)
    moved = done.moved - done.plain
    unmoved = answers.moved - answers.plain
    of_stars = answers.taken[1] - answers.taken[0]
    power = float((of_stars**2).sum())
    assert float((moved * of_stars).sum()) / power == pytest.approx(1.0, abs=0.05)
    assert float((moved**2).sum()) < 0.5 * float((unmoved**2).sum())  # or nothing was shrunk


NARROW = StarShape(a=0.9, b=0.1, d=0.7, beta=3.0)  # FWHM 1.2 px


@pytest.mark.parametrize("fwhm_px", [0.9, 1.2, 1.8, 2.3, 3.0])
@pytest.mark.parametrize("beta", [2.5, 4.0])
def test_the_light_of_a_star_is_its_mean_over_pixels(fwhm_px, beta):
    a = (2 ** (1 / beta) - 1) / (fwhm_px / 2) ** 2
    shape = StarShape(a, 0.2 * a, a, beta)
    assert shape.fwhm_px == pytest.approx(fwhm_px, rel=0.02)
    rows, cols = (grid.astype(float) for grid in np.mgrid[-6:7, -6:7])
    parts = (np.arange(20) + 0.5) / 20 - 0.5
    mean = np.mean(
        [shape.profile(rows - 0.3 + down, cols + 0.1 + on) for down in parts for on in parts],
        axis=0,
    )
    assert np.abs(shape.at(rows - 0.3, cols + 0.1) - mean).max() < 0.006
    assert shape.at(rows - 0.3, cols + 0.1).sum() == pytest.approx(mean.sum(), rel=0.005)


@pytest.mark.parametrize(
    "shape", [SHAPE, NARROW, TargetShape()], ids=["Moffat", "narrow", "target"]
)
def test_slopes_are_those_of_the_light(shape):
    rows, cols = (grid.astype(float) for grid in np.mgrid[-4:5, -4:5])
    light, down, across = shape.slopes(rows - 0.3, cols + 0.2)
    assert np.allclose(light, shape.at(rows - 0.3, cols + 0.2))
    step = 1e-4
    moved_down = shape.at(rows - 0.3 - step, cols + 0.2) - shape.at(rows - 0.3 + step, cols + 0.2)
    moved_on = shape.at(rows - 0.3, cols + 0.2 - step) - shape.at(rows - 0.3, cols + 0.2 + step)
    assert np.allclose(down, moved_down / (2 * step), atol=1e-6)
    assert np.allclose(across, moved_on / (2 * step), atol=1e-6)


def test_networks_are_fitted_on_the_frame_with_its_stars_and_without():
    """Else a star that no model fits would be the first that they see."""
    problem = frame(drawn(STARS) + white(), steps=1)
    region = prepare(problem, measure_sky([problem]))
    seen = []

    def fit(fit_on, judge_on, options, *, seed, on_step):
        seen.append([float(one.observed.max()) for one in fit_on.regions])
        return Fitted(torch.nn.Identity(), 1, StopReason.STEP_LIMIT, 0.0)

    blocks = [CrossFit.for_shape(region.shape)]
    fit_folds([region], blocks, problem.options, seed=1, on_step=ignore_step, fitting=Fitting(fit))
    assert len(seen) == 2
    for without, with_stars in seen:
        assert without < 20
        assert with_stars > 500


def test_without_read_noise_no_floor_falls_below_zero_by_rounding():
    problem = frame(drawn(STARS) + white())
    region = prepare(problem, measure_sky([problem]))
    light = plane(region.shown_stars.light).float()
    slope = 3.7
    bare = replace(region.noise, floor=1e-6 + slope * light, slope=slope)
    with_stars = replace(region, noise=bare).with_shown_stars()
    assert float(with_stars.noise.floor.min()) > 0


@pytest.mark.parametrize("tilt", [-0.6, 0.0, 0.6, 0.9])
def test_a_star_is_drawn_out_to_where_it_is_next_to_nothing_on_every_side(tilt):
    shape = StarShape(a=0.14, b=tilt * 0.13, d=0.12, beta=2.5)
    radius = shape.radius_px(0.001)
    angles = np.linspace(0, 2 * np.pi, 360)
    around = shape.profile(radius * np.sin(angles), radius * np.cos(angles))
    assert around.max() == pytest.approx(0.001, rel=0.01)


def uneven():
    """A sky with a star, noise that differs from pixel to pixel, and holes."""
    rng = np.random.default_rng(8)
    sigma = rng.uniform(0.5, 3.0, (SIDE_PX, SIDE_PX))
    observed = drawn([(50.0, 48.0, 40.0)]) + 2.0 + sigma * white(9)
    return observed, sigma, rng.random(sigma.shape) > 0.1


def test_heights_everywhere_are_least_squares_of_a_star_over_a_level_sky():
    observed, sigma, trusted = uneven()
    sheet = Sheet(observed, sigma, trusted, SHAPE)
    sheet.height_everywhere()
    sheet.left = np.where(trusted, observed + 1.0, 0.0)  # as it changes from round to round
    heights, errors = sheet.height_everywhere()
    for row, col in ((50, 48), (30, 61), (2, 93)):
        rows, cols = (
            grid - at for grid, at in zip(np.indices(sigma.shape), (row, col), strict=True)
        )
        seen = trusted & (rows**2 + cols**2 <= 7**2)
        columns = np.stack([SHAPE.at(rows[seen], cols[seen]), np.ones(seen.sum())], axis=1)
        columns /= sigma[seen][:, None]
        light = (observed[seen] + 1.0) / sigma[seen]
        assert heights[row, col] == pytest.approx(np.linalg.lstsq(columns, light)[0][0])
        assert errors[row, col] == pytest.approx(np.linalg.inv(columns.T @ columns)[0, 0] ** 0.5)


def test_changes_of_stars_are_least_squares_by_the_noise_of_each_pixel():
    observed, sigma, trusted = uneven()
    stars = find_shown_stars(observed, sigma, trusted, SHAPE)
    left = np.where(trusted, white(11), 0.0)
    weight = np.where(trusted, 1 / sigma, 0.0).ravel()
    columns = stars.equations.columns.toarray()
    step = np.linalg.lstsq(columns * weight[:, None], left.ravel() * weight)[0]
    assert stars.equations.step(left) == pytest.approx(step, rel=1e-3, abs=1e-6)
