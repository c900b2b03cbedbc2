"""Surfaces have the terms that values ask for, no more, and mind no outliers."""

import numpy as np
import pytest

from dip_pipeline.registration import Surface, fit_surface

_OVER = slice(100, 340), slice(0, 600)
_MIDDLE = 219.5, 299.5


def _places(rows=8, cols=8):
    row = np.linspace(110, 330, rows)
    col = np.linspace(10, 590, cols)
    return np.stack(np.meshgrid(row, col, indexing="ij"), axis=-1).reshape(-1, 2)


def _height(places, slopes=(0.0, 0.0), bend=0.0):
    u, v = (places[:, 0] - _MIDDLE[0]) / 120, (places[:, 1] - _MIDDLE[1]) / 300
    return slopes[0] * u + slopes[1] * v + bend * v**2


@pytest.mark.parametrize(
    ("slopes", "bend", "terms"), [((0, 0), 0, 0), ((3, -2), 0, 2), ((3, -2), 5, 5), ((0, 0), 5, 5)]
)
@pytest.mark.parametrize("unit", [1.0, 1e-25])
def test_a_surface_has_the_terms_that_values_ask_for(slopes, bend, terms, unit):
    places = _places()
    noise = 0.3 * np.random.default_rng(terms).standard_normal(len(places))
    height = _height(places, slopes, bend)
    level, surface = fit_surface(
        places, unit * (7.0 + height + noise), np.full(len(places), 0.3 * unit), _OVER
    )
    assert len(surface.terms) == terms
    assert surface.is_level == (terms == 0)
    assert level == pytest.approx(7 * unit, abs=0.3 * unit)
    found = surface.at(places[:, 0], places[:, 1])
    np.testing.assert_allclose(found / unit, height, atol=0.7)
    np.testing.assert_allclose(surface.at(*_MIDDLE), 0.0)
    np.testing.assert_allclose(surface.times(1 / unit).at(3.0, 4.0), surface.at(3.0, 4.0) / unit)


def test_noise_hardly_ever_looks_like_a_slope():
    places, errors = _places(), np.ones(64)
    rng = np.random.default_rng(1)
    found = [fit_surface(places, rng.standard_normal(64), errors, _OVER)[1] for _ in range(100)]
    assert sum(not surface.is_level for surface in found) <= 2


def test_what_lies_far_off_does_not_bend_a_surface():
    """A galaxy, a trail: a quarter of the places."""
    places = _places()
    values = _height(places, (3, -2)) + 0.1 * np.random.default_rng(2).standard_normal(64)
    values[(places[:, 0] > 220) & (places[:, 1] > 300)] += 40.0
    level, surface = fit_surface(places, values, np.full(64, 0.1), _OVER)
    np.testing.assert_allclose(
        level + surface.at(places[:, 0], places[:, 1]), _height(places, (3, -2)), atol=0.5
    )


@pytest.mark.parametrize(("rows", "cols", "terms"), [(3, 3, 2), (2, 9, 0), (1, 1, 0)])
def test_few_places_tell_few_terms(rows, cols, terms):
    places = _places(rows, cols)
    values = _height(places, (30, -20), 50)
    _, surface = fit_surface(places, values, np.full(len(places), 5.0), _OVER)
    assert len(surface.terms) == terms


def test_nothing_tells_nothing():
    level, surface = fit_surface(np.zeros((0, 2)), np.zeros(0), np.zeros(0), _OVER)
    assert np.isnan(level)
    assert surface == Surface((219.5, 299.5), (120.0, 300.0))
