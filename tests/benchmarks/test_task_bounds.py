"""Bounds are what they say: told errors cover what they should, shared errors are shared."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import task_bounds
from benchmarks.fields import FieldKind, draw
from benchmarks.restored import Restored
from benchmarks.task_bounds import shared_part, told_errors


@pytest.fixture(scope="module")
def field():
    return draw(FieldKind.GALAXIES, 2, side_px=128)


def white(field, seed, scale=0.2):
    noise = np.random.default_rng(seed).normal(0, scale, field.observed.shape)
    return (field.truth.sigma * noise).astype(np.float32)


def test_told_errors_cover_the_truth_in_every_range_however_wrong_the_plane_was(field):
    rng = np.random.default_rng(1)
    told_apart = rng.choice([0.5, 4.0], field.observed.shape).astype(np.float32)
    science = field.truth.level + told_apart * white(field, 2)
    wrong = (10 * told_apart * field.truth.sigma).astype(np.float32)
    wrong[:5] = np.nan
    restored = Restored(science, 1.0, error=wrong)
    told = told_errors(field, restored)
    np.testing.assert_array_equal(np.isnan(told), np.isnan(wrong) | field.saturated)
    for low in (True, False):
        at = np.isfinite(told) & ((told_apart < 1) == low)
        covered = (np.abs(science - field.truth.level) < told)[at].mean()
        assert covered == pytest.approx(0.683, abs=0.02)


def test_the_shared_part_is_all_of_equal_errors_and_none_of_independent_ones(field):
    where = ~field.saturated
    common, own = white(field, 3), white(field, 4)
    level = field.truth.level
    assert shared_part(field, level + common, level + common, where) == pytest.approx(1, rel=1e-3)
    assert shared_part(field, level + common, level + own, where) < 0.2
    half = shared_part(field, level + common + own, level + common, where)
    assert half == pytest.approx(1, abs=0.05)
    # Noise of the truth itself is in both, and is nobody's error.
    observed = replace(field, own_sigma=(0.2 * field.truth.sigma).astype(np.float32))
    assert shared_part(observed, level + common, level + common + own, where) < 0.2


def test_rows_name_the_bound_the_field_and_the_method(monkeypatch):
    def perfect(field, settings, options=None):
        error = (0.1 * field.truth.sigma).astype(np.float32)
        return Restored(field.truth.level + white(field, 5, 0.1), 1.0, error=error)

    monkeypatch.setattr(task_bounds, "with_dip", perfect)
    rows = task_bounds.rows(2, fields=("error-crowded", "filled-nebula"), side_px=96)
    assert {row["field"] for row in rows} == {"error-crowded", "filled-nebula"}
    ours, told = (row for row in rows if row["field"] == "error-crowded")
    assert (ours["method"], told["method"]) == ("ours", "told the truth")
    assert told["covered"] == pytest.approx(0.683, abs=0.02)
    filled = [row for row in rows if row["field"] == "filled-nebula"]
    assert filled[-1]["method"] == "known pixels beside"
    assert filled[-1]["residual"] == pytest.approx(0.1, rel=0.1)
