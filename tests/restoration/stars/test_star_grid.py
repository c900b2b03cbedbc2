"""Light of many stars at once, and how it changes with them, on frames that are no squares."""

import numpy as np
import pytest

from dip_pipeline.restoration.stars.star_grid import StarGrid
from dip_pipeline.restoration.stars.star_shape import StarShape

SHAPE = StarShape(a=0.14, b=0.02, d=0.11, beta=3.0)
STARS = np.array([[300.0, 3.2, 60.7], [40.0, 20.6, 8.1], [9.0, 31.4, 69.8], [5.0, -1.3, 30.2]])
OBLONG = [(33, 72), (72, 33)]


def stars_on(size):
    return STARS if size[0] < size[1] else STARS[:, [0, 2, 1]]


def one_by_one(stars, size):
    rows, cols = np.indices(size, dtype=np.float64)
    return np.stack([height * SHAPE.at(rows - row, cols - col) for height, row, col in stars])


@pytest.mark.parametrize("size", OBLONG)
def test_all_stars_at_once_are_drawn_as_each_alone_but_for_next_to_nothing(size):
    """Each to 0.02 of the sky's noise."""
    stars = stars_on(size)
    whole = one_by_one(stars, size).sum(axis=0)
    assert np.abs(StarGrid(size, SHAPE).drawn(stars) - whole).max() < 0.02 * len(stars)


@pytest.mark.parametrize("size", OBLONG)
def test_changes_of_stars_are_differences_of_their_light_in_the_pixels_within_reach(size):
    stars, step, reach_px = stars_on(size), 1e-4, 5.5
    changes = StarGrid(size, SHAPE).changes(stars, reach_px).toarray().reshape(*size, -1)
    rows, cols = np.indices(size)
    for number, star in enumerate(stars):
        for term, by in enumerate(np.diag([star[0], 1.0, 1.0])):
            more, less = one_by_one([star + step * by, star - step * by], size)
            expected = (more - less) / (2 * step)
            expected[np.hypot(rows - star[1], cols - star[2]) > reach_px] = 0.0
            assert changes[..., 3 * number + term] == pytest.approx(expected, abs=1e-5)


def test_what_a_fit_makes_less_than_nothing_is_not_drawn():
    assert not StarGrid((20, 20), SHAPE).drawn(np.array([[-50.0, 10.0, 10.0]])).any()
