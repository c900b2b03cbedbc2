"""Stars that are elongated otherwise from place to place are told; of one shape they are not."""

import numpy as np
import pytest

from dip_pipeline.restoration.field_ellipticities import ellipticities_over_field
from dip_pipeline.restoration.star_shape import USUAL_SHAPE, Cutout, FittedStar, StarShape

NOTHING = np.zeros(0)
UNSEEN = Cutout(NOTHING, NOTHING, NOTHING, NOTHING, (0.0, 0.0), 0.0)


def stars(ellipticities_of, *, count=30, scatter=0.03, galaxies=0, seed=1):
    """Stars of one width, ellipticities a function of place (-1 to 1); some are galaxies."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 400, (count, 2))
    one, two = ellipticities_of(*(places / 200 - 1).T)
    spread = np.where(np.arange(count) < galaxies, 0.25, scatter)
    one, two = (part + spread * rng.standard_normal(count) for part in (one, two))
    mean = USUAL_SHAPE.a
    shapes = [
        StarShape(mean * (1 + first), mean * second, mean * (1 - first), USUAL_SHAPE.beta)
        for first, second in zip(one, two, strict=True)
    ]
    return [
        FittedStar(shape, 100.0, UNSEEN, (int(row), int(col)))
        for shape, (row, col) in zip(shapes, places, strict=True)
    ]


def one_shape(rows, _):
    return 0.1 + 0 * rows, -0.05 + 0 * rows


@pytest.mark.parametrize("galaxies", [0, 8])
@pytest.mark.parametrize("seed", range(8))
def test_stars_of_one_ellipticity_are_not_told(seed, galaxies):
    assert ellipticities_over_field(stars(one_shape, galaxies=galaxies, seed=seed)) is None


@pytest.mark.parametrize("galaxies", [0, 6])
def test_stars_that_turn_to_one_side_are(galaxies):
    found = ellipticities_over_field(
        stars(lambda _, cols: (0.1 * cols, 0.05 + 0 * cols), galaxies=galaxies)
    )
    assert found is not None
    assert found.apart == pytest.approx(0.2, abs=0.05)
    assert sorted(col for _, col in found.places) == pytest.approx([0, 400], abs=80)


@pytest.mark.parametrize("seed", range(3))
def test_so_are_stars_that_point_away_from_the_middle(seed):
    """In corners that lie across from each other they are alike: no plane or bowl tells."""
    found = ellipticities_over_field(
        stars(lambda rows, cols: (0.1 * (rows**2 - cols**2), 0.2 * rows * cols), seed=seed)
    )
    assert found is not None
    assert found.apart > 0.2


def test_few_stars_tell_nothing():
    assert ellipticities_over_field(stars(lambda _, cols: (0.3 * cols, cols), count=8)) is None
    assert ellipticities_over_field([]) is None
