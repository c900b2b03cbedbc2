"""Laws of the progress: a line now and then, never on stdout, silence where it was asked for."""

import io
import math

import numpy as np
import pytest
from astropy.io import fits
from rich.console import Console

from dip_pipeline import verifying
from dip_pipeline.cli.progress import LineProgress, TerminalProgress, _bars, judged_risk


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def restore_with(progress, clock, *, tiles, seconds_a_tile):
    progress.frame_started("m13.fits", tiles, 0)
    for tile in range(tiles):
        clock.now += seconds_a_tile
        progress.tile_done({"tile": tile, "risk": 0.04, "failed": False})


def test_lines_come_at_intervals_and_the_last_tile_is_always_told():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    restore_with(progress, clock, tiles=1000, seconds_a_tile=0.1)
    assert 5 <= len(lines) <= 15
    assert "1000 of 1000 tiles" in lines[-1]


def test_the_time_left_is_that_of_the_tiles_that_are_missing():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    progress.frame_started("m13.fits", 10, 4)
    clock.now += 30
    progress.tile_done({"tile": 4, "risk": None, "failed": False})
    assert "5 of 10 tiles" in lines[-1]
    assert "2.5 min left" in lines[-1]


def test_the_time_left_counts_neither_what_came_before_the_steps_nor_before_the_first_tile():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    progress.frame_started("m13.fits", 5, 0)
    clock.now += 300  # the noise is looked for
    for step in range(5):
        progress.fit_step(step, 100, 0.5)
        clock.now += 6
    assert "step 2 of 100" in lines[2]
    assert lines[2].endswith("9.8 min left")
    clock.now += 300  # the networks are judged
    for tile in range(5):
        progress.tile_done({"tile": tile, "risk": None, "failed": False})
        clock.now += 12
    told = [line for line in lines if "tiles," in line]
    assert told[0].endswith("not judged")
    assert told[1].endswith("36 s left")


def test_the_time_left_is_judged_anew_where_a_fit_begins_anew():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    progress.frame_started("m13.fits", 1, 0)
    for step in (10, 20, 1, 2, 3):
        progress.fit_step(step, 100, 0.5)
        clock.now += 1 if step < 10 else 20
    clock.now += 30
    progress.fit_step(20, 100, 0.5)
    assert lines[-1].endswith("2.3 min left")


def test_the_end_of_a_fit_is_told_once_however_long_it_takes_to_judge():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    for _ in range(2):
        progress.frame_started("m13.fits", 1, 0)
        for step in (1, 100, 100, 100):
            progress.fit_step(step, 100, 0.5)
            clock.now += 11
    assert sum("step 100 of 100" in line for line in lines) == 2


def test_every_failed_tile_has_a_line():
    clock, lines = Clock(), []
    progress = LineProgress(lines.append, clock)
    progress.frame_started("m13.fits", 100, 0)
    for tile in range(5):
        progress.tile_done({"tile": tile, "failed": True, "stop_reason": "NO_DATA"})
    failed = [line for line in lines if "FAILED" in line]
    assert len(failed) == 5
    assert failed[0].endswith("copied: no valid pixel in the tile: nothing to restore")


@pytest.mark.parametrize(
    ("risk", "said"), [(0.04, "0.200"), (-0.01, "below 0"), (None, "not"), (math.nan, "not")]
)
def test_the_risk_of_a_tile_is_told_as_a_noise_in_sigma(risk, said):
    assert said in judged_risk({"risk": risk})


def test_the_noise_of_the_last_of_several_tiles_is_not_told_as_that_of_all():
    lines = []
    for tiles in (1, 2):
        progress = LineProgress(lines.append, Clock())
        progress.frame_started("m13.fits", tiles, tiles - 1)
        progress.tile_done({"tile": tiles - 1, "risk": 0.04, "failed": False})
    assert lines[1].endswith("1 of 1 tiles, residual noise about 0.200 sigma")
    assert lines[3].endswith("2 of 2 tiles, the last: residual noise about 0.200 sigma")


def test_bars_show_brackets_of_names_as_they_are():
    clock, text = Clock(), io.StringIO()
    console = Console(file=text, force_terminal=True, width=200, color_system=None)
    with _bars(console) as bars:
        progress = TerminalProgress(bars)
        progress.fit_step(5, 10, 0.25)
        progress.note("m13.fits[SCI,1]: noise gaussian")
        progress.fit_started("m13.prior", 3)
        restore_with(progress, clock, tiles=2, seconds_a_tile=1)
        progress.tile_done({"tile": 1, "failed": True, "stop_reason": "NO_DATA"})
    assert "m13.fits[SCI,1]" in text.getvalue()
    assert "m13.prior: frames to fit: 3" in text.getvalue()
    assert "tile 1 FAILED" in text.getvalue()


def test_reports_are_on_stdout_and_all_else_on_stderr(dip, restored_jobs, tmp_path):
    code, out, err = dip("denoise", "a.fits", "-o", tmp_path / "b.fits")
    assert code == 0
    assert out.startswith("a.fits -> ")
    assert "noise gaussian" in err
    assert "2 of 2 tiles" in err


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_says_only_what_goes_wrong(dip, restored_jobs, tmp_path, place):
    words = ["denoise", "a.fits", "-o", tmp_path / "b.fits"]
    code, out, err = dip("-q", *words) if place == "before" else dip(*words, "-q")
    assert (code, out, err) == (0, "", "")


@pytest.mark.parametrize("command", ["denoise", "run"])
def test_what_is_left_out_is_told_as_every_warning_is(dip, restored_jobs, tmp_path, command):
    names = [str(tmp_path / name) for name in ("a.fits", "a_mask.fits", "b.fits")]
    for name in names:
        fits.writeto(name, np.zeros((4, 4)))
    workflow = tmp_path / "work.toml"
    workflow.write_text('task = "denoise"\n')
    words = [*names, "-o", tmp_path / "out/"]
    words = ["run", workflow, *words, "--dry-run"] if command == "run" else ["denoise", *words]
    warnings = [line for line in dip(*words)[2].splitlines() if "left out" in line]
    assert [line.startswith("dip: warning: ") for line in warnings] == [True]
    assert dip(*words, "-q")[2] == ""


def test_a_quiet_check_of_a_product_says_only_what_is_wrong(dip, tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    fits.writeto(path, np.zeros((4, 4)))
    code, out, _ = dip("verify", path, "-q")
    assert (code, "account" in out) == (1, True)
    monkeypatch.setattr(verifying, "verify_product", lambda *_: verifying.Verdict(path, ()))
    assert dip("verify", path, "-q") == (0, "", "")
    assert dip("verify", path, "-q", "--json")[1].startswith("{")


def test_quiet_still_says_what_goes_wrong(dip, tmp_path):
    code, out, err = dip("denoise", tmp_path / "no.fits", "-o", tmp_path / "b.fits", "-q")
    assert (code, out) == (1, "")
    assert err.startswith("dip: error: ")
