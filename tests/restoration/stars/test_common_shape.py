"""The shape that stars have in common: all of them tell it together, better than each alone."""

import numpy as np
import pytest

from dip_pipeline.restoration.stars.common_shape import (
    alike_stars,
    measure_shape,
    shapes_of_the_others,
)
from dip_pipeline.restoration.stars.star_shape import FittedStar, StarShape, fit_bright_stars

SIDE_PX = 128
UNSEEN = None  # no star is looked at where none agree
ROUND = StarShape(a=0.143, b=0.0, d=0.143, beta=3.0)
SHAPES = {
    "round": ROUND,
    "tilted": StarShape(a=0.12, b=0.04, d=0.09, beta=2.5),
    "undersampled": StarShape(a=0.45, b=0.0, d=0.45, beta=2.8),
    "wide": StarShape(a=0.045, b=0.0, d=0.045, beta=3.5),
}


def observed_stars(shape, seed, *, neighbours=False, strays=(), noise=1.0):
    """A grid of 36 stars, 40 to 600 sigma high; strays : other shapes, of the first stars."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = noise * rng.standard_normal((SIDE_PX, SIDE_PX))
    for number in range(36):
        row, col = 14 + 20 * np.array(divmod(number, 6)) + rng.uniform(-0.5, 0.5, 2)
        height = np.exp(rng.uniform(np.log(40.0), np.log(600.0)))
        own = strays[number] if number < len(strays) else shape
        light += height * own.at(rows - row, cols - col)
        if neighbours and number % 2:
            angle = rng.uniform(0, 2 * np.pi)
            beside = row + 4.5 * np.sin(angle), col + 4.5 * np.cos(angle)
            light += 0.15 * height * shape.at(rows - beside[0], cols - beside[1])
    return light


def fitted_stars(light):
    return fit_bright_stars(light, np.ones_like(light), np.ones(light.shape, bool))


def off_by(found, shape):
    """Rms of what a star of the found shape leaves of one of the true shape, in heights."""
    offsets = np.arange(-3.0, 4.0)
    left = []
    for row, col in ((0.0, 0.0), (0.5, 0.5), (0.25, -0.5)):
        truth = shape.at(offsets[:, None] - row, offsets[None, :] - col)
        model = found.at(offsets[:, None] - row, offsets[None, :] - col)
        left.append(truth - (truth * model).sum() / (model**2).sum() * model)
    return float(np.sqrt(np.mean(np.square(left))))


def middle_of(stars):
    """The median of the shapes of single stars."""
    terms = [[s.shape.a, s.shape.b, s.shape.d, s.shape.beta] for s in stars]
    return StarShape(*np.median(terms, axis=0))


def both_ways(shape, fields=3, **options):
    """How far off the common shape is and the median of single ones, over some fields."""
    together, median = [], []
    for seed in range(fields):
        stars = fitted_stars(observed_stars(shape, seed, **options))
        together.append(off_by(measure_shape(stars), shape))
        median.append(off_by(middle_of(stars), shape))
    return np.mean(together), np.mean(median)


@pytest.mark.parametrize("name", SHAPES)
def test_all_stars_at_once_tell_their_shape_better_than_the_median(name):
    together, median = both_ways(SHAPES[name], fields=6 if name == "tilted" else 3)
    assert together < 0.75 * median
    assert together < 0.0004


def test_a_neighbour_of_every_second_star_changes_little():
    together, median = both_ways(ROUND, neighbours=True)
    assert together < 0.6 * median
    assert together < 0.002


def test_stars_of_another_shape_are_outvoted():
    """Nearly as wide, so that they count: two merged stars, or compact galaxies."""
    strays = [StarShape(a=0.115, b=0.03, d=0.15, beta=3.0)] * 6
    together, _ = both_ways(ROUND, strays=strays)
    assert together < 0.0015


def test_bright_galaxies_do_not_make_it_wider():
    strays = [StarShape(a=0.03, b=0.0, d=0.02, beta=2.0)] * 9
    together, _ = both_ways(ROUND, strays=strays)
    assert together < 0.001


def test_stars_without_noise_tell_the_shape_itself():
    found = measure_shape(fitted_stars(observed_stars(SHAPES["tilted"], 3, noise=1e-6)))
    assert off_by(found, SHAPES["tilted"]) < 2e-4


def test_too_few_stars_have_nothing_in_common():
    assert measure_shape([FittedStar(ROUND, 100.0, UNSEEN, (0, 0))] * 3) is None


def test_stars_of_many_widths_have_nothing_in_common():
    widths = [StarShape(a, 0.0, a, 3.0) for a in (0.04, 0.06, 0.09, 0.14, 0.21, 0.32)]
    assert measure_shape([FittedStar(shape, 100.0, UNSEEN, (0, 0)) for shape in widths]) is None


def test_a_cosmic_ray_on_every_star_changes_little():
    found = []
    for seed in range(4):
        light = observed_stars(ROUND, seed)
        rng = np.random.default_rng(seed)
        for number in range(36):
            middle = 14 + 20 * np.array(divmod(number, 6))
            row, col = middle + rng.choice([-2, 2], 2)
            light[row, col] += 60.0
        found.append(off_by(measure_shape(fitted_stars(light)), ROUND))
    assert np.mean(found) < 0.001


def test_the_fit_does_not_depend_on_the_unit():
    light = observed_stars(ROUND, 2)
    once = measure_shape(fitted_stars(light))
    scaled = fit_bright_stars(1e-18 * light, np.full_like(light, 1e-18), np.ones(light.shape, bool))
    again = measure_shape(scaled)
    assert once.fwhm_px == pytest.approx(again.fwhm_px, rel=1e-4)
    assert once.beta == pytest.approx(again.beta, rel=1e-3)


def test_shapes_of_the_others_scatter_as_little_as_the_shape_is_known_badly():
    """A jackknife of g groups: its squared error is (g - 1) / g of the squares about the mean."""
    told, missed = [], []
    for seed in range(8):
        light = observed_stars(ROUND, seed)
        stars = fit_bright_stars(light, np.ones_like(light), np.ones(light.shape, bool), most=12)
        shape = measure_shape(stars)
        widths = np.log([one.fwhm_px for one in shapes_of_the_others(stars, shape)])
        told.append((len(widths) - 1) * widths.var())
        missed.append(np.log(shape.fwhm_px / ROUND.fwhm_px) ** 2)
    ratio = np.sqrt(np.mean(told) / np.mean(missed))
    assert 0.4 < ratio < 1.7


def test_alike_are_those_as_wide_as_a_shape():
    stars = [FittedStar(ROUND.widened(width), 100.0, UNSEEN, (0, 0)) for width in (0.8, 0.95, 1.2)]
    (alike,) = alike_stars(stars, ROUND)
    assert alike is stars[1]
