"""Verdicts follow from the results, and from all of them."""

import numpy as np
import pytest

from benchmarks.fields import SIMULATED, FieldKind
from benchmarks.figures import Figures, RiskCheck
from benchmarks.measurements import Measurements
from benchmarks.measuring import Part, Result
from benchmarks.restored import TracePoint
from benchmarks.targets import TARGETS, verdicts
from dip_pipeline.quality import FluxOffsets


def result(method, kind, residual=0.1, *, seed=1, part=Part.FIELDS, **more):
    effort = "normal" if method.startswith("dip") else None
    figures = Figures(residual, 0.01, residual, residual, (), risk=more.pop("risk", None))
    more.setdefault("seconds", 10.0)
    return Result(part, FieldKind(kind), seed, 512, method, effort, figures=figures, **more)


def verdict(start, *results, effort="normal"):
    (found,) = (
        each
        for each in verdicts(Measurements(results, effort))
        if each.target.figure.startswith(start)
    )
    return found


def test_every_target_is_at_least_as_hard_to_go_for_as_to_reach():
    for target in TARGETS:
        assert target.must[0] <= target.goal[0] <= target.goal[1] <= target.must[1]


def test_nothing_is_measured_where_nothing_was_run():
    assert {each.word for each in verdicts(Measurements([], "normal"))} == {"not measured"}


@pytest.mark.parametrize(
    ("residuals", "word", "worst"),
    [((0.1, 0.1, 0.1), "goal", "goal"), ((0.1, 0.1, 0.16), "reached", "reached")],
)
def test_the_mean_and_the_worst_are_of_ratios_field_by_field(residuals, word, worst):
    ours = [result("dip-open", kind, r) for kind, r in zip(SIMULATED, residuals, strict=True)]
    bm3d = [result("bm3d", kind, 0.2) for kind in SIMULATED]
    mean = verdict("residual noise / VST-BM3D's, closure off: mean", *ours, *bm3d)
    assert mean.word == word
    assert mean.values == pytest.approx((sum(residuals) / 0.6,))
    assert verdict("residual noise / VST-BM3D's, closure off: worst", *ours, *bm3d).word == worst


def test_a_mean_over_fewer_fields_is_no_mean():
    few = [result(method, "crowded") for method in ("dip-open", "bm3d")]
    assert verdict("residual noise / VST-BM3D's, closure off: mean", *few).word == "not measured"


def test_seeds_are_averaged_and_other_efforts_left_out():
    results = [
        result("dip-open", "correlated", 0.1, seed=1),
        result("dip-open", "correlated", 0.3, seed=3),
        result("bm3d", "correlated", 0.2, seed=1),
        result("bm3d", "correlated", 0.4, seed=3),
    ]
    assert verdict("residual noise / BM3D's told", *results).values == pytest.approx((0.625,))
    assert not verdict("residual noise / BM3D's told", *results, effort="best").values


def test_the_worst_estimate_counts():
    honest, wrong = RiskCheck(0.01, 0.001, 0.011, 0.01), RiskCheck(0.01, 0.001, 0.05, 0.01)
    results = [result("dip", kind, risk=r) for kind, r in (("crowded", honest), ("noise", wrong))]
    found = verdict("|estimated - true| mean square / allowed: worst", *results)
    assert found.word == "missed"
    assert found.values == pytest.approx((4.0,))


def test_stars_of_all_fields_and_of_extra_ones_are_pooled():
    few = FluxOffsets(np.full(3, 7.0), np.array([-0.1, -0.1, -0.1]))
    many = FluxOffsets(np.full(9, 7.0), np.full(9, -0.02))
    results = [
        result("dip", "galaxies", offsets=few),
        result("dip", "crowded", part=Part.STARS, offsets=many),
        result("bm3d", "crowded", offsets=few),
    ]
    assert verdict("flux bias at S/N 5-10", *results).values == pytest.approx((-0.02,))
    assert verdict("flux bias at S/N 10-30", *results).word == "not measured"


def race(method, *points):
    trace = tuple(TracePoint(*point) for point in points)
    return result(method, "galaxies", part=Part.RACE, trace=trace)


def test_the_race_is_to_the_least_of_the_papers_network():
    ours = race("dip-watched", (1, 0.5), (2, 0.3), (3, 0.2), (4, 0.21))
    paper = race("paper", (20, 0.5), (40, 0.3), (60, 0.4))
    assert verdict("code input: time", ours, paper).values == pytest.approx((2 / 40,))
    assert verdict("code input, 256 px", ours).values == pytest.approx((1.05,))
    slow = race("dip-watched", (1, 0.5), (2, 0.4))
    assert verdict("code input: time", slow, paper).word == "missed"
