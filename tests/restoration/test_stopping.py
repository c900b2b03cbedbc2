import math

import pytest

from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.restoration.stopping import FixedSteps, JudgedRisk


def follow(rule, risks):
    """Reasons of all looks, up to the first that stops."""
    for step, risk in enumerate(risks, start=1):
        reason = rule.update(step, risk)
        if reason is not None:
            return step, reason
    return None


def test_fixed_steps_go_on_whatever_the_risk_does():
    rule = FixedSteps()
    assert follow(rule, [1.0, 0.5, 2.0, 9.0]) is None
    assert rule.best_step == 4


def test_the_least_judged_risk_is_kept_and_patience_ends_the_fit():
    rule = JudgedRisk(patience=3)
    assert follow(rule, [1.0, 0.4, 0.6, 0.3, 0.5, 0.4, 0.3, 0.1]) == (7, StopReason.JUDGED_RISK)
    assert rule.best_step == 4


def test_a_new_minimum_renews_the_patience():
    rule = JudgedRisk(patience=2)
    assert follow(rule, [1.0, 2.0, 0.9, 2.0, 0.8, 2.0]) is None
    assert rule.best_step == 5


@pytest.mark.parametrize("rule", [FixedSteps(), JudgedRisk(patience=3)])
@pytest.mark.parametrize("risk", [math.nan, math.inf])
def test_a_risk_that_is_no_number_ends_the_fit(rule, risk):
    assert rule.update(1, risk) is StopReason.DIVERGED


def test_before_any_look_there_is_no_best_step():
    assert FixedSteps().best_step is None
    assert JudgedRisk(patience=3).best_step is None
