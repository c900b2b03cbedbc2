"""What the commands of all tasks share: they restore frames, and tell how it went."""

import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import read_config, run_options
from dip_pipeline.cli.output import counted, in_seconds, say
from dip_pipeline.cli.verbosity import NORMAL, verbosity
from dip_pipeline.night.figure_table import LEAST_FRAMES
from dip_pipeline.task import Task

if TYPE_CHECKING:
    from dip_pipeline.batch.batch import BatchReport
    from dip_pipeline.config import RunConfig
    from dip_pipeline.pipeline import RunReport


_MANY_FRAMES = 4  # for which a prior of some pays


def task_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add INPUT..., -o, --overwrite, --shard and the options of a run."""
    parts: list[Callable[..., Any]] = [
        click.argument("inputs", metavar="INPUT...", nargs=-1, required=True),
        click.option(
            "-o",
            "--out",
            metavar="OUT",
            required=True,
            help="Where the result goes: a file (.fits, .fits.gz, .fits.fz, .zarr), or a folder/, "
            "in which it is named INPUT_dip; several results go into a folder.  [no default]",
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Replace outputs that exist already, but whole ones of this very command.  "
            "[default: no]",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            help="Restore every N-th tile alone, from the I-th, beside other processes on a shared "
            "disk; `dip finish OUT` then writes the output.  [default: all tiles]",
        ),
        run_options,
    ]
    for part in reversed(parts):
        command = part(command)
    return command


def run_task(  # noqa: PLR0913  (what `task_arguments` adds)
    task: Task,
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    values: dict[str, Any],
) -> int:
    """Restore every input, tell how it went; returns the exit code.

    values : the options of the configuration, as `read_config` takes them
    """
    from dip_pipeline.batch.batch import restore_frames
    from dip_pipeline.batch.summary import has_word, leave_word, summary_kept
    from dip_pipeline.cli.naming import jobs_planned
    from dip_pipeline.cli.progress import watching
    from dip_pipeline.config.task_optics import check_task
    from dip_pipeline.engine import Shard

    config = read_config(config_file, {**values, "task__name": task.value})
    check_task(config)
    words: tuple[str, ...] = click.get_current_context().obj or ()
    part = None if shard is None else Shard.parse(shard)
    with watching(verbosity()) as progress, ExitStack() as kept:
        jobs = kept.enter_context(jobs_planned(inputs, out))
        missing = [job.source for job in jobs if not job.target.exists()]
        if progress is not None and (hint := prior_hint(config, missing)):
            progress.note(hint)
        folder = jobs[0].target.parent
        summary = None
        if len(jobs) > 1 and part is None:
            summary = kept.enter_context(summary_kept(folder, jobs, words))
        if config.task.each:
            from dip_pipeline.batch.each_priors import shared_among_exposures

            jobs = shared_among_exposures(jobs, config, folder, progress, overwrite=overwrite)
        report = restore_frames(
            jobs,
            config,
            overwrite=overwrite,
            progress=progress,
            command_line=words,
            shard=part,
            on_result=summary.add if summary else lambda _: None,
        )
        if summary:
            summary.end(report)
        elif part or _names_folder(out, jobs[0].target) or has_word(folder):
            leave_word(folder, report.frames, words)
    text = describe(report)
    if text and verbosity() >= NORMAL:
        say(text)
    return report.exit_code


def prior_hint(config: "RunConfig", sources: Sequence[str]) -> str:
    """Say that many frames may share what is fitted once; "" where they cannot, or do."""
    if len(sources) < _MANY_FRAMES or not config.may_apply_prior:
        return ""
    first, last = sources[0], sources[len(sources) // 2]
    return (
        f"{len(sources)} frames, each with networks of its own; if they are of one camera and "
        f"filter, one prior for all takes a fraction of the time: dip fit {shlex.quote(first)} "
        f"{shlex.quote(last)} -o night.prior, then --prior night.prior here"
    )


def _names_folder(out: str, target: Path) -> bool:
    """Whether an output was given as the folder it goes to: one of results, where word is left."""
    return target != Path(out)


def describe(report: "BatchReport") -> str:
    """Tell how each frame ended, and how many ended how; errors were told when they came."""
    lines = [
        frame_lines(frame.job.source, frame.report)
        for frame in report.frames
        if frame.report is not None
    ]
    if len(report.frames) > 1:
        ends = [frame.status for frame in report.frames]
        counts = [f"{ends.count(end)} {end}" for end in dict.fromkeys(ends)]
        lines.append(f"{len(ends)} frames: {', '.join(counts)}")
    lines += [f"warning of {repeated}" for repeated in report.repeated]
    lines += [str(odd) for odd in report.odd]
    return "\n".join([*lines, *_way_to_the_page(report)])


def _way_to_the_page(report: "BatchReport") -> list[str]:
    """Say how to look at a night that has been restored."""
    made = [frame.job.target for frame in report.frames if frame.status == "restored"]
    folders = {target.parent for target in made}
    if len(made) < LEAST_FRAMES or len(folders) > 1:
        return []
    page = "night.html --overwrite" if Path("night.html").exists() else "night.html"
    return [f"look at them on one page: dip report {shlex.quote(str(folders.pop()))} -o {page}"]


def frame_lines(source: str, report: "RunReport") -> str:
    """Tell how one frame ended."""
    lines = [f"{source} -> {report.target}: {report.status}"]
    if report.failed_tiles and report.status == "restored":
        good = report.tiles - report.failed_tiles
        lines = [f"{source} -> {report.target}: {good} of {report.tiles} tiles restored"]
    if report.status != "already done":
        found = f", {report.found_done} found done" if report.found_done else ""
        lines[0] += f" in {in_seconds(report.seconds)}, {_tiles_there(report)}{found}"
        lines.append(f"  noise: {report.noise}")
        if not report.missing_tiles:
            lines.append(f"  change of total flux: {report.flux_change:+.6g} (unit of the frame)")
    so_far = "so far: " if report.missing_tiles else ""
    lines.append(f"  {so_far}{_residual_noise(report)}")
    if report.status == "part done" and not report.missing_tiles:
        lines.append(
            f"  every tile is there: dip finish {shlex.quote(str(report.target))} writes it"
        )
    if report.failed_tiles:
        lines.append(
            f"  {report.failed_tiles} of {report.tiles} tiles FAILED: copied from the input, flag 4"
        )
        lines += [f"  {report.failure}"] if report.failure else []
    lines += [f"  {note}" for note in report.notes]
    return "\n".join(lines)


def _tiles_there(report: "RunReport") -> str:
    """Count the tiles; of a part done, those that it and other shards have made by now."""
    if not report.missing_tiles:
        return counted(report.tiles, "tile")
    return f"{report.tiles - report.missing_tiles} of {counted(report.tiles, 'tile')} are there"


def _residual_noise(report: "RunReport") -> str:
    """Tell the estimated residual noise, with its error where there is one."""
    if report.below_zero and report.counts:
        return "residual noise: not to be told, its counts are too few"
    if report.below_zero:
        return "residual noise: not to be told, for the noise is not what its law says"
    if not math.isfinite(report.risk):
        return "residual noise: could not be judged"
    if not math.isfinite(report.risk_error):
        return f"estimated residual noise: at most {report.risk:.3f} of {report.judged_noise}"
    told = f"{report.risk:.3f} +- {report.risk_error:.3f}"
    return f"estimated residual noise: {told} of {report.judged_noise}"
