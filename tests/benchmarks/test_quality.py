"""The command runs from end to end, and keeps what it found."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.quality import main


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def quick(out, *options):
    """Run the command on tiny fields; returns its document and what it printed."""
    done = run("--quick", "--threads", "1", "--out", str(out), *options)
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text()), done.output


def test_a_quick_run_measures_ours_beside_the_peers_and_writes(tmp_path):
    options = ("--fields", "noise", "--methods", "dip,bm3d,wavelets", "--race")
    found, printed = quick(tmp_path / "results.json", *options)
    assert {"machine", "versions", "commit", "command", "targets", "results"} <= set(found)
    measured = [(each["part"], each["field"], each["method"]) for each in found["results"]]
    noise = [("fields", "noise", method) for method in ("dip", "bm3d", "wavelets")]
    assert measured == [*noise, ("race", "galaxies", "dip-watched")]
    ours = next(each for each in found["results"] if each["method"] == "dip")
    assert 0 < ours["figures"]["residual"] < 1
    assert ours["figures"]["risk"]["stated_error"] > 0
    assert 0 < ours["figures"]["covered"]["overall"] < 1
    watched = next(each for each in found["results"] if each["method"] == "dip-watched")
    assert watched["trace"][-1]["residual"] == watched["figures"]["residual"]
    figures = {each["figure"]: each["verdict"] for each in found["targets"]["normal"]}
    assert figures["peaks in pure noise that its input does not have"] == "goal"
    assert "targets, effort normal" in printed


def test_methods_are_measured_on_the_fields_they_are_for(tmp_path):
    options = ("--fields", "correlated,noise", "--methods", "bm3d-white,nlm")
    found, _ = quick(tmp_path / "results.json", *options)
    measured = {(each["field"], each["method"]) for each in found["results"]}
    assert ("correlated", "bm3d-white") in measured
    assert ("noise", "bm3d-white") not in measured
    assert ("noise", "nlm") in measured


def test_a_quick_run_keeps_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.quality.RESULTS", tmp_path / "results")
    done = run("--quick", "--fields", "crowded", "--methods", "nlm")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("option", "value", "needed"),
    [
        ("--fields", "crowded,moon", "some of crowded, galaxies"),
        ("--methods", "dip,magic", "some of dip, dip-open"),
        ("--seeds", "1,two", "some of whole numbers"),
    ],
)
def test_names_that_are_not_known_are_refused(option, value, needed):
    refused = run(option, value)
    assert refused.exit_code == 2
    assert needed in " ".join(refused.output.replace("│", " ").split())


def test_missing_data_end_in_one_line(monkeypatch):
    monkeypatch.delenv("DIP_EXTRA_DATA", raising=False)
    ended = run("--fields", "jwst", "--methods", "nlm")
    assert ended.exit_code == 1
    assert "leave the field out with --fields" in ended.output
    assert "Traceback" not in ended.output
