"""A workflow: which frames, what is done to them, where; one TOML file, one command."""

import difflib
import glob
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, ValidationError, field_validator

from dip_pipeline.batch.batch import (
    BatchReport,
    FrameResult,
    Job,
    restore_frames,
)
from dip_pipeline.batch.each_priors import shared_among_exposures
from dip_pipeline.batch.night_priors import PRIORS, NightPriors
from dip_pipeline.batch.summary import Summary, ended_in
from dip_pipeline.batch.summary_name import own_name
from dip_pipeline.config import RunConfig, key_of, needed
from dip_pipeline.config.sections import Section
from dip_pipeline.config.toml_file import read_toml
from dip_pipeline.engine.clusters import ClusterKind, ClusterOptions
from dip_pipeline.errors import ConfigError, NoFramesError
from dip_pipeline.exposures.guiding import with_others
from dip_pipeline.frames import FITS_SUFFIXES, ZARR_SUFFIXES, split_selector
from dip_pipeline.night.unmade import SUMMARY
from dip_pipeline.task import Task

if TYPE_CHECKING:
    from dip_pipeline.pipeline import Progress

log = logging.getLogger(__name__)


class FramesSection(Section):
    """Which frames, and where the results go.

    inputs : files, globs, folders; list : a text file with one of these a line
    """

    inputs: tuple[str, ...] = ()
    list: str | None = None
    out: str | None = None
    overwrite: bool = Field(default=False, strict=True)


class PriorSection(Section):
    """Whether frames share a prior.

    shared : "night" for one prior for the frames of one camera, filter and night
    frames : on how many of them it is fitted
    """

    shared: Literal["none", "night"] = "none"
    frames: int = Field(default=2, ge=1, strict=True)


class ScheduleSection(Section):
    """frames_at_once : in work at the same time, where there are workers."""

    frames_at_once: int = Field(default=2, ge=1, le=64, strict=True)


class ClusterSection(Section):
    """A cluster to start; see `ClusterOptions`."""

    kind: ClusterKind
    least: int = Field(default=1, strict=True)
    most: int = Field(default=4, strict=True)
    cores: int = Field(default=1, ge=1, strict=True)
    memory: str = "4GB"
    walltime: str = "01:00:00"
    gpus: int = Field(default=0, ge=0, strict=True)
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    shared_folder: str | None = None
    log_folder: str | None = None

    @field_validator("walltime", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value)  # TOML reads 01:00:00 as a time of the day

    def options(self) -> ClusterOptions:
        """Give the engine its options; raises ConfigError."""
        return ClusterOptions(**self.model_dump())


class WorkflowTables(Section):
    """The tables of a workflow that are not those of a configuration."""

    frames: FramesSection = FramesSection()
    prior: PriorSection = PriorSection()
    schedule: ScheduleSection = ScheduleSection()
    cluster: ClusterSection | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as it was read; config : its other tables."""

    path: Path
    tables: WorkflowTables
    config: RunConfig

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; ConfigError in one line for anything wrong with it."""
        document = read_toml(path, "a workflow, a TOML file")
        if isinstance(document.get("task"), str):  # short for its table
            document["task"] = {"name": document["task"]}
        names = set(WorkflowTables.model_fields)
        own = {name: value for name, value in document.items() if name in names}
        rest = {name: value for name, value in document.items() if name not in names}
        for name in (name for name in rest if name not in RunConfig.model_fields):
            known = [*WorkflowTables.model_fields, *RunConfig.model_fields]
            meant = None if isinstance(rest[name], dict) else key_of(name)
            nearest = _nearest(name, known) if meant is None else f"did you mean {meant}?"
            raise ConfigError(f"{path}: unknown table {name}; {nearest}")
        try:
            tables = WorkflowTables.model_validate(own)
            if tables.cluster is not None:
                tables.cluster.options()
        except ValidationError as error:
            raise ConfigError(f"{path}: {_in_one_line(error)}") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        return cls(path, tables, RunConfig.from_document(rest, source=path))

    def sources(self, instead: Sequence[str] = ()) -> list[str]:
        """Find the frames, each once, in the order of their names.

        instead : of what the file says. Raises ConfigError where a name finds nothing.
        """
        frames = self.tables.frames
        wanted = list(instead or frames.inputs)
        if not instead and frames.list is not None:
            wanted += _lines(Path(frames.list))
        if not wanted:
            raise ConfigError(f"{self.path}: no frames; give frames.inputs, or name them")
        return list(dict.fromkeys(found for name in wanted for found in _found(name)))

    def can_grow(self, instead: Sequence[str] = ()) -> bool:
        """Whether frames can come in by the names it has: of folders, globs, or a list."""
        names = instead or self.tables.frames.inputs
        return (not instead and self.tables.frames.list is not None) or any(
            _found_later(name) for name in names
        )


def check_workflow(workflow: Workflow, jobs: Sequence[Job]) -> None:
    """Raise ConfigError for a task whose options, or whose prior, do not go with it."""
    from dip_pipeline.config.task_optics import SCENE_TASKS, check_task

    task, shared = workflow.config.task.name, workflow.tables.prior.shared
    try:
        check_task(with_others(workflow.config, [job.source for job in jobs], 0))
    except ConfigError as error:
        raise ConfigError(f"{workflow.path}: {error}") from error
    if task in SCENE_TASKS and shared != "none":
        raise ConfigError(
            f"{workflow.path}: prior.shared = {shared!r}: a prior of several frames denoises, and "
            f'cannot {task}; take "none"'
        )
    if task is Task.COMBINE and shared != "none":
        raise ConfigError(
            f"{workflow.path}: prior.shared = {shared!r}: a prior of a night denoises, and cannot "
            'combine; take "none" (exposures of task.each share one of their own)'
        )


def run_workflow(
    workflow: Workflow,
    jobs: Sequence[Job],
    out: Path,
    *,
    progress: "Progress | None" = None,
    command_line: Sequence[str] = (),
) -> BatchReport:
    """Run a workflow on its frames, and keep a summary of it in the folder `out`.

    Raises ConfigError for what no frame could be done with; what stops one frame is in the report.
    """
    with own_name(out / SUMMARY) as path:
        summary = Summary(path, workflow.path, jobs, command_line)
        with ended_in(summary):
            check_workflow(workflow, jobs)
            summary.begin()
            report = restore_jobs(
                workflow,
                jobs,
                out,
                progress=progress,
                command_line=command_line,
                on_result=summary.add,
            )
        summary.end(report)
    return report


def restore_jobs(  # noqa: PLR0913  (all but three have defaults)
    workflow: Workflow,
    jobs: Sequence[Job],
    out: Path,
    *,
    beside: Sequence[str] = (),
    progress: "Progress | None" = None,
    command_line: Sequence[str] = (),
    on_result: Callable[[FrameResult], None] = lambda _: None,
) -> BatchReport:
    """Fit the priors that frames share, where the workflow has them do so, and restore the frames.

    beside : frames that share priors with these, and are not to be restored
    """
    tables = workflow.tables
    if tables.prior.shared == "night":
        shared = NightPriors(
            out / PRIORS,
            tables.prior.frames,
            workflow.config,
            overwrite=tables.frames.overwrite,
        )
        jobs = shared.given_to(jobs, progress, beside)
    elif workflow.config.task.each:
        jobs = shared_among_exposures(
            jobs, workflow.config, out, progress, overwrite=tables.frames.overwrite
        )
    return restore_frames(
        jobs,
        workflow.config,
        overwrite=tables.frames.overwrite,
        progress=progress,
        command_line=command_line,
        cluster=None if tables.cluster is None else tables.cluster.options(),
        at_once=tables.schedule.frames_at_once,
        on_result=on_result,
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"frames.list = {path}: cannot be read ({why}); give a text file, a frame a line"
        ) from error
    names = (_without_comment(line.strip()) for line in lines)
    return [name for name in names if name]


def _without_comment(line: str) -> str:
    """Leave out what follows a # that begins a line or a word; not where a file is called so."""
    if split_selector(line)[0].exists():
        return line
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def _found(name: str) -> list[str]:
    """Frames of one name: a file with or without its HDU, a folder, or a glob."""
    if not name or "\0" in name:
        raise ConfigError(f"{name!r}: is no name of a frame; leave it out")
    path = split_selector(name)[0]
    if path.suffix.lower() in ZARR_SUFFIXES and path.is_dir():
        return [name]
    if path.is_dir():
        suffixes = FITS_SUFFIXES + ZARR_SUFFIXES
        inside = sorted(str(item) for item in path.iterdir() if _is_frame(item, suffixes))
        if not inside:
            raise NoFramesError(f"{name}: no frames in this folder ({', '.join(suffixes)})")
        return inside
    if name.endswith("/") and not path.exists():
        raise NoFramesError(f"{name}: no such folder")
    if path.exists() or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  (absolute patterns too)
    if not found:
        raise NoFramesError(f"{name}: finds no file")
    return found


def _found_later(name: str) -> bool:
    path = split_selector(name)[0]
    if path.exists():
        return path.is_dir() and path.suffix.lower() not in ZARR_SUFFIXES
    return name.endswith("/") or glob.has_magic(name)


def _is_frame(path: Path, suffixes: tuple[str, ...]) -> bool:
    name = path.name.lower()
    for packing in (".gz", ".bz2", ".xz", ".fz"):
        name = name.removesuffix(packing)
    return name.endswith(suffixes) and not name.startswith(".")


def _in_one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = WorkflowTables.model_fields.get(str(first["loc"][0]))
        kind = type(section.default) if section is not None else WorkflowTables
        kind = ClusterSection if first["loc"][0] == "cluster" else kind
        known = list(getattr(kind, "model_fields", {}))
        return f"unknown key {name}; {_nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        kinds = ", ".join(repr(str(kind)) for kind in ClusterKind)
        return f"{name} is missing; needed: one of {kinds}"
    return f"{name} = {first['input']!r}: need {needed(first)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
