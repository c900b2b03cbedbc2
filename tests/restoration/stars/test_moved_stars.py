"""Stars that are moved within a field: nothing else of it changes, and they are alone again."""

import numpy as np

from dip_pipeline.restoration.stars.moved_stars import DrawnStar, move_stars
from dip_pipeline.restoration.stars.star_shape import USUAL_SHAPE

SIDE_PX = 120


def a_field(places, height=200.0, reach_px=8):
    light = np.zeros((SIDE_PX, SIDE_PX))
    stars = []
    for row, col in places:
        stars.append(DrawnStar((row, col), height * USUAL_SHAPE.stamp(reach_px)))
        rows, cols = (slice(at - reach_px, at + reach_px + 1) for at in (row, col))
        light[rows, cols] += stars[-1].light
    return light, stars


def test_light_is_moved_and_none_is_lost():
    light, stars = a_field([(30, 40), (70, 90)])
    trusted = np.ones(light.shape, bool)
    moved = move_stars(light, np.ones_like(light), trusted, stars)
    expected, _ = a_field(moved.places)
    np.testing.assert_allclose(moved.light, expected, atol=1e-9)
    assert not set(moved.places) & {(30, 40), (70, 90)}


def test_the_noise_of_their_light_goes_with_them():
    light, stars = a_field([(30, 40)])
    sigma = np.sqrt(1 + light)
    moved = move_stars(light, sigma, np.ones(light.shape, bool), stars)
    row, col = moved.places[0]
    assert moved.sigma[row, col] > 0.8 * sigma[30, 40]
    left = moved.light - a_field(moved.places)[0]
    assert 3 < np.std(left[row - 2 : row + 3, col - 2 : col + 3]) < 15


def test_they_come_to_lie_where_nothing_is_masked_or_brighter():
    light, stars = a_field([(30, 40), (60, 60), (90, 20)])
    light[:, 70:] += 1000.0 * np.eye(SIDE_PX)[:, :50]
    trusted = np.ones(light.shape, bool)
    trusted[:, :45] = False
    moved = move_stars(light, np.ones_like(light), trusted, stars)
    assert moved.places
    for row, col in moved.places:
        near = slice(row - 6, row + 7), slice(col - 6, col + 7)
        assert trusted[near].all()
        assert moved.light[near].max() == moved.light[row, col]


def test_without_a_free_place_none_is_moved():
    light, stars = a_field([(30, 40)])
    assert move_stars(light, np.ones_like(light), np.zeros(light.shape, bool), stars).places == ()


def test_stars_of_a_psf_that_reaches_less_far_than_they_are_alone_are_moved_too():
    light, stars = a_field([(30, 40), (70, 90)], reach_px=4)
    moved = move_stars(light, np.ones_like(light), np.ones(light.shape, bool), stars)
    assert len(moved.places) == 2
    expected, _ = a_field(moved.places, reach_px=4)
    np.testing.assert_allclose(moved.light, expected, atol=1e-9)


def test_few_places_are_alone_and_no_other_is_taken():
    """A slope everywhere but in a corner, and a masked column in that."""
    light, stars = a_field([(row, 110) for row in (8, 20, 32, 44, 56, 68, 80, 92)])
    slope = 500.0 * np.maximum(np.indices(light.shape).max(axis=0) - 60, 0)
    trusted = np.ones(light.shape, bool)
    trusted[:, 30] = False
    moved = move_stars(light + slope, np.ones_like(light), trusted, stars)
    assert len(moved.places) > 2
    for row, col in moved.places:
        assert max(row, col) < 61
        assert abs(col - 30) > 6


def test_of_a_star_beside_the_calmest_sky_no_noise_is_taken_away():
    """What is as noisy as the sky usually is, or less, is not made so by a star's light."""
    light, stars = a_field([(30, 12), (80, 12)])
    sigma = np.ones(light.shape)
    sigma[:, :40] = 0.2
    moved = move_stars(light, sigma, np.ones(light.shape, bool), stars)
    assert len(moved.places) == 2
    np.testing.assert_array_equal(moved.sigma, sigma)
    np.testing.assert_allclose(moved.light, a_field(moved.places)[0], atol=1e-9)


def test_the_noise_of_pixels_that_are_masked_is_nobodys():
    """More than half are, and very noisy: a star brings the noise of its own light all the same."""
    light, stars = a_field([(60, 20)])
    sigma = np.sqrt(1 + light)
    trusted = np.ones(light.shape, bool)
    trusted[:, 50:] = False
    sigma[:, 50:] = 1e4
    moved = move_stars(light, sigma, trusted, stars)
    row, col = moved.places[0]
    assert col < 45
    assert moved.sigma[row, col] == np.sqrt(sigma[60, 20] ** 2 - 1 + sigma[row, col] ** 2)


def test_of_a_star_at_an_edge_its_part_within_is_taken_off():
    for row, col in ((2, 60), (60, 3), (SIDE_PX - 2, 60), (60, SIDE_PX - 3)):
        rows, cols = np.indices((SIDE_PX, SIDE_PX))
        light = 200.0 * USUAL_SHAPE.at(rows - row, cols - col)
        light[np.hypot(rows - row, cols - col) > 8] = 0.0
        offsets = np.indices((17, 17)) - 8
        stamp = np.where(np.hypot(*offsets) > 8, 0.0, 200.0 * USUAL_SHAPE.stamp(8))
        star = DrawnStar((row, col), stamp)
        moved = move_stars(light, np.ones_like(light), np.ones(light.shape, bool), [star])
        (at,) = moved.places
        expected = 200.0 * USUAL_SHAPE.at(rows - at[0], cols - at[1])
        expected[np.hypot(rows - at[0], cols - at[1]) > 8] = 0.0
        np.testing.assert_allclose(moved.light, expected, atol=1e-9)


def test_no_star_is_moved_to_an_edge():
    """There only part of it would show, and what is beside it nobody knows."""
    places = [(row, col) for row in range(12, 110, 16) for col in range(12, 110, 16)]
    light, stars = a_field(places)
    moved = move_stars(light, np.ones_like(light), np.ones(light.shape, bool), stars)
    assert len(moved.places) > 30
    assert np.min(moved.places) >= 6
    assert np.max(moved.places) < SIDE_PX - 6
