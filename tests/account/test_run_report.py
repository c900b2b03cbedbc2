"""What nobody should miss of a run is logged."""

import logging
import math
from types import SimpleNamespace

import pytest

from dip_pipeline.account.record import RunFacts, pooled_risk, risk_of
from dip_pipeline.account.run_report import with_failures_heard
from dip_pipeline.sensor import FROM_SCATTER, NoiseKind, NoiseModel, Sensor, Sourced
from tests.cli.conftest import report

NAN = float("nan")


@pytest.mark.parametrize(
    ("risk", "error", "told"),
    [(2.4, 0.1, True), (1.2, 0.1, False), (0.3, 0.01, False), (1.5, NAN, False), (NAN, NAN, False)],
)
def test_an_error_larger_than_the_noise_is_warned_of(caplog, tmp_path, risk, error, told):
    with caplog.at_level(logging.WARNING):
        with_failures_heard(report("a.fits", tmp_path / "a.fits", risk=risk, risk_error=error))
    assert ("times the input's noise" in caplog.text) is told
    assert (f"a.fits: the estimated error is {risk:.2f}" in caplog.text) is told


def tiles(risk, error=0.005):
    return [{"risk": risk, "risk_error": error, "judged_pixels": 10_000}]


@pytest.mark.parametrize("risk", [-1.92, -0.021])
def test_a_mean_square_that_none_can_be_is_no_small_bound(risk, caplog, tmp_path):
    """Of noise that is told twice as large a bound of 0.17 was given, where it was 1.12."""
    found = pooled_risk(tiles(risk), 10_000)
    assert math.isnan(found.rms)
    assert found.below_zero == -risk
    told = report("a.fits", tmp_path / "a.fits", risk=found.rms, below_zero=found.below_zero)
    with caplog.at_level(logging.WARNING):
        with_failures_heard(told)
    assert (
        f"a.fits: the estimated mean square error is {risk:.2g}, which none can be" in caplog.text
    )


@pytest.mark.parametrize(("counts", "why"), [(True, "counts are too few"), (False, "inverted")])
def test_why_no_risk_can_be_told_depends_on_the_noise(counts, why, caplog, tmp_path):
    told = report("a.fits", tmp_path / "a.fits", below_zero=0.4, counts=counts)
    with caplog.at_level(logging.WARNING):
        with_failures_heard(told)
    assert why in caplog.text


@pytest.mark.parametrize(("risk", "bound"), [(-0.019, 0.1), (0.004, 0.014**0.5)])
def test_one_that_may_be_zero_is_a_bound(risk, bound):
    found = pooled_risk(tiles(risk), 10_000)
    assert (found.bound, found.below_zero) == (True, 0.0)
    assert found.rms == pytest.approx(bound)


def test_pixels_that_two_tiles_judge_tell_no_more_than_once():
    once, twice = (pooled_risk(n * tiles(0.04), 10_000) for n in (1, 2))
    assert twice.rms == once.rms
    assert twice.error == pytest.approx(once.error)
    apart = pooled_risk(2 * tiles(0.04), 20_000)
    assert apart.error == pytest.approx(once.error / 2**0.5)


@pytest.mark.parametrize("unknown", [{"risk": None}, {"risk_error": None}, {"judged_pixels": 0}])
def test_tiles_that_cannot_tell_their_risk_do_not_count(unknown):
    known = pooled_risk(tiles(0.04), 10_000)
    assert pooled_risk([*tiles(0.04), tiles(9.0)[0] | unknown], 10_000) == known


@pytest.mark.parametrize(
    ("frame_pixels", "change"), [(10_000, 7.0), (20_000, 14.0), (40_000, 14.0)]
)
def test_flux_that_two_tiles_change_counts_once(frame_pixels, change):
    both = 2 * [tiles(0.04)[0] | {"flux_change": 7.0}]
    facts = SimpleNamespace(tiles=both, frame_pixels=frame_pixels)
    assert RunFacts.flux_change.fget(facts) == change


@pytest.mark.parametrize(
    ("noise", "error"),
    [
        (NoiseModel(NoiseKind.GAUSSIAN, "command line"), 0.005),
        (NoiseModel(NoiseKind.GAUSSIAN, "estimated from the frame"), 0.0206),
        (NoiseModel(NoiseKind.GAUSSIAN, "error plane, scaled by 0.8 to the sky"), 0.0206),
        (
            NoiseModel(
                *(NoiseKind.POISSON_GAUSSIAN, "single cards"),
                sensor=Sensor(pedestal_dn=Sourced(1.0, "DN", FROM_SCATTER)),
            ),
            0.0206,
        ),
    ],
)
def test_the_error_of_a_risk_holds_what_is_not_known_of_the_noise(noise, error):
    found = risk_of(SimpleNamespace(noise=noise, tiles=tiles(0.04), frame_pixels=10_000))
    assert found.rms == pytest.approx(0.2)
    assert found.error == pytest.approx(error / 0.4, rel=0.01)
