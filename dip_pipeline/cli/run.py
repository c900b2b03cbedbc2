"""`dip run`: a workflow from its file."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, dotted, override_options
from dip_pipeline.cli.output import complain_as_is, in_one_line, say
from dip_pipeline.cli.task_command import describe
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity
from dip_pipeline.errors import ConfigError, DipError, ExitCode

if TYPE_CHECKING:
    from dip_pipeline.batch.batch import BatchReport, Job
    from dip_pipeline.batch.workflow import Workflow

log = logging.getLogger(__name__)

_EXAMPLES = """\b
Examples:
  dip run workflows/nightly.toml
  dip run workflows/nightly.toml night/ -o restored/ --jobs 4
  dip run workflows/nightly.toml night/ -o restored/ --watch 60
  dip run workflows/slurm.toml --script
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@click.argument("workflow_file", metavar="WORKFLOW.toml", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="[INPUT...]", nargs=-1)
@click.option("-o", "--out", metavar="OUT/", help="Folder for the results.  [default: the file's]")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    help="Frames in work at the same time, where there are workers.  [default: the file's]",
)
@click.option(
    "--watch",
    metavar="MINUTES",
    type=click.FloatRange(min=0, min_open=True),
    help="Restore frames as they come in, each when its file has not changed for 10 s, until none "
    "has come for so long; give a folder, or a glob in quotes.  [default: those that are there]",
)
@click.option(
    "--dry-run", is_flag=True, help="Tell what would be done, and do nothing.  [default: no]"
)
@click.option(
    "--script",
    is_flag=True,
    help="Write the job script of the workflow's cluster, and do nothing.  [default: no]",
)
@override_options
def run(  # noqa: PLR0913  (the options of the command)
    workflow_file: Path,
    inputs: tuple[str, ...],
    *,
    out: str | None,
    jobs: int | None,
    watch: float | None,
    dry_run: bool,
    script: bool,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Run a workflow: which frames, what is done to them, and where, from one file.

    What is given here outranks the file. One bad frame never stops the others; how each ended is
    in OUT/summary.json. The same command again goes on where it stopped.
    """
    from dip_pipeline.batch.workflow import Workflow
    from dip_pipeline.cli.naming import plan_jobs

    workflow = Workflow.read(workflow_file)
    config = workflow.config.with_overrides(**{dotted(name): v for name, v in values.items()})
    workflow = replace(workflow, config=config)
    if jobs is not None:
        schedule = workflow.tables.schedule.model_copy(update={"frames_at_once": jobs})
        tables = workflow.tables.model_copy(update={"schedule": schedule})
        workflow = replace(workflow, tables=tables)
    if script:
        return _say_script(workflow)
    folder = workflow.tables.frames.out if out is None else out
    if folder is None:
        raise ConfigError(f"{workflow_file}: no folder for the results; give frames.out, or -o")
    if not folder:
        raise ConfigError(f"{workflow_file}: frames.out, or -o, is an empty name; give a folder")
    start_logging(LogLines(complain_as_is), verbosity())
    folder = folder.rstrip("/") + "/"
    if dry_run:
        say(_plan(workflow, plan_jobs(workflow.sources(inputs), folder, create=False)))
        return ExitCode.OK
    report = _restored(workflow, inputs, folder, watch)
    text = describe(report)
    if text and verbosity() >= NORMAL:
        say(text)
    return report.exit_code


def _restored(
    workflow: "Workflow", inputs: tuple[str, ...], folder: str, watch_min: float | None
) -> "BatchReport":
    """Restore the frames that are there, or those that come in until none has for so long."""
    from dip_pipeline.batch.watching import Watch, watch_workflow
    from dip_pipeline.batch.workflow import run_workflow
    from dip_pipeline.cli.naming import plan_jobs
    from dip_pipeline.cli.progress import watching

    words: tuple[str, ...] = click.get_current_context().obj or ()
    if watch_min is None:
        planned = plan_jobs(workflow.sources(inputs), folder)
        with watching(verbosity()) as progress:
            return run_workflow(
                workflow, planned, Path(folder), progress=progress, command_line=words
            )
    with watching(verbosity()) as progress:
        if not workflow.can_grow(inputs):
            log.warning(
                "%s: --watch: files alone are named, so no other frame will be found; give their "
                "folder, or a glob in quotes",
                workflow.path,
            )
        return watch_workflow(
            workflow,
            lambda: plan_jobs(workflow.sources(inputs), folder, come_in=True),
            Path(folder),
            Watch(60 * watch_min),
            progress=progress,
            command_line=words,
        )


def _say_script(workflow: "Workflow") -> int:
    from dip_pipeline.engine.clusters import job_script

    if workflow.tables.cluster is None:
        raise ConfigError(f"{workflow.path}: has no table [cluster], so there is no job script")
    say(job_script(workflow.tables.cluster.options()))
    return ExitCode.OK


def _plan(workflow: "Workflow", jobs: "list[Job]") -> str:
    from dip_pipeline.batch.night_priors import groups_of
    from dip_pipeline.batch.workflow import check_workflow
    from dip_pipeline.frames import open_frame

    check_workflow(workflow, jobs)
    reading = workflow.config.frame_reading()
    lines = [
        f"{job.source} -> {job.target}{': exists already' if job.target.exists() else ''}"
        for job in jobs
    ]
    for job in jobs:
        try:
            open_frame(job.source, reading)
        except (DipError, OSError) as error:
            why = str(error).removeprefix(f"{job.source}: ")
            complain_as_is(in_one_line(f"dip: warning: {job.source}: cannot be restored: {why}"))
    if workflow.tables.prior.shared == "night":
        lines += [
            f"prior {group.name}: {len(group.sources)} frames"
            for group in groups_of([job.source for job in jobs], reading)
            if len(group.sources) > 1
        ]
    return "\n".join(lines)
