"""A night as it comes in: a workflow whose frames are restored as soon as they are there."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dip_pipeline.batch.arrivals import Arrivals
from dip_pipeline.batch.batch import BatchReport, FrameResult, Job, failed, unlike_others
from dip_pipeline.batch.summary import Summary, ended_in
from dip_pipeline.batch.summary_name import own_name
from dip_pipeline.batch.workflow import Workflow, check_workflow, restore_jobs
from dip_pipeline.errors import ConfigError, NoFramesError
from dip_pipeline.night.unmade import SUMMARY
from dip_pipeline.progress import SILENT
from dip_pipeline.repeated_warnings import warnings_counted

if TYPE_CHECKING:
    from dip_pipeline.pipeline import Progress


log = logging.getLogger(__name__)

_UNFINISHED = (
    "was still being written to when the end came; the same command restores it when it is whole"
)
_EMPTY = "nothing was in it, or it could not be looked at, until the end"
_ALONE = "restore it by itself, with its own -o"


@dataclass(frozen=True, slots=True)
class Watch:
    """How frames are waited for.

    patience_s : without a new one, after which the run ends
    look_s : between two looks
    wait, clock : as `time` has them
    """

    patience_s: float
    look_s: float = 5.0
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class _Round(NamedTuple):
    """Frames that have come in; whole : names of all that have by now."""

    fresh: list[Job]
    whole: list[str]


def watch_workflow(
    workflow: Workflow,
    find: Callable[[], list[Job]],
    out: Path,
    watch: Watch,
    *,
    progress: "Progress | None" = None,
    command_line: Sequence[str] = (),
) -> BatchReport:
    """Run a workflow on its frames as they come in, until none has come for a while.

    find : names the frames that are there by now, and where each goes; NoFramesError for none
    One that fails is tried again when its file changes; of one that comes in at the end the end is
    waited for, as long again, and one that stays empty, or is never whole, has failed. The summary
    in `out` is of all of them.
    Raises ConfigError for what no frame could be done with, NoFramesError where none came.
    """
    if workflow.config.task.each:
        raise ConfigError(
            f"{workflow.path}: task.each: every frame is guided by all others, which have to be "
            "there when it begins; run it without --watch when they are"
        )
    check_workflow(workflow, ())
    arrivals = Arrivals(watch.clock)
    rounds = _rounds(find, arrivals, watch, progress or SILENT)
    first = next(rounds, None)
    if first is None:
        raise NoFramesError(
            f"{workflow.path}: no frame came in {_minutes(watch.patience_s)}; is it the right "
            "folder?"
        )
    ended: dict[str, FrameResult] = {}
    taken: dict[Path, str] = {}  # whose an output is
    with own_name(out / SUMMARY) as path, warnings_counted(()) as heard:
        summary = Summary(path, workflow.path, (), command_line)

        def note(result: FrameResult) -> None:
            ended[result.job.source] = result
            summary.add(result)

        with ended_in(summary):
            for fresh, whole in chain([first], rounds):
                summary.expect(fresh)
                heard.expect([job.source for job in fresh])
                own = _with_own_output(fresh, taken, note)
                restore_jobs(
                    workflow,
                    own,
                    out,
                    beside=whole,
                    progress=progress,
                    command_line=command_line,
                    on_result=note,
                )
                for job in own:
                    if ended[job.source].report is not None:
                        arrivals.done(job.source)
                    else:
                        del taken[job.target]
            for job, why in _never_whole(find, arrivals):
                note(failed(job, f"{job.source}: {why}"))
            results = tuple(ended.values())
            report = BatchReport(results, heard.repeated, unlike_others(results))
        summary.end(report)
    return report


def _with_own_output(
    fresh: Sequence[Job], taken: dict[Path, str], note: Callable[[FrameResult], None]
) -> list[Job]:
    """Keep the frames whose output is no other's, which they take; the others have failed."""
    own = []
    for job in fresh:
        owner = taken.setdefault(job.target, job.source)
        if owner == job.source:
            own.append(job)
        else:
            note(failed(job, f"{job.target}: is that of {owner}; {_ALONE}"))
    return own


def _never_whole(find: Callable[[], list[Job]], arrivals: Arrivals) -> list[tuple[Job, str]]:
    """Frames that have a name, and never anything in it, or not all of it; and why they failed."""
    found = [(job, arrivals.is_arriving(job.source)) for job in _found(find)]
    return [
        (job, _UNFINISHED if is_arriving else _EMPTY)
        for job, is_arriving in found
        if is_arriving or not arrivals.has_taken(job.source)
    ]


def _rounds(
    find: Callable[[], list[Job]], arrivals: Arrivals, watch: Watch, told: "Progress"
) -> Iterator[_Round]:
    """Yield the frames that have come in, whenever some have; ends where patience does."""
    last, is_told = watch.clock(), False
    while True:
        jobs = _found(find)
        fresh = set(arrivals.fresh([job.source for job in jobs]))
        if fresh:
            yield _Round(
                [job for job in jobs if job.source in fresh],
                [job.source for job in jobs if arrivals.has_taken(job.source)],
            )
            last, is_told = watch.clock(), False
            continue
        left_s = watch.patience_s - (watch.clock() - last)
        arriving = any(arrivals.is_arriving(job.source) for job in jobs)
        if left_s <= (-watch.patience_s if arriving else 0):
            return
        if not is_told:
            told.note(
                f"waiting for frames; ends when none has come for {_minutes(watch.patience_s)}"
            )
            is_told = True
        watch.wait(min(watch.look_s, left_s) if left_s > 0 else watch.look_s)


def _found(find: Callable[[], list[Job]]) -> list[Job]:
    """Look for frames; none where a disk of the network is away for a moment."""
    try:
        return find()
    except NoFramesError:
        return []
    except OSError as error:
        log.warning("%s; frames are looked for again", error)
        return []


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"
