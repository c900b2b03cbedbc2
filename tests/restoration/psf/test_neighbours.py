"""What shines beside a star is taken off, and the star and the sky under it stay."""

import numpy as np

from dip_pipeline.restoration.psf.neighbours import Crowd, StarPicture
from dip_pipeline.restoration.stars.star_shape import StarShape

SIDE_PX, REACH_PX, SIGMA = 96, 12, 1.0
SHAPE = StarShape(0.16, 0.02, 0.11, 3.0)
OWN = np.array([5000.0, 47.3, 44.8])
BESIDE = np.array([[2000.0, 52.4, 38.7], [900.0, 40.2, 50.9], [7.0, 40.6, 37.2], [2e4, 33.2, 41.5]])


def drawn(rows, cols):
    return SHAPE.at(rows[:, None], cols[None, :])


def field(*terms):
    places = np.arange(SIDE_PX, dtype=float)
    light = (height * drawn(places - row, places - col) for height, row, col in terms)
    return sum(light, np.zeros((SIDE_PX, SIDE_PX)))


def alone(light, trusted=None, own=(OWN,)):
    trusted = np.ones(light.shape, bool) if trusted is None else trusted
    crowd = Crowd(light, np.full(light.shape, SIGMA), trusted, own, REACH_PX)
    return crowd.without_neighbours(own, StarPicture(SHAPE, drawn, REACH_PX))


def off(found, expected, trusted=True):
    """By how much a star's surroundings differ, sigmas."""
    rows, cols = np.indices(found.shape)
    near = np.hypot(rows - OWN[1], cols - OWN[2]) < REACH_PX
    return np.abs(found - expected)[near & trusted].max() / SIGMA


def sky(level=0.0, slope=0.0, seed=1):
    noise = np.random.default_rng(seed).normal(0.0, SIGMA, (SIDE_PX, SIDE_PX))
    return noise + level + slope * np.arange(SIDE_PX)


def test_neighbours_are_gone_and_the_star_and_its_noise_are_left():
    empty = field(OWN) + sky()
    assert off(field(OWN, *BESIDE) + sky(), empty) > 1000
    assert off(alone(field(OWN, *BESIDE) + sky()), empty) < 4
    assert off(alone(empty), empty) < 1e-9


def test_what_a_ghost_under_the_mask_shows_is_no_star_nor_moves_one():
    light, trusted = field(OWN, *BESIDE) + sky(), np.ones((SIDE_PX, SIDE_PX), bool)
    trusted[40:46, 36:40] = trusted[53:56, 55:58] = False
    bare = alone(light, trusted)
    haunted = alone(np.where(trusted, light, 1e5), trusted)
    np.testing.assert_array_equal(haunted[trusted], bare[trusted])
    assert off(bare, field(OWN) + sky(), trusted) < 4


def test_an_uneven_sky_under_the_stars_stays_and_is_not_fitted_as_their_light():
    uneven = sky(level=30.0, slope=0.2)
    assert off(alone(field(OWN, *BESIDE) + uneven), field(OWN) + uneven) < 6


def test_what_a_shape_misses_of_a_bright_star_is_not_taken_off_it_as_a_neighbour():
    places = np.arange(SIDE_PX, dtype=float)
    wider = SHAPE.widened(1.04).at((places - OWN[1])[:, None], (places - OWN[2])[None, :])
    seen = 20 * OWN[0] * wider + sky()
    assert off(alone(seen, own=[OWN * [20, 1, 1]]), seen) < 3e-4 * 20 * OWN[0]
