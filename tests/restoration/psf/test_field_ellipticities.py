"""Stars that are elongated otherwise from place to place are told; of one shape they are not."""

import numpy as np
import pytest
from scipy import stats as statistics

from dip_pipeline.restoration.psf.field_ellipticities import ellipticities_over_field
from dip_pipeline.restoration.psf.field_surface import PLANE, surface_through
from dip_pipeline.restoration.stars.star_shape import USUAL_SHAPE, Cutout, FittedStar, StarShape

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


def a_plane(count, seed=1):
    """Places, and two numbers of each that follow a plane."""
    places = np.random.default_rng(seed).uniform(0, 1000, (count, 2))
    across = places[:, 1] / 1000
    return places, np.stack([0.2 * across, 0.1 - 0.1 * across], axis=1)


def test_a_surface_is_that_of_the_stars_and_the_others_are_off_it():
    places, said = a_plane(24)
    told = said.copy()
    told[::4] += 1.5  # all to one side
    found = surface_through(told, places, PLANE, scatter=0.03)
    kept = (told == said).all(axis=1)
    np.testing.assert_array_equal(found.places, places[kept])
    np.testing.assert_allclose(found.values, said[kept], atol=1e-6)


def test_where_too_many_are_off_it_there_is_no_surface():
    places, said = a_plane(20)
    said[:9] += 2.0 * np.array([[1], [-1], [1]] * 3)
    assert surface_through(said, places, PLANE, scatter=0.03).chance == 1.0


def test_what_is_off_by_less_than_numbers_scatter_is_not_off():
    places, said = a_plane(12)
    said[3] += 0.02
    assert len(surface_through(said, places, PLANE, scatter=0.03).values) == 12


def test_the_chance_is_that_of_fishers_test_of_a_plane_against_a_level():
    places, _ = a_plane(30)
    said = np.random.default_rng(5).normal(0, 0.03, (30, 2)) + 4e-5 * places[:, 1:]
    found = surface_through(said, places, PLANE, scatter=0.5)
    columns = np.column_stack([np.ones(30), places])
    left = said - columns @ np.linalg.lstsq(columns, said, rcond=None)[0]
    level, plane = ((said - said.mean(axis=0)) ** 2).sum(), (left**2).sum()
    free, added = 2 * 30 - 2 * 3, 2 * 3 - 2
    ratio = ((level - plane) / added) / (plane / free)
    assert 1e-6 < found.chance < 0.5
    assert found.chance == pytest.approx(statistics.f.sf(ratio, added, free), rel=1e-6)
