"""Laws of a crowded field after a short fit, which all of them look at."""

import numpy as np
import pytest

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.restore import restore


def test_flags_say_what_was_done_to_each_pixel(crowded):
    asked, restored = crowded.problem, crowded.restored
    filled = restored.flags & PixelFlag.FILLED != 0
    np.testing.assert_array_equal(filled, asked.masked)
    alone = restored.flags & PixelFlag.SATURATED != 0
    np.testing.assert_array_equal(alone, asked.saturated)
    assert alone.any()
    assert restored.science[alone].tobytes() == asked.pixels[alone].tobytes()
    assert np.isnan(restored.error[alone]).all()
    assert np.isfinite(restored.science).all()
    assert not (restored.flags & PixelFlag.TILE_FAILED).any()


def test_masked_pixels_are_filled_from_their_surroundings(crowded):
    asked, simulation = crowded.problem, crowded.simulation
    wrong = (crowded.restored.science - simulation.truth_dn) / simulation.sigma_true_dn
    before = (simulation.observed_dn - simulation.truth_dn) / simulation.sigma_true_dn
    assert np.median(np.abs(wrong[asked.masked])) < 0.3 * np.median(np.abs(before[asked.masked]))


def test_the_noise_is_less_than_before(crowded):
    judged = ~crowded.simulation.masked
    wrong = crowded.restored.science - crowded.simulation.truth_dn
    before = crowded.simulation.observed_dn - crowded.simulation.truth_dn
    assert np.std(wrong[judged]) < 0.6 * np.std(before[judged])


def test_the_estimated_risk_of_a_field_agrees_with_the_truth(crowded):
    outcome = crowded.restored.outcome
    assert outcome.risk == pytest.approx(crowded.true_risk, abs=4 * outcome.risk_error)
    assert outcome.risk_error < 0.02
    assert outcome.risk < 0.4


def test_the_error_plane_is_of_the_size_of_the_errors(crowded):
    simulation, restored = crowded.simulation, crowded.restored
    judged = ~simulation.masked & ~simulation.saturated
    wrong = np.abs(restored.science - simulation.truth_dn)[judged]
    error = restored.error[judged]
    assert np.isfinite(error).all()
    assert 0.4 < np.mean(wrong < error) < 0.85
    large = error > np.median(error)
    assert np.median(wrong[large]) > 1.2 * np.median(wrong[~large])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 7)])
def test_a_prior_restores_regions_of_any_size(crowded, problem, law, shape):
    pixels = np.random.default_rng(1).normal(100.0, 10.0, shape)
    restored = restore(problem(pixels, law.sensor()), crowded.prior)
    assert restored.science.shape == shape
    assert np.isfinite(restored.science).all()
