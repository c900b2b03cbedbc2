"""summary.json: how every frame of a run ended, and which of earlier runs have no product."""

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import Any

from dip_pipeline import __version__
from dip_pipeline.batch.batch import BatchReport, FrameResult, Job
from dip_pipeline.batch.summary_name import ended_beside, is_foreign, own_name, take_away
from dip_pipeline.engine import replace_file
from dip_pipeline.errors import (
    BrokenProcessError,
    ConfigError,
    DipError,
    ExitCode,
    FrameError,
    OutputError,
)
from dip_pipeline.night.odd_frames import OddFrame
from dip_pipeline.night.unmade import SUMMARY, WAITING, read_summary, unmade_in
from dip_pipeline.repeated_warnings import Repeated

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0  # of a frame that failed, for others that leave word at the same moment


class Summary:
    """How every frame of a run ended, in a file that is brought up to date as they end.

    Of earlier runs those frames stay told that have no product and are none of this run's. Those of
    a second summary, of a run that was at work beside another one, are taken over; at the end its
    file goes.
    workflow : its file; None where the command alone says what is done
    """

    def __init__(
        self, path: Path, workflow: Path | None, jobs: Sequence[Job], command_line: Sequence[str]
    ) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._started = time.time()
        self._head = {
            "workflow": None if workflow is None else str(workflow),
            "command_line": list(command_line),
            "dip_pipeline": __version__,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # A line of each frame is kept: of thousands, all would be put into words after each.
        self._ends: dict[str, str] = {}
        self._lines: dict[str, str] = {}
        # A frame may end after an interrupt has ended the rest.
        self._ended: tuple[int | None, str] = None, ""
        self._is_told = False
        self._warnings: list[dict[str, Any]] = []
        self._odd: list[dict[str, Any]] = []
        self._beside = ended_beside(path)
        told = [each for one in (*self._beside, path) for each in unmade_in(one)]
        self._earlier = {each.product.name: _line(each.facts()) for each in told}
        self._before = _content(path)
        self._await(jobs)

    def expect(self, jobs: Sequence[Job]) -> None:
        """Add frames that have come in since: they wait, whatever became of them before.

        Where that cannot be written, the first that ends tells of all.
        """
        with self._lock:
            self._await(jobs)
            self._write_or_warn()

    def _await(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._ends[job.source] = WAITING
            self._lines[job.source] = _line(
                {"source": job.source, "target": str(job.target), "status": WAITING}
            )
            self._earlier.pop(Path(job.target).name, None)

    def begin(self) -> None:
        """Put this run in the place of an earlier one: all frames wait."""
        with self._lock:
            self._write()

    def withdraw(self) -> None:
        """Leave all as it was before this run began, unless a frame of it has ended."""
        with self._lock, suppress(OSError, OutputError):
            if any(end != WAITING for end in self._ends.values()):
                return
            if self._before is None:
                self._path.unlink(missing_ok=True)
            else:
                replace_file(self._path, self._before)

    def add(self, result: FrameResult) -> None:
        """Note how a frame ended; where that cannot be written, the next one tells of both."""
        with self._lock:
            self._ends[result.job.source] = result.status
            self._lines[result.job.source] = _line(_frame_facts(result))
            self._write_or_warn()

    def _write_or_warn(self) -> None:
        try:
            self._write()
        except OutputError as error:
            self.warn(error, "the frames go on")

    def warn(self, error: OutputError, what_of_it: str) -> None:
        """Say that it cannot be written: once, for of thousands of frames each finds the same."""
        if not self._is_told:
            log.warning("%s; %s", error, what_of_it)
        self._is_told = True

    def end(self, report: BatchReport) -> None:
        """Note how all of it ended; a warning says where that cannot be written."""
        try:
            self.write(report.exit_code, repeated=report.repeated, odd=report.odd)
            for path, content in self._beside.items():
                take_away(path, content)
        except OutputError as error:
            self.warn(error, "how each frame ended is told here alone")

    def write(
        self,
        exit_code: ExitCode,
        error: str = "",
        repeated: Sequence[Repeated] = (),
        odd: Sequence[OddFrame] = (),
    ) -> None:
        """Note how all of it ended.

        repeated : warnings that several frames have in common; odd : frames unlike the others
        """
        with self._lock:
            self._odd = [each.facts() for each in odd]
            self._warnings = [each._asdict() for each in repeated]
            self._ended = int(exit_code), error
            self._write()

    def _write(self) -> None:
        ends, (exit_code, error) = list(self._ends.values()), self._ended
        content = {
            **self._head,
            "seconds": round(time.time() - self._started, 1),
            "exit_code": exit_code,
            "error": error,
            "warnings": self._warnings,
            "unlike_the_others": self._odd,
            "counts": {end: ends.count(end) for end in dict.fromkeys(ends)},
        }
        _write(self._path, content, list(self._lines.values()), self._earlier.values())


@contextmanager
def summary_kept(
    folder: Path, jobs: Sequence[Job], command_line: Sequence[str]
) -> Iterator[Summary]:
    """Keep a summary of frames that a command names.

    One that cannot be written is told of, and stops nothing. Where the command is refused, all is
    left as it was; where workers cannot be had, the frames wait.
    """
    with own_name(folder / SUMMARY) as path:
        summary = Summary(path, None, jobs, command_line)
        try:
            summary.begin()
        except OutputError as error:
            summary.warn(error, "the run goes on without it")
        try:
            with ended_in(summary):
                yield summary
        except BrokenProcessError:
            raise
        except DipError:
            summary.withdraw()
            raise


def leave_word(folder: Path, results: Sequence[FrameResult], command_line: Sequence[str]) -> None:
    """Leave word of frames that failed, of a run that keeps no summary: of one frame, or a shard.

    The summary that is there stays that of its run, and tells of them as of frames of other runs;
    where there is none they have their own. That it cannot be written is told, and stops nothing.
    """
    failed = [each for each in results if each.report is None]
    if not failed:
        return
    jobs = [each.job for each in failed]
    try:
        with own_name(folder / SUMMARY, patience_s=_PATIENCE_S) as path:
            if path.exists():
                _add_earlier(path, failed)
                return
            summary = Summary(path, None, jobs, command_line)
            for each in failed:
                summary.add(each)
            summary.end(BatchReport(tuple(failed)))
    except (OutputError, FrameError) as error:
        log.warning("%s; no word is left there of the frame that failed", error)


def has_word(folder: Path) -> bool:
    """Whether a run left a summary in a folder."""
    path = folder / SUMMARY
    return path.is_file() and not is_foreign(path)


def _add_earlier(path: Path, failed: Sequence[FrameResult]) -> None:
    """Tell in a summary of frames of another run, in the place of what it told of them as such."""
    content = read_summary(path)
    lists = {name: content.pop(name, None) or [] for name in ("frames", "earlier")}
    names = {Path(each.job.target).name for each in failed}
    kept = [each for each in lists["earlier"] if _target_name(each) not in names]
    told = [_frame_facts(each) for each in failed]
    _write(path, content, map(_line, lists["frames"]), map(_line, [*kept, *told]))


def _target_name(told: object) -> str:
    target = told.get("target") if isinstance(told, Mapping) else None
    return Path(target).name if isinstance(target, str) else ""


def _write(
    path: Path, content: Mapping[str, Any], frames: Iterable[str], earlier: Iterable[str]
) -> None:
    """Write a summary: each frame is a line."""
    head = dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    lists = [
        f' "{name}": [' + ",".join(f"\n  {line}" for line in lines) + "\n ]"
        for name, lines in (("frames", frames), ("earlier", earlier))
    ]
    replace_file(path, (",\n".join([head, *lists]) + "\n}\n").encode())


@contextmanager
def ended_in(summary: Summary) -> Iterator[None]:
    """Note in a summary why a run as a whole stopped."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(OutputError):  # that it was interrupted is what counts
            summary.write(ExitCode.INTERRUPTED)
        raise
    except Exception as error:  # a defect of ours, too: no summary is to say that the run goes on
        usage = isinstance(error, ConfigError)
        words = str(error) if isinstance(error, DipError | OSError) else repr(error)
        with suppress(OutputError):  # it may be the summary that cannot be written
            summary.write(ExitCode.USAGE if usage else ExitCode.FRAMES_FAILED, error=words)
        raise


def _line(facts: Mapping[str, object]) -> str:
    return dumps(facts, allow_nan=False)


def _content(path: Path) -> bytes | None:
    with suppress(OSError):
        return path.read_bytes()
    return None


def _frame_facts(result: FrameResult) -> dict[str, Any]:
    report = result.report
    facts: dict[str, Any] = {
        "source": result.job.source,
        "target": str(result.job.target),
        "status": result.status,
        "error": result.error,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "prior": result.job.prior,
    }
    if report is not None:
        facts |= {
            "seconds": round(report.seconds, 1),
            "tiles": report.tiles,
            "tiles_found_done": report.found_done,
            "tiles_failed": report.failed_tiles,
            "noise": report.noise,
            "residual_noise": _finite(report.risk),
            "residual_noise_error": _finite(report.risk_error),
            "noise_law_is_refuted": report.below_zero > 0,
            "residual_noise_is_upper_bound": math.isfinite(report.risk)
            and math.isnan(report.risk_error),
        }
    return facts


def _finite(number: float) -> float | None:
    return round(number, 6) if abs(number) < float("inf") else None
