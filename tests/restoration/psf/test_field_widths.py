"""Stars that are wider at one end of the field are told; of one width they are not."""

import numpy as np
import pytest

from dip_pipeline.restoration.psf.field_widths import widths_over_field
from dip_pipeline.restoration.stars.star_shape import USUAL_SHAPE, Cutout, FittedStar

NOTHING = np.zeros(0)
UNSEEN = Cutout(NOTHING, NOTHING, NOTHING, NOTHING, (0.0, 0.0), 0.0)


def stars(widths_of, *, count=24, scatter=0.02, galaxies=0, seed=1):
    """Stars whose widths are the usual one times a function of place (0 to 1); and galaxies."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 400, (count, 2))
    times = widths_of(*(places / 400).T) * np.exp(scatter * rng.standard_normal(count))
    times[:galaxies] *= rng.uniform(1.1, 3, galaxies)
    return [
        FittedStar(USUAL_SHAPE.widened(float(width)), 100.0, UNSEEN, (int(row), int(col)))
        for width, (row, col) in zip(times, places, strict=True)
    ]


def one_width(rows, cols):
    return np.ones_like(rows)


@pytest.mark.parametrize("galaxies", [0, 8])
@pytest.mark.parametrize("seed", range(8))
def test_stars_of_one_width_are_not_told(seed, galaxies):
    assert widths_over_field(stars(one_width, galaxies=galaxies, seed=seed)) is None


@pytest.mark.parametrize("galaxies", [0, 6])
def test_stars_that_widen_to_one_side_are(galaxies):
    found = widths_over_field(stars(lambda _, cols: 0.9 + 0.25 * cols, galaxies=galaxies))
    assert found is not None
    usual_px = USUAL_SHAPE.fwhm_px
    assert found.narrowest_px == pytest.approx(0.9 * usual_px, rel=0.04)
    assert found.widest_px == pytest.approx(1.15 * usual_px, rel=0.04)
    assert found.narrowest_at[1] < 60
    assert found.widest_at[1] > 340


def test_so_are_stars_that_widen_towards_all_corners():
    found = widths_over_field(
        stars(lambda rows, cols: 0.9 + 0.6 * ((rows - 0.5) ** 2 + (cols - 0.5) ** 2), count=30)
    )
    assert found is not None
    assert found.widest_px > 1.15 * found.narrowest_px
    assert np.hypot(*(np.array(found.narrowest_at) - 200)) < 100


def test_few_stars_tell_nothing():
    assert widths_over_field(stars(lambda _, cols: 0.8 + 0.5 * cols, count=8)) is None
    assert widths_over_field([]) is None
