"""Figures are those of their definitions."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from benchmarks.fields import FieldKind, draw
from benchmarks.figures import judge, new_peaks
from benchmarks.restored import Restored, RiskEstimate


@lru_cache
def field(kind):
    return draw(FieldKind(kind), 1, side_px=128)


def off_by(kind, share, **more):
    """The truth plus white errors of a share of sigma."""
    truth = field(kind).truth
    errors = share * np.random.default_rng(2).standard_normal(truth.level.shape)
    return Restored((truth.level + truth.sigma * errors).astype(np.float32), 1.0, **more)


def test_residual_noise_counts_flagged_pixels_and_says_how_many():
    crowded, restored = field("crowded"), off_by("crowded", 0.3)
    restored.science[crowded.masked] += crowded.truth.sigma[crowded.masked]
    figures = judge(crowded, restored)
    share = crowded.masked.mean()
    assert figures.flagged_share == pytest.approx(share)
    assert figures.unflagged == pytest.approx(0.3, abs=0.01)
    assert figures.residual == pytest.approx(np.sqrt(0.09 + share), abs=0.02)


def test_noise_of_the_truth_itself_is_taken_off_in_quadrature():
    own = replace(field("noise"), own_sigma=0.1 * field("noise").truth.sigma)
    assert judge(own, off_by("noise", 0.3)).residual == pytest.approx(np.sqrt(0.08), abs=0.01)


def test_pixels_without_an_error_are_left_out_of_the_coverage_and_counted():
    crowded = field("crowded")
    error = 0.3 * crowded.truth.sigma
    error[crowded.masked] = np.nan
    covered = judge(crowded, off_by("crowded", 0.3, error=error)).covered
    assert covered.overall == pytest.approx(0.683, abs=0.02)
    assert min(covered.tenths) > 0.62
    assert covered.unclaimed == pytest.approx(crowded.masked.mean())


@pytest.mark.parametrize(("estimated", "honest"), [(0.09, True), (0.13, False), (0.05, False)])
def test_an_estimate_is_held_against_its_uncertainty(estimated, honest):
    # N = 16384: 3 sqrt(2 / N) is 0.033.
    risk = RiskEstimate(estimated, 0.001)
    check = judge(field("noise"), off_by("noise", 0.3, risk=risk)).risk
    assert check.true == pytest.approx(0.09, abs=0.004)
    assert (check.share <= 1) is honest


def with_star(image, noise_field, flux_sigma, place):
    """Add a star of so many sigma of the matched filter."""
    side = np.arange(-12, 13.0)
    psf = noise_field.psf.density(side[:, None], side[None, :])
    sigma = float(noise_field.truth.sigma[0, 0])
    image = image.copy()
    row, col = place
    image[row - 12 : row + 13, col - 12 : col + 13] += (
        flux_sigma * sigma * psf / np.sqrt((psf**2).sum())
    )
    return image


def test_invented_stars_are_peaks_and_stars_of_the_input_are_not():
    noise = field("noise")
    sky = noise.truth.level.copy()
    assert new_peaks(noise, sky) == 0
    invented = with_star(sky, noise, 8.0, (40, 50))
    assert new_peaks(noise, invented) == 1
    assert new_peaks(noise, with_star(sky, noise, 3.0, (40, 50))) == 0
    seen = replace(noise, observed=with_star(noise.observed, noise, 9.0, (41, 50)))
    assert new_peaks(seen, invented) == 0
