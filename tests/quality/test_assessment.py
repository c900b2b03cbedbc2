"""An assessment holds every figure, as JSON and as text."""

import dataclasses
import json

import numpy as np
import pytest

from dip_pipeline.quality import Evidence, Truth, assess

BORDERS = ([96, 128], [96, 128])


def test_known_errors_come_back_as_figures(evidence):
    found = assess(evidence, borders=BORDERS)
    assert found.truth is not None
    assert found.truth.restored.rms == pytest.approx(0.2, rel=0.02)
    assert found.truth.input_rms == pytest.approx(1.0, rel=0.02)
    assert found.truth.fraction == pytest.approx(0.2, rel=0.04)
    assert found.truth.covered is not None
    assert found.truth.covered.overall == pytest.approx(0.683, abs=0.02)
    assert found.seams is not None
    assert found.seams.passed
    # Residual = noise minus errors that do not know of it: 1 + 0.2^2.
    assert found.chi_square == pytest.approx(1.04, abs=0.03)


def test_cosmic_rays_do_not_flatter_the_fraction(evidence):
    # The input's noise is taken where it is noise; else any output would look good beside it.
    figures = assess(evidence).truth
    assert figures is not None
    assert figures.input_rms < 1.1
    assert figures.restored.pixels > evidence.usable.sum()


def test_what_is_filled_claims_nothing_and_misses_nothing(evidence):
    error = np.array(evidence.error, np.float64)
    error[:80] = np.nan
    claimed = dataclasses.replace(evidence, error=error)
    for found in (assess(evidence), assess(claimed)):
        assert found.truth.covered.overall == pytest.approx(0.683, abs=0.02)


def test_coverage_is_told_on_source_and_off_it_and_of_no_saturated_pixel():
    """An error of half the real one covers 38 %; a source is what stands a sigma out."""
    shape = (160, 220)
    signal = np.where(np.arange(220) < 100, 2.0, 0.5) * np.ones((160, 1))
    level, sigma = 100 + signal, np.ones(shape)
    saturated = np.zeros(shape, bool)
    saturated[:, ::3] = True
    restored = level + np.random.default_rng(3).standard_normal(shape)
    found = assess(
        Evidence(
            level,
            np.where(saturated, 1e4, restored),
            sigma,
            error=np.where(signal > 1, 0.5, 1.0),
            saturated=saturated,
            truth=Truth(level, signal, sigma),
        )
    )
    assert found.truth.on_source.overall == pytest.approx(0.383, abs=0.015)
    assert found.truth.off_source.overall == pytest.approx(0.683, abs=0.015)
    assert found.truth.covered.overall == pytest.approx((100 * 0.383 + 120 * 0.683) / 220, abs=0.01)
    assert found.chi_square == pytest.approx(1.0, abs=0.03)


def test_the_json_says_what_the_values_say(evidence):
    found = assess(evidence, borders=BORDERS, estimated_noise=0.21)
    document = json.loads(found.to_json())
    assert document["estimated_noise"] == 0.21
    assert document["truth"]["restored"]["rms"] == found.truth.restored.rms
    assert document["truth"]["fraction"] == found.truth.fraction
    assert document["seams"]["passed"] is True
    assert len(document["truth"]["covered"]["tenths"]) == 10


def test_json_has_no_nan(evidence):
    blank = dataclasses.replace(evidence, sigma=np.full_like(evidence.sigma, np.nan), truth=None)
    document = json.loads(assess(blank).to_json(), parse_constant=pytest.fail)
    assert document["chi_square"] is None


def test_the_table_names_each_figure(evidence):
    table = assess(evidence, borders=BORDERS, estimated_noise=0.21).table()
    for words in ("residual noise", "estimated", "chi-square", "S/N 5-10", "coverage", "seams"):
        assert words in table


def test_a_frame_without_truth_is_judged_by_its_residual_alone(frame):
    alone = Evidence(frame.observed_dn, frame.truth_dn, frame.sigma_true_dn, masked=frame.masked)
    found = assess(alone, borders=BORDERS)
    assert found.truth is None
    assert found.chi_square == pytest.approx(1.0, abs=0.02)
    assert found.seams is not None
    assert found.seams.passed
    assert "residual noise" not in found.table()
