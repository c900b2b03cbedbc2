"""How a restoration goes on: bars on a terminal, plain lines where nobody watches."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from dip_pipeline.cli.output import complain_as_is, counted, in_seconds
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging

if TYPE_CHECKING:
    from dip_pipeline.pipeline import Progress as Listener

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def watching(verbosity: int) -> Iterator["Listener | None"]:
    """Show how frames go on, and the log, on stderr; None where the user wants to hear nothing."""
    if verbosity < NORMAL:
        start_logging(LogLines(complain_as_is), verbosity)
        yield None
    elif sys.stderr is not None and sys.stderr.isatty():
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        start_logging(LogLines(lambda line: console.print(line, markup=False)), verbosity)
        with _bars(console) as bars:
            yield TerminalProgress(bars)
    else:
        start_logging(LogLines(complain_as_is), verbosity)
        yield LineProgress(complain_as_is)


class LineProgress:
    """Writes a line now and then: at the start, every few seconds, and at the end."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._source = ""
        self._tiles = self._done = self._tiles_seen = 0
        self._fitting, self._tiling = _Pace(), _Pace()
        self._fit_ended = False  # and told; what follows, as judging the networks, takes a while
        self._last_line = clock()

    def frame_started(self, source: str, tiles: int, found_done: int) -> None:
        """Tell of a new frame."""
        self._source, self._tiles, self._done = source, tiles, found_done
        self._tiles_seen = 0
        self._fitting, self._tiling = _Pace(), _Pace(self._clock())
        self._fit_ended = False
        found = f", {found_done} of them done already" if found_done else ""
        self._line(f"{counted(tiles, 'tile')}{found}")

    def fit_started(self, target: str, frames: int) -> None:
        """Tell of a prior that is fitted to several frames."""
        self._source = target
        self._fitting = _Pace()
        self._fit_ended = False
        self._line(f"frames to fit: {frames}")

    def fit_step(self, step: int, steps: int, risk: float) -> None:
        """Tell how far the fit of the whole frame is."""
        left = self._fitting.left(step, steps, self._clock())
        was_ended, self._fit_ended = self._fit_ended, step >= steps
        if self._is_time() if step < steps else not was_ended:
            self._line(f"fit: step {step} of {steps}, loss {risk:.4g}{left}")
        self._tiling = _Pace()  # what comes before the first tile is not a tile's time

    def tile_done(self, record: Mapping[str, object]) -> None:
        """Tell how many tiles are done, and of each that failed."""
        self._done += 1
        self._tiles_seen += 1
        missing = self._tiles_seen + self._tiles - self._done
        left = self._tiling.left(self._tiles_seen, missing, self._clock())
        if record.get("failed"):
            self._line(f"tile {record.get('tile')} FAILED, copied: {stop_reason(record)}")
        if self._is_time() or self._done == self._tiles:
            risk = _risk_of_one(record, self._tiles)
            self._line(f"{self._done} of {self._tiles} tiles, {risk}{left}")

    def note(self, message: str) -> None:
        """Pass on what the user must hear."""
        self._write(f"dip: {message}")

    def _is_time(self) -> bool:
        return self._clock() - self._last_line >= SECONDS_BETWEEN_LINES

    def _line(self, text: str) -> None:
        self._last_line = self._clock()
        self._write(f"dip: {self._source}: {text}")


class TerminalProgress:
    """Bars: one for the fit of a frame, one for its tiles."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._fit: TaskID | None = None
        self._tiles: TaskID | None = None
        self._total = 0

    def frame_started(self, source: str, tiles: int, found_done: int) -> None:
        """Begin the bars anew."""
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        found = f"{source}: {counted(tiles, 'tile')}, {found_done} found done"
        self._bars.console.print(found, markup=False)
        self._fit = None
        self._total = tiles
        self._tiles = self._bars.add_task(
            "tiles", total=tiles, completed=found_done, facts="", start=False
        )

    def fit_started(self, target: str, frames: int) -> None:
        """Tell of a prior that is fitted to several frames."""
        self.note(f"{target}: frames to fit: {frames}")

    def fit_step(self, step: int, steps: int, risk: float) -> None:
        """Move the bar of the fit."""
        if self._fit is None:
            self._fit = self._bars.add_task("fit", total=steps, facts="")
        self._bars.update(self._fit, completed=step, total=steps, facts=f"loss {risk:.4g}")

    def tile_done(self, record: Mapping[str, object]) -> None:
        """Move the bar of the tiles; a tile that failed has a line of its own."""
        if self._fit is not None:
            self._bars.remove_task(self._fit)
            self._fit = None
        if self._tiles is not None:
            self._bars.start_task(self._tiles)
            self._bars.update(self._tiles, advance=1, facts=_risk_of_one(record, self._total))
        if record.get("failed"):
            self.note(f"tile {record.get('tile')} FAILED, copied: {stop_reason(record)}")

    def note(self, message: str) -> None:
        """Write above the bars."""
        self._bars.console.print(message, markup=False)


def _risk_of_one(record: Mapping[str, object], tiles: int) -> str:
    """Tell what was judged of a tile, and that it is of one, where it is not of all."""
    return judged_risk(record) if tiles == 1 else f"the last: {judged_risk(record)}"


def judged_risk(record: Mapping[str, object]) -> str:
    """Tell the residual noise of a tile as it was judged, in units of sigma."""
    risk = record.get("risk")
    if not isinstance(risk, int | float) or not math.isfinite(risk):
        return "not judged"
    if risk <= 0:  # an estimate with an error of its own
        return "residual noise not to be told (its estimated square is below 0)"
    return f"residual noise about {math.sqrt(risk):.3f} sigma"


def stop_reason(record: Mapping[str, object]) -> str:
    """Tell why a tile was copied, in words a user can act on."""
    from dip_pipeline.account.record import usual_failure  # torch is loaded by now

    return usual_failure([record]) or "no reason told"


class _Pace:
    """Steps since a moment, and the time that the rest will take.

    started : when the work began; None: what is done when it is first asked is not counted, for
        other work came before it
    """

    def __init__(self, started: float | None = None) -> None:
        self._began: tuple[float, int] | None = None if started is None else (started, 0)

    def left(self, done: int, total: int, now: float) -> str:
        """Tell the time left, once there is something to judge it by."""
        if self._began is None or done < self._began[1]:  # or the work was begun anew
            self._began = now, done
        started, before = self._began
        if done <= before or done >= total:
            return ""
        return f", {in_seconds((now - started) / (done - before) * (total - done))} left"


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description:<5}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,  # bars are on stderr, stdout may be a file
    ) as bars:
        yield bars
