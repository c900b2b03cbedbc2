"""How far fitted stars are doubted: by least squares, by Bayes, and by what is lost either way."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, sparse
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.psf.shown_in_scene import in_scene
from dip_pipeline.restoration.stars.shown_stars import Equations, find_shown_stars
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.sensor.noise_kernel import NoiseKernel

SHAPE = StarShape(a=0.14, b=0.02, d=0.11, beta=3.0)
SIZE = (48, 96)
AT = (24.3, 50.6)


def observed(height, seed=0):
    """A star in unit noise."""
    rows, cols = np.indices(SIZE, dtype=np.float64)
    light = height * SHAPE.at(rows - AT[0], cols - AT[1])
    return light + np.random.default_rng(seed).standard_normal(SIZE)


def alone(height, seed=0, trusted=None):
    """The same, as it is found."""
    trusted = np.ones(SIZE, bool) if trusted is None else trusted
    return find_shown_stars(observed(height, seed), np.ones(SIZE), trusted, SHAPE)


def test_of_any_number_of_stars_each_has_the_covariance_of_its_own_changes():
    """More stars than are solved for at once."""
    rng = np.random.default_rng(3)
    stars = 130
    columns = sparse.random(1500, 3 * stars, density=0.01, random_state=4, format="csr")
    normal = (columns.T @ columns + sparse.diags(rng.uniform(1, 3, 3 * stars))).tocsc()
    inverse = np.linalg.inv(normal.toarray())
    found = Equations(columns, columns.T, normal).covariances()
    expected = [inverse[at : at + 3, at : at + 3] for at in range(0, 3 * stars, 3)]
    assert np.allclose(found, expected)


@pytest.mark.parametrize(("odds", "unseen"), [(0.05, 0.3), (1.0, 0.1), (2.0, 0.6)])
def test_trust_is_what_loses_least_be_it_one_star_or_two(odds, unseen):
    """Not believed one star lacks 0.17 of its light; two that are believed err by the unseen."""
    star = in_scene(alone(300.0), SHAPE, Optics(factor=2))
    star = replace(star, odds=np.array([odds]), unseen=np.array([unseen]))

    def lost(trust):
        return (1 - trust) ** 2 * 0.17**2 + odds * trust**2 * unseen**2

    best = minimize_scalar(lost, bounds=(0, 1), method="bounded").x
    at = tuple(round(2 * place + 0.5) for place in AT)
    assert star.trust_in_scene()[at] == pytest.approx(best, abs=1e-3)


def test_noise_leaves_as_much_variance_as_a_star_has_unknowns():
    """Least squares: the trace of what takes a frame to its fit is the number of what is fitted."""
    star = in_scene(alone(300.0), SHAPE, Optics(factor=1))
    assert not star.doubts.any()
    assert star.variance_in_scene().sum() == pytest.approx(3.0, rel=0.01)


def test_in_noise_that_hangs_together_the_error_of_a_star_is_as_large_as_it_is():
    """Heights, and places nearly as much, scatter by more than in white noise; doubt does not."""
    kernel = NoiseKernel.from_neighbour(0.4, "test")
    rows, cols = np.indices((32, 32), dtype=np.float64)
    clean = 300 * SHAPE.at(rows - 16.2, cols - 15.7)
    rng, scenes, ones = np.random.default_rng(1), [], np.ones((32, 32))
    for _ in range(100):
        noise = ndimage.convolve(rng.standard_normal((32, 32)), np.array(kernel.root), mode="wrap")
        star = find_shown_stars(clean + noise, ones, ones > 0, SHAPE, 1.7)
        star = replace(in_scene(star, SHAPE, Optics(factor=1)), doubts=np.zeros(len(star.places)))
        scenes.append(star.scene[0])
    scatter = np.std(scenes, axis=0)
    widening = kernel.passed(SHAPE.stamp()) ** 0.5
    claimed = star.variance_in_scene(widening)
    assert np.sqrt((scatter**2).sum() / claimed.sum()) == pytest.approx(1.0, abs=0.12)
    doubted = replace(star, doubts=np.array([0.2]))
    more = doubted.variance_in_scene(widening) - claimed
    assert more == pytest.approx(doubted.variance_in_scene() - star.variance_in_scene(), abs=1e-8)


def test_of_a_star_in_doubt_that_share_of_its_light_is_its_error():
    star = in_scene(alone(300.0), SHAPE, Optics(factor=2))
    light, _ = star.scene
    sure, doubted = (
        replace(star, doubts=np.array([share])).variance_in_scene() for share in (0.0, 0.3)
    )
    near = light > 10.0
    assert np.sqrt(doubted - sure)[near] == pytest.approx(0.3 * light[near], rel=1e-3)


@pytest.mark.parametrize("shown", [1.0, 0.5])
def test_what_may_be_unseen_of_a_star_is_what_noise_hides_of_a_square(shown):
    """One standard error of the sum of N squares of noise is (2 N)^(1/2): so much in the square."""
    height, trusted = 100.0, np.random.default_rng(6).random(SIZE) < shown
    rows, cols = np.indices(SIZE, dtype=np.float64)
    shape = SHAPE.at(rows - AT[0], cols - AT[1])
    near = (np.hypot(rows - AT[0], cols - AT[1]) < 3.5) & trusted
    expected = (2 * near.sum()) ** 0.25 / (height * np.sqrt((shape[near] ** 2).sum()))
    found = [float(alone(height, seed, trusted).unseen[0]) for seed in range(12)]
    assert min(found) == pytest.approx(expected, rel=0.05)  # of half of them: no more unlike one
    assert np.median(found) < 1.3 * expected


@pytest.mark.parametrize("seed", [0, 1, 8, 11, 32])  # some unlike one by chance
def test_a_star_is_two_by_bayes_the_more_the_less_it_looks_like_one(seed):
    """One in ten is two, and may be unlike one by anything up to five standard errors.

    Of single ones the normal distribution says how many are as unlike one as this.
    """
    star = alone(100.0, seed)
    _, row, col = star.places[0]
    rows, cols = np.indices(SIZE)
    near = np.hypot(rows - row, cols - col) <= 3.5
    left = (observed(100.0, seed) - star.around - star.light)[near]
    unlike = max(0.0, (left**2).mean() - 1) * np.sqrt(left.size / 2)
    assert star.odds[0] == pytest.approx((0.1 / 5) / (0.9 * norm.pdf(unlike)), rel=1e-3)


def test_of_a_star_of_which_few_pixels_are_seen_nothing_is_taken_off():
    frame, ones = observed(300.0), np.ones(SIZE)
    rows, cols = np.indices(SIZE)
    hidden = np.hypot(rows - AT[0], cols - AT[1]) < 8
    for count, is_found in ((6, False), (12, True)):
        seen = ~hidden
        near = np.argsort(np.hypot(rows - AT[0], cols - AT[1]), axis=None)[:count]
        seen[np.unravel_index(near, SIZE)] = True
        assert (find_shown_stars(frame, ones, seen, SHAPE) is not None) is is_found


def test_light_around_stars_is_that_of_the_pixels_that_are_trusted():
    frame = observed(300.0) + 8.0
    trusted = np.random.default_rng(5).random(SIZE) < 0.4
    stars = find_shown_stars(np.where(trusted, frame, 1e5), np.ones(SIZE), trusted, SHAPE)
    assert stars.around == pytest.approx(np.full(SIZE, 8.0), abs=0.8)


def test_light_of_stars_is_not_light_around_them():
    """Of stars in every part of a frame: at first sight it is, until they are taken off."""
    frame = np.random.default_rng(7).standard_normal(SIZE)
    rows, cols = np.indices(SIZE, dtype=np.float64)
    for row, col in np.ndindex(3, 6):
        frame += 3000 * SHAPE.at(rows - 16 * row - 7.7, cols - 16 * col - 8.2)
    stars = find_shown_stars(frame, np.ones(SIZE), np.ones(SIZE, bool), SHAPE)
    assert stars.around == pytest.approx(np.zeros(SIZE), abs=0.5)
