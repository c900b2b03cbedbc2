import math

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.fits.stopping import (
    JudgedRisk,
    MovingVariance,
    VarianceValley,
    structure_left,
)
from dip_pipeline.restoration.problem import FitOptions, InputKind, StopReason
from dip_pipeline.restoration.restore import restore


def follow(rule, measures, every=1):
    """Step and reason of the look that stops; None if none does."""
    for look, measure in enumerate(measures, start=1):
        reason = rule.update(look * every, measure)
        if reason is not None:
            return look * every, reason
    return None


def test_the_least_judged_risk_is_kept_and_patience_ends_the_fit():
    rule = JudgedRisk(patience=3)
    assert follow(rule, [1.0, 0.4, 0.6, 0.3, 0.5, 0.4, 0.3, 0.1]) == (7, StopReason.JUDGED_RISK)
    assert rule.best_step == 4


def test_a_new_minimum_renews_the_patience():
    rule = JudgedRisk(patience=2)
    assert follow(rule, [1.0, 2.0, 0.9, 2.0, 0.8, 2.0]) is None
    assert rule.best_step == 5


@pytest.mark.parametrize("rule", [JudgedRisk(patience=3), VarianceValley(patience_steps=3)])
def test_a_measure_that_is_no_number_ends_the_fit(rule):
    assert rule.update(1, math.nan) is StopReason.DIVERGED


def test_an_infinite_risk_ends_the_fit():
    assert JudgedRisk(patience=3).update(1, math.inf) is StopReason.DIVERGED


@pytest.mark.parametrize("rule", [JudgedRisk(patience=3), VarianceValley(patience_steps=3)])
def test_before_any_look_there_is_no_best_step(rule):
    assert rule.best_step is None


def valley(step, bottom):
    """A variance that falls to its least at `bottom` and rises again, on a logarithmic scale."""
    return 1e-3 * (1 + np.log(step / bottom) ** 2)


@pytest.mark.parametrize("bottom", [130, 500, 1000])
def test_the_bottom_of_a_valley_is_kept_however_early(bottom):
    rule = VarianceValley(patience_steps=300)
    looks = (valley(step, bottom) for step in range(5, 2000, 5))
    assert follow(rule, looks, every=5) == (bottom + 300, StopReason.RUNNING_VARIANCE)
    assert rule.best_step == bottom


def test_a_false_valley_before_the_image_is_learned_does_not_count():
    """Deep and wider than the patience, between coarse and fine structure."""
    rule = VarianceValley(patience_steps=300)
    looks = [0.1 * valley(step, 200) if step > 600 else math.inf for step in range(5, 600, 5)] + [
        valley(step, 1000) for step in range(600, 2000, 5)
    ]
    assert follow(rule, looks, every=5) == (1300, StopReason.RUNNING_VARIANCE)
    assert rule.best_step == 1000


def test_a_second_valley_where_the_optimiser_rests_comes_too_late():
    rule = VarianceValley(patience_steps=300)
    looks = [valley(step, 200) for step in range(5, 1000, 5)] + [0.0] * 200
    assert follow(rule, looks, every=5) == (500, StopReason.RUNNING_VARIANCE)


def test_looks_that_never_count_leave_the_fit_to_its_end():
    rule = VarianceValley(patience_steps=10)
    assert follow(rule, [math.inf] * 50) is None
    assert rule.best_step is None


def outputs(count=40, scatter=0.3):
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(50, generator=generator)
    return [base + scatter * torch.randn(50, generator=generator) for _ in range(count)]


def test_the_moving_variance_follows_its_recursion_and_settles_on_the_scatter():
    drawn, variance = outputs(count=400), MovingVariance(share=0.1)
    found = [variance.update(output) for output in drawn]
    mean, wanted = drawn[0].numpy(), 0.0
    for output in drawn:
        change = output.numpy() - mean
        mean = mean + 0.1 * change
        wanted = 0.9 * (wanted + 0.1 * np.mean(change**2))
    assert found[-1] == pytest.approx(wanted, rel=1e-4)
    assert math.isinf(found[0])
    # Variance 0.09; the moving mean itself scatters, which adds a / (2 - a) and takes (1 - a).
    assert np.mean(found[100:]) == pytest.approx(0.09 * 0.9 * 2 / 1.9, rel=0.05)


def test_outputs_that_stay_the_same_have_no_variance_and_bad_ones_no_number():
    variance = MovingVariance(0.4)
    for _ in range(9):
        found = variance.update(torch.ones(7))
    assert found == pytest.approx(0, abs=1e-12)
    assert math.isnan(variance.update(torch.full((7,), math.nan)))


def test_white_residuals_hold_no_structure_and_smooth_ones_do():
    generator = torch.Generator().manual_seed(1)
    white = torch.randn(1, 1, 128, 128, generator=generator)
    trusted = torch.ones_like(white)
    assert abs(structure_left(white, trusted)) < 0.03
    shapes = torch.nn.functional.avg_pool2d(white, 3, stride=1, padding=1)
    assert structure_left(shapes, trusted) > 0.5
    assert structure_left(white - shapes, trusted) < -0.05  # noise that was followed
    star = white.clone()
    star[..., 60:63, 60:63] += 1e4  # one bright core is not an image that is not learned
    assert structure_left(star, trusted) < 0.05


def test_masked_pixels_have_no_say_in_the_structure():
    generator = torch.Generator().manual_seed(1)
    white = torch.randn(1, 1, 64, 64, generator=generator)
    trusted = torch.ones_like(white)
    trusted[..., 20:40] = 0
    spoilt = torch.where(trusted > 0, white, 100.0)
    assert structure_left(spoilt, trusted) == structure_left(white * trusted, trusted)
    assert structure_left(white, torch.zeros_like(white)) == 0


@pytest.fixture(scope="module")
def empty_sky(problem, law):
    """Noise of unknown strength, fitted for many more steps than are good for it."""
    pixels = np.random.default_rng(1).normal(200.0, 10.0, (32, 32))
    options = FitOptions(input=InputKind.CODE, steps=450, flux_scale_px=0)
    return restore(problem(pixels, law.none, options=options))


def test_a_blind_fit_of_empty_sky_stops_before_it_follows_the_noise(empty_sky):
    outcome = empty_sky.outcome
    assert outcome.stop_reason is StopReason.RUNNING_VARIANCE
    assert 300 < outcome.steps < 450
    assert np.sqrt(np.mean((empty_sky.science - 200.0) ** 2)) < 5.0  # after 450 steps: above 6


def test_a_blind_fit_that_has_not_learned_its_image_goes_on_to_the_end(problem, law):
    rows, cols = np.mgrid[:48, :48]
    rings = 2000 * np.cos(np.hypot(rows - 20, cols - 24) ** 1.3 / 3)
    noise = np.random.default_rng(1).normal(0, 10.0, (48, 48))
    options = FitOptions(input=InputKind.CODE, steps=60, flux_scale_px=0)
    outcome = restore(problem(rings + noise, law.none, options=options)).outcome
    assert (outcome.stop_reason, outcome.steps) == (StopReason.STEP_LIMIT, 60)


def test_looks_that_get_worse_little_by_little_do_not_win_for_ever():
    rule = JudgedRisk(patience=10, tolerance=0.05)
    for step, risk in enumerate((1.0, 1.04, 1.08, 1.12)):
        rule.update(step, risk)
    assert rule.best_step == 1


def test_an_output_that_is_written_over_is_another_one():
    variance, output = MovingVariance(0.5), torch.zeros(1, 1, 4, 4)
    for _ in range(5):
        found = variance.update(output)
        output += 2.0
    assert found > 1.0
