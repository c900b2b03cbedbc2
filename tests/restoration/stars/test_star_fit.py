"""Laws of the fit of a single star."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from dip_pipeline.restoration.stars.star_shape import _Seen, _shape_of, fit_star

SIDE = 25


def seen_at(terms, *, noise=0.0):
    """A stamp that shows the star of these terms, and the stamp's pixels as they are fitted."""
    rows, cols = (grid.astype(float).ravel() for grid in np.mgrid[-6:7, -6:7])
    blank = _Seen(rows, cols, np.zeros_like(rows), np.ones_like(rows))
    light = blank.misfit(terms) + np.random.default_rng(3).normal(0, noise, rows.shape)
    return light.reshape(13, 13), _Seen(rows, cols, light, np.full_like(rows, 0.02))


@pytest.mark.parametrize("narrow", [0.0, 2.0])
def test_changes_of_the_misfit_are_its_slopes(narrow):
    """For few nodes in a pixel, and for the more that narrow stars take."""
    terms = np.array([1.2, 0.3, -0.4, 0.1, -1.6 + narrow, -1.9 + narrow, 0.3, 0.9])
    _, seen = seen_at(np.array([1.0, 0.2, -0.1, 0.0, -1.5, -1.5, 0.1, 1.0]))
    slopes = approx_fprime(terms, seen.misfit, 1e-7)
    assert np.allclose(seen.changes(terms), slopes, atol=1e-4 * np.abs(slopes).max())


@pytest.mark.parametrize("flux_unit", [1.0, 1e-12, 1e9])
def test_a_star_is_found_as_it_was_drawn_in_any_unit(flux_unit):
    terms = np.array([1.0, 0.31, -0.22, 0.05, -1.6, -1.2, 0.4, 1.1])
    stamp, _ = seen_at(terms)
    frame = np.full((SIDE, SIDE), terms[3])
    frame[6:19, 6:19] = stamp
    found = fit_star(frame * flux_unit, np.full_like(frame, 1e-3 * flux_unit), (12, 12))
    assert found.cutout.place == pytest.approx((0.31, -0.22), abs=1e-3)
    assert found.height == pytest.approx(flux_unit, rel=1e-3)
    assert found.cutout.around == pytest.approx(0.05 * flux_unit, rel=1e-2)
    assert found.shape.fwhm_px == pytest.approx(_shape_of(terms).fwhm_px, rel=1e-3)
    assert found.shape.beta == pytest.approx(np.exp(1.1), rel=1e-2)
