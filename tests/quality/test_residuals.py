"""Residual noise, chi-square and coverage measure what their definitions say."""

import numpy as np
import pytest

from dip_pipeline.errors import ConfigError
from dip_pipeline.quality import Evidence, chi_square, coverage, residual_noise


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_residual_noise_of_the_truth_is_0_and_of_known_errors_their_size(rng):
    truth = rng.uniform(100, 1000, (200, 200))
    sigma = np.sqrt(truth)
    assert residual_noise(truth, truth, sigma).rms == 0
    wrong = truth + 0.3 * sigma * rng.standard_normal(truth.shape)
    assert residual_noise(wrong, truth, sigma).rms == pytest.approx(0.3, rel=0.02)


def test_residual_noise_counts_flagged_pixels_and_leaves_saturated_ones_out():
    truth, sigma = np.zeros((10, 10)), np.ones((10, 10))
    restored, masked, saturated = truth.copy(), truth > 1, truth > 1
    restored[0, 0], masked[0, 0] = 3.0, True  # flagged: counted
    restored[1, 1], saturated[1, 1] = 500.0, True  # saturated: not
    found = residual_noise(restored, truth, sigma, saturated=saturated, masked=masked)
    assert found.pixels == 99
    assert found.rms == pytest.approx(np.sqrt(9 / 99))
    assert found.flagged_share == pytest.approx(1 / 99)


def test_a_restored_pixel_that_is_not_finite_is_not_passed_over():
    truth = np.zeros((5, 5))
    restored = truth.copy()
    restored[2, 2] = np.nan
    assert np.isnan(residual_noise(restored, truth, truth + 1).rms)


def test_chi_square_of_pure_noise_is_1_and_masked_pixels_do_not_count(rng):
    residual = rng.standard_normal((300, 300))
    residual[:10] = np.nan
    assert chi_square(residual) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(chi_square(np.full((3, 3), np.nan)))


def test_coverage_of_exact_gaussian_errors_is_68_percent_in_every_tenth(rng):
    error = np.exp(rng.normal(0, 1, (400, 400)))
    restored = error * rng.standard_normal(error.shape)
    found = coverage(restored, np.zeros_like(error), error)
    assert found.overall == pytest.approx(0.683, abs=0.005)
    assert len(found.tenths) == 10
    for tenth in found.tenths:
        assert tenth.share == pytest.approx(0.683, abs=0.015)


def test_a_constant_error_plane_passes_overall_and_fails_in_parts(rng):
    true_error = np.where(np.arange(400)[:, None] < 200, 0.5, 2.0) * np.ones((400, 400))
    restored = true_error * rng.standard_normal(true_error.shape)
    level = np.percentile(np.abs(restored), 68.3)
    constant = np.full_like(true_error, level)
    quiet = true_error < 1
    truth = np.zeros_like(restored)
    assert coverage(restored, truth, constant).overall == pytest.approx(0.683, abs=0.01)
    assert coverage(restored, truth, constant, where=quiet).overall > 0.9
    assert coverage(restored, truth, constant, where=~quiet).overall < 0.5


def test_the_tenths_are_ordered_by_error_and_share_all_pixels(rng):
    error = rng.uniform(1, 2, (31, 17))
    tenths = coverage(error, error, error).tenths
    assert sum(tenth.pixels for tenth in tenths) == error.size
    lows = [tenth.error_low for tenth in tenths]
    assert lows == sorted(lows)


def test_coverage_of_no_pixels_is_nan_and_not_a_crash():
    nothing = np.zeros((4, 4), bool)
    assert np.isnan(
        coverage(np.ones((4, 4)), np.ones((4, 4)), np.ones((4, 4)), where=nothing).overall
    )


def test_evidence_of_unequal_shapes_is_refused_with_one_line():
    with pytest.raises(ConfigError) as caught:
        Evidence(np.zeros((4, 4)), np.zeros((4, 5)), np.ones((4, 4)))
    assert "\n" not in str(caught.value)
