"""Laws of a batch: one bad frame never stops a night, and the report forgets none."""

import logging
import re
import time
from pathlib import Path

import pytest

from dip_pipeline import pipeline
from dip_pipeline.batch.batch import Job, restore_frames
from dip_pipeline.cli.task_command import describe
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import (
    BrokenProcessError,
    ConfigError,
    ExitCode,
    FrameError,
    OutputError,
    StoppedError,
)
from dip_pipeline.repeated_warnings import warnings_counted
from tests.cli.conftest import report

JOBS = [Job(f"{name}.fits", Path(f"{name}_dip.fits")) for name in ("a", "b", "c")]


@pytest.fixture
def endings(monkeypatch):
    """What happens to a source instead of its restoration."""
    table: dict[str, BaseException] = {}

    def fake(source, target, config, **options):
        if source in table:
            raise table[source]
        return report(source, target, status="already done" if source == "c.fits" else "restored")

    monkeypatch.setattr(pipeline, "restore_frame", fake)
    return table


def test_all_good(endings):
    batch = restore_frames(JOBS, RunConfig())
    assert batch.exit_code is ExitCode.OK
    assert [frame.status for frame in batch.frames] == ["restored", "restored", "already done"]
    assert [frame.job for frame in batch.frames] == JOBS


@pytest.mark.parametrize("bad", JOBS)
@pytest.mark.parametrize(
    "error",
    [
        FrameError("truncated"),
        OutputError("disk full"),
        PermissionError(13, "Permission denied"),
        MemoryError(),
        ValueError("a bug"),
        KeyError("a bug"),
        RuntimeError("out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_bad_frame_never_stops_the_others(endings, caplog, bad, error):
    endings[bad.source] = error
    batch = restore_frames(JOBS, RunConfig())
    assert batch.exit_code is ExitCode.FRAMES_FAILED
    assert [frame.report is None for frame in batch.frames] == [job is bad for job in JOBS]
    (failed,) = (frame for frame in batch.frames if frame.report is None)
    assert bad.source in failed.error
    assert "\n" not in failed.error
    assert failed.error in [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]


def test_only_a_bug_shows_a_traceback(endings, caplog):
    endings["a.fits"] = FrameError("truncated")
    endings["b.fits"] = ZeroDivisionError("a bug")
    restore_frames(JOBS, RunConfig())
    assert ["a bug" in r.getMessage() for r in caplog.records if r.exc_info] == [True]


def test_an_option_that_cannot_be_used_stops_all(endings):
    endings["a.fits"] = ConfigError("--device cuda: no GPU here")
    with pytest.raises(ConfigError):
        restore_frames(JOBS, RunConfig())


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_what_no_frame_can_be_restored_without_stops_all_and_says_how_many_wait(endings, executor):
    endings["b.fits"] = BrokenProcessError("the scheduler is gone")
    config = RunConfig().with_overrides(**{"workers.executor": executor, "workers.device": "cpu"})
    with pytest.raises(BrokenProcessError) as caught:
        restore_frames(JOBS, config, at_once=2)
    ended = 1 if executor == "inline" else "[12]"  # c.fits may end beside it
    said = rf"the scheduler is gone \({ended} of 3 frames had ended, the others wait\)"
    assert re.fullmatch(said, str(caught.value))
    with pytest.raises(BrokenProcessError, match=r"^the scheduler is gone$"):
        restore_frames(JOBS[1:2], config)


def test_an_interruption_stops_all(endings):
    endings["b.fits"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        restore_frames(JOBS, RunConfig())


def test_frames_that_an_interruption_stops_wait_and_have_not_failed(monkeypatch):
    def fake(source, target, config, *, place, **options):
        if source == "a.fits":
            raise KeyboardInterrupt
        deadline = time.monotonic() + 10
        while not place.pool.stopped and time.monotonic() < deadline:
            time.sleep(0.01)
        raise StoppedError("stopped before all items were done")

    monkeypatch.setattr(pipeline, "restore_frame", fake)
    config = RunConfig().with_overrides(**{"workers.executor": "local", "workers.device": "cpu"})
    told = []
    with pytest.raises(KeyboardInterrupt):
        restore_frames(JOBS, config, at_once=2, on_result=told.append)
    assert told == []


def test_a_failed_tile_is_a_failure_of_the_batch(monkeypatch):
    def with_a_failed_tile(source, target, config, **options):
        return report(source, target, failed_tiles=1)

    monkeypatch.setattr(pipeline, "restore_frame", with_a_failed_tile)
    batch = restore_frames(JOBS, RunConfig())
    assert batch.exit_code is ExitCode.FRAMES_FAILED
    assert {frame.status for frame in batch.frames} == {"tiles failed"}


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_warnings_that_frames_have_in_common_are_counted_once_at_the_end(monkeypatch, executor):
    log = logging.getLogger("dip_pipeline.noise.frame_noise")

    def warn(source, target, config, **options):
        log.warning("%s: NOISE NOT KNOWN: %s; sigma %.1f", source, "no card", ord(source[0]))
        log.warning("%s: NOISE NOT KNOWN: %s; sigma %.1f", source, "no card", ord(source[0]))
        if source == "b.fits":
            log.warning("%s: its check sum is wrong", source)
            log.warning("tile at %s: diverged", (0, 0))
            log.warning("tile at %s: diverged", (0, 99))
            log.warning("%s, HDU %d: odd", source, 1)
            log.warning("%s, HDU %d: odd", source, 2)
        log.error("%s: failed", source)
        log.info("%s: fine", source)
        return report(source, target)

    monkeypatch.setattr(pipeline, "restore_frame", warn)
    config = RunConfig().with_overrides(**{"workers.executor": executor, "workers.device": "cpu"})
    handlers = [*logging.getLogger("dip_pipeline").handlers]
    found = restore_frames(JOBS, config, at_once=1)
    assert found.repeated == ((3, "a.fits", "NOISE NOT KNOWN: no card; sigma 97.0"),)
    said = "warning of 3 frames: NOISE NOT KNOWN: no card; sigma 97.0 (this of a.fits)"
    assert describe(found).splitlines()[-1] == said
    assert restore_frames(JOBS[:1], config).repeated == ()
    assert logging.getLogger("dip_pipeline").handlers == handlers


def test_a_warning_is_counted_for_the_frame_that_it_names_however_it_names_it():
    log = logging.getLogger("dip_pipeline.frames.opening")
    sources = ["night/a.fits[1]", "night/ba.fits", "night/c.fits"]
    with warnings_counted(sources) as heard:
        log.warning("%s: its check sum is wrong", "night/ba.fits")
        log.warning("%s, HDU 1: a card is odd", "ba.fits")
        log.warning("%s: its check sum is wrong", "night/ba.fits")
        assert heard.repeated == ()
        log.warning("%s: its check sum is wrong", "/data/night/a.fits")
        assert heard.repeated == ((2, "night/ba.fits", "its check sum is wrong"),)
        log.warning("%s, HDU 1: a card is odd", "a.fits")
    assert heard.repeated[1] == (2, "night/ba.fits", "a card is odd")
