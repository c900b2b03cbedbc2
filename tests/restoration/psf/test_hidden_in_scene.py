"""Stars that masked pixels hide in part, drawn where a PSF is undone."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.psf.hidden_in_scene import hidden_in_scene
from dip_pipeline.restoration.stars.hidden_stars import HiddenStar, HiddenStars, find_hidden_stars
from dip_pipeline.restoration.stars.star_shape import StarShape

SHAPE = StarShape(a=0.14, b=0.02, d=0.11, beta=3.0)
SIDE_PX = 64
NOTHING = np.zeros((SIDE_PX, SIDE_PX), bool)


def optics_of(factor):
    reach = 14 * factor
    stamp = SHAPE.widened(factor).stamp(reach)
    return Optics(factor, psf=(stamp / stamp.sum()).astype(np.float32))


def observed_of(place, height, seed=0, shape=SHAPE):
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = height * shape.at(rows - place[0], cols - place[1])
    return light + np.random.default_rng(seed).standard_normal(light.shape)


def sharp_of(place, height, factor):
    """A star of that height in the observation, as a scene has it."""
    flux = height * SHAPE.stamp(14).sum() * factor**2
    at = (np.asarray(place) + 0.5) * factor - 0.5
    rows, cols = np.indices((SIDE_PX * factor,) * 2)
    square = (rows - at[0]) ** 2 + (cols - at[1]) ** 2
    return flux * np.exp(-0.5 * square / TARGET_SIGMA_PX**2) / (2 * np.pi * TARGET_SIGMA_PX**2)


def hidden_at(place, height, hidden, factor, **more):
    observed = observed_of(place, height, **more)
    found = find_hidden_stars(observed, np.ones_like(observed), ~hidden, SHAPE)
    return found, *hidden_in_scene(found, NOTHING, optics_of(factor))


def a_column(col=32):
    hidden = NOTHING.copy()
    hidden[:, col] = True
    return hidden


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_star_under_a_bad_column_is_as_sharp_as_others_and_keeps_its_flux_and_place(factor):
    place, height = (31.3, 32.4), 2000.0
    _, _, scene = hidden_at(place, height, a_column(), factor)
    right = sharp_of(place, height, factor)
    assert scene.light.sum() == pytest.approx(right.sum(), rel=0.01)
    rows, cols = np.indices(right.shape)
    for axis in (rows, cols):
        means = [(axis * light).sum() / light.sum() for light in (scene.light, right)]
        assert means[0] == pytest.approx(means[1], abs=0.01 * factor)
    assert np.abs(scene.light - right).max() < 0.02 * right.max()


def test_the_observation_is_left_with_what_the_scene_does_not_show_of_it():
    found, kept, scene = hidden_at((31.3, 32.4), 2000.0, a_column(), 2)
    np.testing.assert_allclose(kept.light, scene.seen)
    # The shape of stars and the PSF are the same here.
    assert np.abs(kept.light - found.light).max() < 0.01 * found.light.max()
    assert kept.error is found.error


@pytest.mark.parametrize("factor", [1, 2])
def test_the_error_of_a_star_in_a_scene_is_as_large_as_it_is(factor):
    rng = np.random.default_rng(5)
    squares = []
    for seed in range(30):
        place, height = 32 + rng.uniform(-0.5, 0.5, 2), 10 ** rng.uniform(2, 3.5)
        hidden = NOTHING.copy()
        hidden[31:34, 32] = True
        scene = hidden_at(place, height, hidden, factor, seed=seed)[2]
        right = sharp_of(place, height, factor)
        lit = right > 0.1 * right.max()
        squares.append(np.mean(((scene.light - right)[lit] / scene.error[lit]) ** 2))
    # A star's shape is not known to better than two parts in a hundred: this one's is.
    assert 0.01 < np.median(squares) < 1
    assert np.mean(np.array(squares) < 3) > 0.9


def test_where_a_star_may_be_at_many_places_its_error_says_so():
    hidden = NOTHING.copy()
    hidden[29:36, 29:36] = True
    scenes = [hidden_at((32.2, 31.9), 60.0, where, 2)[2] for where in (hidden, a_column())]
    doubt = [scene.error.max() / scene.light.max() for scene in scenes]
    assert doubt[0] > 2 * doubt[1]


def hidden_star(places, chances, covariance):
    window = (slice(0, 1), slice(0, 1))
    star = HiddenStar(
        SHAPE, np.array(places), np.array(chances), covariance, window, np.zeros((1, 1))
    )
    nothing = np.zeros((SIDE_PX, SIDE_PX))
    return HiddenStars(nothing, nothing, nothing, (star,))


@pytest.mark.parametrize("factor", [1, 2])
def test_of_a_star_at_one_of_two_places_half_is_drawn_at_each_and_as_much_is_its_error(factor):
    places = [(500.0, 20.0, 30.0), (500.0, 44.0, 30.0)]
    _, scene = hidden_in_scene(
        hidden_star(places, [0.5, 0.5], np.zeros((3, 3))), NOTHING, optics_of(factor)
    )
    one = sharp_of((20.0, 30.0), 500.0, factor)
    there = one > 0.5 * one.max()
    np.testing.assert_allclose(scene.light[there], 0.5 * one[there], rtol=0.02)
    np.testing.assert_allclose(scene.error[there], 0.5 * one[there], rtol=0.02)


def test_what_is_not_known_of_the_shape_of_a_star_is_in_its_error():
    alone = hidden_star([(500.0, 20.0, 30.0)], [1.0], np.zeros((3, 3)))
    unsure = alone._replace(stars=(replace(alone.stars[0], shape_error=0.3),))
    _, scene = hidden_in_scene(unsure, NOTHING, optics_of(2))
    np.testing.assert_allclose(scene.error, 0.3 * scene.light, rtol=0.01)


@pytest.mark.parametrize("factor", [1, 2])
def test_of_a_star_the_error_is_that_of_its_height_and_place(factor):
    errors = np.array([0.1, 0.2, 0.3])  # of ln(height), row and col
    star = hidden_star([(500.0, 20.25, 30.5)], [1.0], np.diag(errors**2))
    _, scene = hidden_in_scene(star, NOTHING, optics_of(factor))
    rng, draws = np.random.default_rng(1), []
    for height, row, col in 0.1 * errors * rng.standard_normal((400, 3)):  # a tenth: to first order
        draws.append(sharp_of((20.25 + row, 30.5 + col), 500.0 * (1 + height), factor))
    right = 10 * np.std(draws, axis=0)
    lit = right > 0.3 * right.max()
    np.testing.assert_allclose(scene.error[lit], right[lit], rtol=0.15)


def test_a_star_at_a_saturated_pixel_keeps_the_shape_that_it_is_seen_with():
    """How much of its light is clipped is not known."""
    hidden = NOTHING.copy()
    hidden[31:34, 31:34] = True
    observed = observed_of((32.0, 32.0), 2000.0)
    found = find_hidden_stars(observed, np.ones_like(observed), ~hidden, SHAPE)
    assert len(found.stars) == 1
    kept, scene = hidden_in_scene(found, hidden, optics_of(2))
    assert scene is None
    assert kept is found
    beside, farther = np.roll(hidden, 3, axis=0), np.roll(hidden, 4, axis=0)  # 2 px, and 3
    assert hidden_in_scene(found, beside, optics_of(2))[1] is None
    assert hidden_in_scene(found, farther, optics_of(2))[1] is not None
    elsewhere = np.roll(hidden, 20, axis=0)
    assert hidden_in_scene(found, elsewhere, optics_of(2))[1] is not None


def test_what_is_wider_than_a_star_keeps_the_shape_that_it_is_seen_with():
    hidden = NOTHING.copy()
    hidden[31:34, 31:34] = True
    for width, height in ((1.6, 200.0), (2.0, 200.0), (1.6, 1000.0)):
        found, _, scene = hidden_at((32.0, 32.0), height, hidden, 1, shape=SHAPE.widened(width))
        assert found.light.max() == pytest.approx(height, rel=0.4)
        assert scene is None


def test_a_star_beyond_the_border_is_drawn_as_far_as_it_reaches():
    hidden = NOTHING.copy()
    hidden[:2] = True
    place = (-0.4, 30.2)
    scene = hidden_at(place, 3000.0, hidden, 2)[2]
    right = sharp_of(place, 3000.0, 2)
    assert np.abs(scene.light - right).max() < 0.2 * right.max()
