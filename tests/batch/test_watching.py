"""Laws of a night as it comes in: each frame once, all in one summary, an end that is true."""

import json
import logging
import os
from pathlib import Path

import pytest

from dip_pipeline import pipeline
from dip_pipeline.batch import summary as summary_module
from dip_pipeline.batch import workflow as workflow_module
from dip_pipeline.batch.batch import Job
from dip_pipeline.batch.watching import Watch, watch_workflow
from dip_pipeline.batch.workflow import Workflow
from dip_pipeline.errors import ConfigError, FrameError, NoFramesError, OutputError
from tests.cli.conftest import report

PATIENCE_S = 602.0  # no multiple of the time between looks


class Night:
    """A folder into which frames come while somebody waits; what is done is written down."""

    def __init__(self, folder):
        self.folder = folder
        self.seconds = 0.0
        self.later = []
        self.done = []
        self.broken = {}
        self.notes = []

    def put(self, name, content=b"frame", *, whole=True):
        path = self.folder / name
        path.write_bytes(content)
        if whole:
            os.utime(path, (1e9, 1e9))  # long ago

    def wait(self, seconds):
        self.seconds += seconds
        if self.later:
            self.later.pop(0)()

    def restore(self, source, target, *_, **__):
        name = Path(source).name
        self.done.append(name)
        if name in self.broken:
            raise FrameError(f"{name}: {self.broken[name]}")
        return report(source, target)

    def note(self, message):
        self.notes.append(message)

    def frame_started(self, *facts):
        pass

    fit_started = fit_step = tile_done = frame_started

    def find(self):
        names = sorted(path.name for path in self.folder.glob("*.fits"))
        if not names:
            raise NoFramesError(f"{self.folder}: no frames")
        return [Job(str(self.folder / name), self.out / f"{name[:-5]}_dip.fits") for name in names]

    @property
    def out(self):
        return self.folder / "out"

    @property
    def summary(self):
        return json.loads((self.out / "summary.json").read_text())

    def run(self, text=""):
        path = self.folder / "w.toml"
        path.write_text(f"{text}\n[workers]\nexecutor = 'inline'\ndevice = 'cpu'\n")
        watch = Watch(PATIENCE_S, wait=self.wait, clock=lambda: self.seconds)
        return watch_workflow(
            Workflow.read(path), self.find, self.out, watch, progress=self, command_line=("dip",)
        )


@pytest.fixture
def night(tmp_path, monkeypatch):
    night = Night(tmp_path)
    night.out.mkdir()
    monkeypatch.setattr(pipeline, "restore_frame", night.restore)
    return night


def test_frames_are_restored_as_they_come_each_once_and_all_are_in_one_summary(night):
    night.put("a.fits")
    during = []
    night.later = [
        lambda: during.append(night.summary),
        lambda: night.put("c.fits"),
        lambda: night.put("b.fits"),
        lambda: during.append(night.summary),
    ]
    ended = night.run()
    assert night.done == ["a.fits", "c.fits", "b.fits"]
    assert [frame.status for frame in ended.frames] == ["restored"] * 3
    assert ended.exit_code == night.summary["exit_code"] == 0
    assert night.summary["counts"] == {"restored": 3}
    assert [each["exit_code"] for each in during] == [None, None]  # it goes on
    assert [each["counts"] for each in during] == [{"restored": 1}, {"restored": 3}]


def test_it_ends_when_none_has_come_for_so_long_and_not_before(night):
    night.put("a.fits")
    night.later = [lambda: None] * 100 + [lambda: night.put("b.fits")]
    night.run()
    assert night.done == ["a.fits", "b.fits"]
    assert night.seconds == pytest.approx(101 * 5 + PATIENCE_S)
    assert len([note for note in night.notes if "waiting for frames" in note]) == 2


def test_a_frame_that_is_being_written_at_the_end_is_restored(night):
    """It was left behind without a word, and the exit code was 0."""
    night.put("a.fits")
    night.later = [lambda: None] * int(PATIENCE_S / 5) + [lambda: night.put("b.fits", whole=False)]
    assert night.run().exit_code == 0
    assert night.done == ["a.fits", "b.fits"]


def test_one_that_is_written_to_for_ever_has_failed_after_as_long_again(night, caplog):
    night.put("a.fits")
    night.later = [
        lambda size=size: night.put("log.fits", b"x" * size, whole=False) for size in range(1, 2000)
    ]
    assert night.run().exit_code == night.summary["exit_code"] == 1
    assert night.done == ["a.fits"]
    assert night.seconds == pytest.approx(2 * PATIENCE_S, abs=6)
    assert night.summary["counts"] == {"restored": 1, "failed": 1}
    assert "log.fits: was still being written to" in caplog.text


def test_a_frame_that_stays_empty_has_failed_at_the_end(night, caplog):
    night.put("a.fits")
    night.put("empty.fits", b"")
    (night.folder / "lost.fits").symlink_to("nowhere")
    assert night.run().exit_code == night.summary["exit_code"] == 1
    assert night.done == ["a.fits"]
    assert night.summary["counts"] == {"restored": 1, "failed": 2}
    assert "empty.fits: nothing was in it" in caplog.text


def test_frames_may_begin_to_come_later(night):
    night.later = [lambda: None, lambda: night.put("a.fits")]
    assert night.run().exit_code == 0
    assert night.done == ["a.fits"]


def test_where_none_comes_it_is_an_error_and_the_summary_before_stays(night):
    (night.out / "summary.json").write_text('{"exit_code": 0, "frames": []}')
    with pytest.raises(
        NoFramesError, match=r"w\.toml: no frame came in 10\.0333 min; is it the right"
    ):
        night.run()
    assert night.summary == {"exit_code": 0, "frames": []}


def test_one_that_fails_is_tried_again_when_its_file_changes_and_stops_nobody(night):
    night.put("a.fits", b"half")
    night.put("b.fits")
    night.broken = {"a.fits": "is cut short"}

    def mend():
        assert night.summary["counts"] == {"failed": 1, "restored": 1}
        night.broken.clear()
        night.put("a.fits", b"the whole of it")

    night.later = [lambda: None, lambda: None, mend]
    assert night.run().exit_code == 0
    assert night.done == ["a.fits", "b.fits", "a.fits"]
    assert night.summary["counts"] == {"restored": 2}


def test_no_frame_takes_the_output_of_another_though_outputs_may_be_replaced(night, caplog):
    night.put("a.fits")
    night.put("b.fits")
    real = night.find
    night.find = lambda: [job._replace(target=night.out / "same_dip.fits") for job in real()]
    night.later = [lambda: night.put("c.fits")]
    assert night.run("frames.overwrite = true").exit_code == 1
    assert night.done == ["a.fits"]
    assert night.summary["counts"] == {"restored": 1, "failed": 2}
    assert "same_dip.fits: is that of" in caplog.text


def test_one_that_fails_leaves_its_output_to_another(night):
    night.put("a.fits")
    night.broken = {"a.fits": "is cut short"}
    real = night.find
    night.find = lambda: [job._replace(target=night.out / "same_dip.fits") for job in real()]
    night.later = [lambda: night.put("b.fits")]
    night.run()
    assert night.done == ["a.fits", "b.fits"]
    assert night.summary["counts"] == {"failed": 1, "restored": 1}


def test_one_that_stays_broken_fails_the_night(night):
    night.put("a.fits")
    night.put("b.fits")
    night.broken = {"a.fits": "is cut short"}
    assert night.run().exit_code == night.summary["exit_code"] == 1
    assert night.done == ["a.fits", "b.fits"]
    assert night.summary["frames"][0]["error"] == "a.fits: is cut short"


def test_one_that_failed_in_an_earlier_run_is_told_of_once(night):
    word = {"source": "a.fits", "target": "a_dip.fits", "status": "failed", "error": "old"}
    (night.out / "summary.json").write_text(json.dumps({"exit_code": 1, "frames": [word]}))
    night.put("b.fits")
    night.later = [
        lambda: night.put("a.fits") if len(night.summary["earlier"]) == 1 else None,
    ]
    night.run()
    assert night.done == ["b.fits", "a.fits"]
    assert night.summary["earlier"] == []


def test_a_disk_that_is_away_for_a_moment_ends_no_night(night, monkeypatch, caplog):
    night.put("a.fits")
    real, times = night.find, []

    def find():
        times.append(1)
        if len(times) in (1, 3):
            raise OSError(116, "Stale file handle", "night")
        return real()

    monkeypatch.setattr(night, "find", find)
    night.later = [lambda: None, lambda: night.put("b.fits")]
    assert night.run().exit_code == 0
    assert night.done == ["a.fits", "b.fits"]
    assert "Stale file handle: 'night'; frames are looked for again" in caplog.text


def test_a_summary_that_cannot_be_written_for_a_moment_ends_no_night(night, monkeypatch):
    night.put("a.fits")
    real, full = summary_module.replace_file, [True]

    def replace_file(path, content):
        if full[0]:
            raise OutputError(f"{path}: no space")
        real(path, content)

    monkeypatch.setattr(summary_module, "replace_file", replace_file)
    night.later = [lambda: full.__setitem__(0, False), lambda: night.put("b.fits")]
    assert night.run().exit_code == 0
    assert night.summary["counts"] == {"restored": 2}


def test_an_interruption_while_waiting_keeps_what_is_done(night):
    night.put("a.fits")

    def interrupt():
        raise KeyboardInterrupt

    night.later = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        night.run()
    assert night.summary["exit_code"] == 130
    assert night.summary["counts"] == {"restored": 1}


def test_priors_are_chosen_with_all_frames_that_are_whole(night, monkeypatch):
    seen = []

    def given_to(_, jobs, progress, beside):
        seen.append([Path(source).name for source in beside])
        return [job._replace(prior="n.prior") for job in jobs]

    monkeypatch.setattr(workflow_module.NightPriors, "given_to", given_to)
    night.put("a.fits")
    night.put("b.fits")
    night.later = [lambda: (night.put("c.fits"), night.put("d.fits", whole=False))]
    ended = night.run("prior.shared = 'night'")
    names = ["a.fits", "b.fits", "c.fits", "d.fits"]
    assert seen == [names[:2], names[:3], names]
    assert night.done == names
    assert {frame.job.prior for frame in ended.frames} == {"n.prior"}


def test_frames_that_guide_each_other_have_to_be_there(night):
    night.put("a.fits")
    with pytest.raises(ConfigError, match="every frame is guided by all others"):
        night.run("task = {name = 'combine', each = true}")
    assert night.done == []


def test_warnings_of_frames_that_came_at_different_times_are_counted_together(night, monkeypatch):
    def warns(source, target, config, **options):
        logging.getLogger("dip_pipeline.pipeline").warning("%s: no sky", source)
        return report(source, target)

    monkeypatch.setattr(pipeline, "restore_frame", warns)
    night.put("a.fits")
    night.later = [lambda: night.put("b.fits")]
    ended = night.run()
    assert [(each.frames, each.text) for each in ended.repeated] == [(2, "no sky")]
    assert night.summary["warnings"][0]["frames"] == 2
