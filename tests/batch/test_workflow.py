"""Laws of a workflow: what it says is done, one bad frame stops nothing, the summary is true."""

import json
import logging
import re

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline import pipeline
from dip_pipeline.batch import summary as summary_module
from dip_pipeline.batch.batch import FrameResult, Job
from dip_pipeline.batch.night_priors import NightPriors, groups_of
from dip_pipeline.batch.summary import Summary
from dip_pipeline.batch.summary_name import own_name
from dip_pipeline.batch.workflow import Workflow, run_workflow
from dip_pipeline.errors import (
    BrokenProcessError,
    ConfigError,
    ExitCode,
    FrameError,
    OutputError,
)
from dip_pipeline.frames import AS_THE_FILE_SAYS, Reading
from tests.cli.conftest import ROOT, report

RECIPES = sorted((ROOT / "workflows").glob("*.toml"))


def write(tmp_path, text):
    path = tmp_path / "work.toml"
    path.write_text(text)
    return path


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path, monkeypatch):
    """Editors on other systems begin a list, or a workflow, with it."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.fits")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.fits\n")
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbf[frames]\nlist = 'list.txt'\nout = 'out'\n")
    assert Workflow.read(tmp_path / "w.toml").sources([]) == ["a.fits"]


def test_a_frame_that_ends_after_an_interrupt_does_not_take_its_code_away(tmp_path):
    jobs = [Job("a.fits", tmp_path / "a_dip.fits")]
    summary = Summary(tmp_path / "summary.json", tmp_path / "w.toml", jobs, ())
    summary.begin()
    summary.write(ExitCode.INTERRUPTED)
    summary.add(FrameResult(jobs[0], error="late"))
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["exit_code"] == ExitCode.INTERRUPTED
    assert told["frames"][0]["status"] == "failed"


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem != "denoise"], ids=lambda p: p.stem)
def test_every_recipe_can_be_read_and_names_its_frames_and_folder(path):
    tables = Workflow.read(path).tables
    assert tables.frames.inputs or tables.frames.list
    assert tables.frames.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[frame]\nout = 'x'", "did you mean frames"),
        ("[frames]\ninput = ['x']", "did you mean inputs"),
        ("[frames]\ninputs = 'x'", "frames.inputs"),
        ("[schedule]\nframes_at_once = 0", "schedule.frames_at_once = 0"),
        ("[prior]\nshared = 'week'", "'none' or 'night'"),
        ("task = 'sharpen'", "'denoise'"),
        ("[cluster]\nkind = 'ssh'", "'slurm', 'pbs' or 'cuda'"),
        ("[cluster]\ncores = 4", "cluster.kind is missing; needed: one of 'slurm', 'pbs'"),
        ("[cluster]\nkind = 'slurm'\ncores = '4'", "cluster.cores = '4': need a whole number"),
        ("[schedule]\nframes_at_once = true", "frames_at_once = True: need a whole number"),
        ("[frames]\noverwrite = 'yes'", "frames.overwrite = 'yes': need true or false"),
        ("[prior]\nframes = 2.0", "prior.frames = 2.0: need a whole number"),
        ("cluster = 'slurm'", "cluster = 'slurm': need a table of options"),
        ("[cluster]\nkind = 'slurm'\nleast = 5\nmost = 2", "cluster.least"),
        ("[cluster]\nkind = 'slurm'\ncore = 5", "did you mean cores"),
        ("[tiles]\nsize = 4", "size_px"),
        ("[workers]\nexecutor = 'local'\nscheduler = 'x'", "one place to run"),
        ("steps = 4", "unknown table steps; did you mean fit.steps?"),
        ("\n".join(f"{word} = 4" for word in ("zz", *"abcdefg")), "unknown table zz;"),
        ("[frames", "not a TOML file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_file(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        Workflow.read(write(tmp_path, text))
    assert said in str(caught.value)
    assert "work.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frames_are_found_by_file_glob_folder_and_list_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(
        tmp_path,
        "a1.fits",
        "a2.fits",
        "night/b.fits.gz",
        "night/c.fit",
        "night/notes.txt",
        "night/d.fits.xz",
        "night/e.fits.bz2",
    )
    (tmp_path / "night" / "d.zarr").mkdir()
    listed = (
        "# of the archive\n  # second line\nb*.fits  # good seeing\n\na1.fits[SCI,1]\n"
        "m31 #2.fits\na#1.fits\t#twice\n"
    )
    (tmp_path / "list.txt").write_text(listed)
    touch(tmp_path, "b7.fits", "m31 #2.fits", "a#1.fits")
    text = "[frames]\ninputs = ['a?.fits', 'a2.fits', 'night']\nlist = 'list.txt'\n"
    workflow = Workflow.read(write(tmp_path, text))
    assert workflow.sources() == [
        "a1.fits",
        "a2.fits",
        "night/b.fits.gz",
        "night/c.fit",
        "night/d.fits.xz",
        "night/d.zarr",
        "night/e.fits.bz2",
        "b7.fits",
        "a1.fits[SCI,1]",
        "m31 #2.fits",
        "a#1.fits",
    ]
    assert workflow.sources(["b7.fits"]) == ["b7.fits"]
    assert workflow.sources(["missing.fits"]) == ["missing.fits"]  # told of when it is its turn
    for nothing in (["none*.fits"], [str(tmp_path / "empty")], [str(tmp_path / "nowhere/") + "/"]):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=r"finds no file|no frames|no such folder"):
            workflow.sources(nothing)
    for no_name in ("", "a\0.fits"):  # an empty one is the working folder to a path
        with pytest.raises(ConfigError, match="is no name of a frame"):
            workflow.sources(["b7.fits", no_name])


@pytest.fixture
def endings(monkeypatch):
    table = {}

    def fake(source, target, config, **options):
        if source in table:
            raise table[source]
        return report(source, target, risk=float("nan"))

    monkeypatch.setattr(pipeline, "restore_frame", fake)
    return table


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def run(tmp_path, text="[frames]\nout = 'out'"):
    workflow = Workflow.read(write(tmp_path, text))
    jobs = [Job(f"{name}.fits", tmp_path / f"{name}_dip.fits") for name in "abc"]
    return run_workflow(workflow, jobs, tmp_path, command_line=("dip", "run"))


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_the_summary_says_how_every_frame_ended(endings, tmp_path, executor):
    endings["b.fits"] = FrameError("b.fits: truncated")
    report = run(tmp_path, f"[workers]\nexecutor = '{executor}'\ndevice = 'cpu'")
    summary = summary_of(tmp_path)
    assert summary["exit_code"] == report.exit_code == 1
    assert summary["counts"] == {"restored": 2, "failed": 1}
    assert [frame["status"] for frame in summary["frames"]] == ["restored", "failed", "restored"]
    assert summary["frames"][1]["error"] == "b.fits: truncated"
    assert summary["frames"][0]["residual_noise"] is None
    assert summary["command_line"] == ["dip", "run"]


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_an_interruption_is_in_the_summary_with_what_was_done_and_what_waits(
    endings, tmp_path, executor
):
    endings["c.fits"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, f"[workers]\nexecutor = '{executor}'\ndevice = 'cpu'")
    summary = summary_of(tmp_path)
    assert summary["exit_code"] == 130
    assert [frame["status"] for frame in summary["frames"]] == ["restored", "restored", "waiting"]


def test_an_interruption_is_one_though_the_summary_cannot_be_written(
    endings, tmp_path, monkeypatch
):
    endings["c.fits"] = KeyboardInterrupt()

    def full(self, code, **more):
        assert code is ExitCode.INTERRUPTED
        raise OutputError("disk full")

    monkeypatch.setattr(Summary, "write", full)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)


def test_a_summary_that_cannot_be_written_once_stops_no_frame(
    endings, tmp_path, monkeypatch, caplog
):
    real, written = summary_module.replace_file, []

    def full_at_the_second(path, content):
        written.append(content)
        if len(written) == 2:
            raise OutputError("disk full")
        real(path, content)

    monkeypatch.setattr(summary_module, "replace_file", full_at_the_second)
    assert run(tmp_path).exit_code == 0
    assert summary_of(tmp_path)["counts"] == {"restored": 3}
    assert "disk full; the frames go on" in caplog.text


def test_that_a_summary_cannot_be_written_is_told_once_and_not_for_each_frame(
    endings, tmp_path, monkeypatch, caplog
):
    real = summary_module.replace_file

    def full_but_at_the_ends(path, content):
        if 0 < content.count(b'"restored",') < 3:
            raise OutputError("disk full")
        real(path, content)

    monkeypatch.setattr(summary_module, "replace_file", full_but_at_the_ends)
    assert run(tmp_path).exit_code == 0
    assert caplog.text.count("disk full") == 1


def test_what_was_restored_is_told_though_its_end_cannot_be_written(
    endings, tmp_path, monkeypatch, caplog
):
    real = summary_module.replace_file

    def full_at_the_end(path, content):
        if content.count(b'"restored",') == 3:
            raise OutputError("disk full")
        real(path, content)

    monkeypatch.setattr(summary_module, "replace_file", full_at_the_end)
    report = run(tmp_path)
    assert [result.status for result in report.frames] == ["restored"] * 3
    assert caplog.text.count("disk full") == 1


def test_two_runs_at_once_keep_a_summary_each(endings, tmp_path, monkeypatch, caplog):
    restored, inner = pipeline.restore_frame, []

    def begin_another(source, target, config, **options):
        if source == "b.fits" and not inner:
            inner.append("begun")
            summary = summary_of(tmp_path)
            endings["c.fits"] = FrameError("c.fits: already being run")
            inner.append(run(tmp_path).exit_code)
            del endings["c.fits"]
            assert summary_of(tmp_path) == summary  # as if there had been no other
        return restored(source, target, config, **options)

    monkeypatch.setattr(pipeline, "restore_frame", begin_another)
    assert [run(tmp_path).exit_code, *inner] == [0, "begun", 1]
    assert summary_of(tmp_path)["counts"] == {"restored": 3}
    other = json.loads((tmp_path / "summary-2.json").read_text())
    assert other["counts"] == {"restored": 2, "failed": 1}
    assert re.search(r"at work \(process \d+ .*\); that of this one is summary-2.json", caplog.text)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("work.toml", "summary.json", "summary-2.json")
    }


def test_a_later_run_takes_over_a_second_summary_and_its_file_goes(endings, tmp_path):
    """It stayed for ever: nothing but another two runs at once wrote it anew."""
    endings["b.fits"] = FrameError("b.fits: truncated")
    endings["c.fits"] = FrameError("c.fits: truncated")
    run(tmp_path)
    second = (tmp_path / "summary.json").replace(tmp_path / "summary-2.json")
    lone = Workflow.read(write(tmp_path, "[frames]\nout = 'out'"))
    jobs = [Job("b.fits", tmp_path / "b_dip.fits")]
    with own_name(second):  # as its run does
        run_workflow(lone, jobs, tmp_path)
    assert second.exists()
    assert not summary_of(tmp_path)["earlier"]
    endings["b.fits"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_workflow(lone, jobs, tmp_path)
    assert second.exists()
    del endings["b.fits"]
    run_workflow(lone, jobs, tmp_path)
    assert not second.exists()
    (kept,) = summary_of(tmp_path)["earlier"]
    assert (kept["source"], kept["error"]) == ("c.fits", "c.fits: truncated")
    assert {path.name for path in tmp_path.iterdir()} == {"work.toml", "summary.json"}


def test_a_second_summary_that_was_kept_again_since_is_left(endings, tmp_path, monkeypatch):
    run(tmp_path)
    second = (tmp_path / "summary.json").replace(tmp_path / "summary-2.json")
    restored = pipeline.restore_frame

    def another_writes(source, target, config, **options):
        second.write_text(second.read_text() + "\n")
        return restored(source, target, config, **options)

    monkeypatch.setattr(pipeline, "restore_frame", another_writes)
    run(tmp_path)
    assert second.exists()


def test_warnings_of_several_frames_are_in_the_summary_once(endings, tmp_path, monkeypatch):
    def warn(source, target, config, **options):
        logging.getLogger("dip_pipeline.pipeline").warning("%s: no sky", source)
        return report(source, target)

    monkeypatch.setattr(pipeline, "restore_frame", warn)
    run(tmp_path)
    assert summary_of(tmp_path)["warnings"] == [{"frames": 3, "first": "a.fits", "text": "no sky"}]


def test_a_bug_is_in_the_summary_too(endings, tmp_path, monkeypatch):
    def wrong(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(NightPriors, "given_to", wrong)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "[prior]\nshared = 'night'")
    told = summary_of(tmp_path)
    assert (told["exit_code"], told["error"]) == (1, "ZeroDivisionError('oh')")


def test_an_option_that_cannot_be_used_is_in_the_summary_too(endings, tmp_path):
    endings["a.fits"] = ConfigError("--device cuda: no GPU here")
    with pytest.raises(ConfigError):
        run(tmp_path)
    summary = summary_of(tmp_path)
    assert (summary["exit_code"], summary["error"]) == (2, "--device cuda: no GPU here")


def test_a_scheduler_that_is_gone_is_in_the_summary_with_what_waits(endings, tmp_path):
    endings["b.fits"] = BrokenProcessError("the scheduler is gone")
    with pytest.raises(BrokenProcessError):
        run(tmp_path)
    summary = summary_of(tmp_path)
    assert summary["exit_code"] == 1
    assert summary["error"] == "the scheduler is gone (1 of 3 frames had ended, the others wait)"
    assert [frame["status"] for frame in summary["frames"]] == ["restored", "waiting", "waiting"]


def test_the_summary_is_of_this_run_before_its_priors_are_fitted(endings, tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text('{"exit_code": 0, "started": "yesterday"}')
    found = []

    def look(self, jobs, progress, beside):
        found.append(summary_of(tmp_path))
        return jobs

    monkeypatch.setattr(NightPriors, "given_to", look)
    run(tmp_path, "[prior]\nshared = 'night'")
    (at_the_start,) = found
    assert at_the_start["exit_code"] is None
    assert at_the_start["counts"] == {"waiting": 3}
    assert at_the_start["started"] == summary_of(tmp_path)["started"]
    assert summary_of(tmp_path)["exit_code"] == 0


def test_options_that_do_not_go_together_are_in_the_summary(endings, tmp_path):
    (tmp_path / "summary.json").write_text('{"exit_code": 0}')
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, "task = 'deconvolve'")
    summary = summary_of(tmp_path)
    assert (summary["exit_code"], summary["error"]) == (2, str(caught.value))
    assert summary["counts"] == {"waiting": 3}


def test_what_cannot_be_used_is_told_though_the_summary_cannot_be_written(endings, tmp_path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(ConfigError, match="no PSF"):
        run(tmp_path, "task = 'deconvolve'")
    with pytest.raises(OutputError, match=r"summary\.json"):
        run(tmp_path)


def test_frames_that_cannot_be_opened_are_of_no_group(tmp_path):
    for name, filter_name in (("a", "r"), ("b", "g"), ("c", "r")):
        header = fits.Header({"FILTER": filter_name, "DATE-OBS": "2026-03-01T01:00:00"})
        fits.PrimaryHDU(np.zeros((8, 8), np.float32), header).writeto(tmp_path / f"{name}.fits")
    (tmp_path / "bad.fits").write_text("no image")
    sources = [str(tmp_path / f"{name}.fits") for name in ("a", "bad", "b", "c", "missing")]
    groups = groups_of(sources, AS_THE_FILE_SAYS)
    assert [group.sources for group in groups] == [(sources[0], sources[3]), (sources[2],)]


def test_frames_are_grouped_by_the_image_that_is_to_be_restored(tmp_path):
    header = fits.Header({"FILTER": "r", "DATE-OBS": "2026-03-01T01:00:00"})
    image = fits.ImageHDU(np.zeros((8, 8), np.float32), header, name="SKY")
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((9, 9))), image]).writeto(path)
    (group,) = groups_of([str(path)], Reading(science="SKY"))
    assert group.sources == (str(path),)
    assert groups_of([str(path)], Reading(science="NONE")) == []
