"""Benchmarks of tasks: scenes and observations agree, peers keep flux, runs stand side by side."""

import json
from datetime import UTC, datetime
from importlib import import_module
from inspect import signature

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import tasks
from benchmarks.interpolating import lanczos, lucy, spline
from benchmarks.machine import command_told
from benchmarks.scenes import best_of, figures
from benchmarks.task_deconvolve import RING_SNR, deepest_ring, observe_blurred, pixel_psf
from benchmarks.task_super_resolve import observe_fine
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX

SIDE = 64


@pytest.fixture(scope="module")
def fine():
    return observe_fine("crowded", 2, side_px=SIDE)


@pytest.fixture(scope="module")
def blurred():
    return observe_blurred("galaxies", 2, side_px=96)


def test_coarse_pixels_hold_the_light_of_the_fine_ones(fine):
    sums = fine.truth.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(sums, fine.level)
    scatter = (fine.observed - fine.level) / fine.sigma
    assert scatter.std() == pytest.approx(1, abs=0.05)


def test_deep_fields_are_the_same_sky_under_less_noise():
    deep, shallow = (observe_fine("nebula", 2, side_px=32, exposures=n) for n in (16, 1))
    np.testing.assert_allclose(deep.level, shallow.level)
    np.testing.assert_allclose(deep.sigma, shallow.sigma / 4)


def test_the_truth_has_no_errors_and_a_shifted_one_has_its_shift(fine):
    right = figures(fine, fine.truth)
    assert right["on_sources"] == right["centroid_p95_px"] == right["flux_median_bright"] == 0
    assert right["bright_stars"] == 3
    moved = figures(fine, np.roll(fine.truth, 1, axis=1))
    assert moved["centroid_median_px"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("interpolate", [spline, lanczos])
def test_interpolation_keeps_brightness_and_light(interpolate, fine):
    np.testing.assert_allclose(interpolate(np.full((12, 12), 8.0), 2), 2.0)
    assert interpolate(fine.level, 2).sum() == pytest.approx(fine.level.sum(), rel=1e-3)


def test_richardson_lucy_sharpens_what_its_kernel_blurred(blurred):
    kernel = pixel_psf().astype(float)
    few, many = (result for _, result in lucy(blurred.level, kernel, (20, 60), 200.0))
    assert blurred.level.max() < few.max() < many.max()
    assert many.sum() == pytest.approx(blurred.level.sum(), rel=0.01)
    assert best_of([("few", few), ("truth", blurred.truth)], blurred)[0] == "truth"


def test_marked_stars_have_the_snr_that_rings_are_judged_at(blurred):
    psf = pixel_psf().astype(float)
    marked = blurred.stars[np.isin(blurred.stars["flux_dn"], _most_frequent(blurred.stars))]
    assert len(marked) == 9
    variance = blurred.detector.sigma_dn(marked["flux_dn"][0] * psf + 200.0) ** 2
    snr = marked["flux_dn"][0] * np.sqrt((psf**2 / variance).sum())
    assert snr == pytest.approx(RING_SNR, rel=0.01)


def test_stars_of_the_truth_are_the_targets_and_of_the_frame_the_psfs(blurred):
    marked = blurred.stars[np.isin(blurred.stars["flux_dn"], _most_frequent(blurred.stars))]
    rows, cols = (np.rint(marked[axis]).astype(int) for axis in ("row", "col"))
    apart = (marked["row"] - rows) ** 2 + (marked["col"] - cols) ** 2
    target = np.exp(-0.5 * apart / TARGET_SIGMA_PX**2) / (2 * np.pi * TARGET_SIGMA_PX**2)
    heights = blurred.signal[rows, cols] / marked["flux_dn"] / target
    assert np.median(heights) == pytest.approx(1, abs=0.01)
    seen = (blurred.level - 200.0)[rows, cols] / marked["flux_dn"]
    assert seen.max() == pytest.approx(pixel_psf().max(), rel=0.01)


def test_a_ring_is_found_as_deep_as_it_is(blurred):
    assert deepest_ring(blurred, blurred.truth) == 0
    rows, cols = np.indices(blurred.truth.shape)
    result = blurred.truth.copy()
    for star in blurred.stars[np.isin(blurred.stars["flux_dn"], _most_frequent(blurred.stars))]:
        distance = np.hypot(rows - star["row"], cols - star["col"])
        result -= 2.0 * blurred.sigma * (np.abs(distance - 5.0) < 0.5)
    assert deepest_ring(blurred, result) == pytest.approx(-2.0, abs=0.3)


def test_a_command_is_told_without_the_folder_of_its_json(monkeypatch):
    monkeypatch.setattr("sys.argv", ["tasks", "--out", "/home/me/new/a.json", "--seeds", "1"])
    told = command_told("benchmarks.tasks")
    assert told == ["python", "-m", "benchmarks.tasks", "--out", "a.json", "--seeds", "1"]


def test_rows_measured_again_take_the_place_of_older_ones(tmp_path):
    path = tmp_path / "tasks-x.json"
    now = datetime.now(UTC)
    for field, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        row = {"field": field, "seed": 1, "method": "m", "on_sources": value}
        path.write_text(tasks._document(path, [row], now))
    runs = json.loads(path.read_text())["runs"]
    rows = {row["field"]: row["on_sources"] for run in runs for row in run["rows"]}
    assert rows == {"a": 3.0, "b": 2.0}
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--tasks", "knit"], "knit"), (["--tasks", "deconvolve", "--seeds", "x"], "whole numbers")],
)
def test_what_is_not_there_is_refused_with_what_is(options, said):
    ended = CliRunner().invoke(tasks.main, options)
    assert ended.exit_code == 2
    assert said in ended.output


@pytest.mark.parametrize(
    ("named", "fields", "said"),
    [
        ("deconvolve", "nebula", "crowded, galaxies"),
        ("super_resolve,deconvolve", "crowded,nebula", "deconvolve has none of that name"),
        ("inpaint", "knit", "crowded, galaxies, nebula, barbara"),
        ("bounds", "filled-correlated", "filled-crowded"),
        ("guided", "", "narrow, sdss, flash"),
    ],
)
def test_a_field_that_a_task_does_not_have_is_refused_before_any_work(
    monkeypatch, named, fields, said
):
    monkeypatch.setattr(tasks, "measured", lambda *_: pytest.fail("work has begun"))
    ended = CliRunner().invoke(tasks.main, ["--tasks", named, "--fields", fields])
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())


def test_the_fields_that_a_task_draws_unasked_are_among_those_that_it_has():
    for name in tasks.TASKS:
        task = import_module(f"benchmarks.task_{name}")
        unasked = signature(task.rows).parameters["fields"].default
        assert set(unasked) <= set(task.KNOWN_FIELDS), name


def _most_frequent(stars):
    values, counts = np.unique(stars["flux_dn"], return_counts=True)
    return values[counts == 9]
