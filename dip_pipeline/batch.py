"""Many frames: one bad frame never stops a night."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, DipError, ExitCode

if TYPE_CHECKING:
    from dip_pipeline.pipeline import Progress, RunReport

log = logging.getLogger(__name__)

# What no frame should cause. Named one by one: an interruption must pass through.
_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Job(NamedTuple):
    """One frame to restore, and where it goes."""

    source: str
    target: Path


@dataclass(frozen=True, slots=True)
class FrameResult:
    """How one frame ended: with a report, or with an error in one line."""

    job: Job
    report: "RunReport | None" = None
    error: str = ""

    @property
    def status(self) -> str:
        """In one or two words."""
        if self.report is None:
            return "failed"
        return self.report.status if self.report.ok else "tiles failed"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How all frames ended, in the order in which they were given."""

    frames: tuple[FrameResult, ...]

    @property
    def exit_code(self) -> ExitCode:
        """OK where every tile of every frame is restored."""
        good = all(frame.report is not None and frame.report.ok for frame in self.frames)
        return ExitCode.OK if good else ExitCode.FRAMES_FAILED


def restore_frames(
    jobs: Sequence[Job],
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: "Progress | None" = None,
    command_line: Sequence[str] = (),
) -> BatchReport:
    """Restore frames one after the other; what stops one is logged and does not stop the next.

    Raises ConfigError, and PriorError for a prior file that cannot be read: with an option that
    cannot be used no frame would fare better.
    """
    from dip_pipeline.pipeline import restore_frame  # torch loads here
    from dip_pipeline.prior_file import PriorFile

    if config.fit.prior is not None:
        PriorFile.read(Path(config.fit.prior))
    results = []
    for job in map(Job._make, jobs):
        try:
            report = restore_frame(
                job.source,
                job.target,
                config,
                overwrite=overwrite,
                progress=progress,
                command_line=command_line,
            )
        except ConfigError:
            raise
        except (DipError, OSError, MemoryError) as error:
            results.append(_failed(job, str(error) or type(error).__name__))
        except _BUGS as error:
            log.exception("%s: a bug in dip-pipeline, please report it", job.source)
            results.append(_failed(job, f"{type(error).__name__}: {error}"))
        else:
            results.append(FrameResult(job, report))
    return BatchReport(tuple(results))


def _failed(job: Job, message: str) -> FrameResult:
    """Tell at once what happened, and to which frame."""
    line = " ".join(message.split())
    if Path(job.source).name.partition("[")[0] not in line:
        line = f"{job.source}: {line}"
    log.error("%s", line)
    return FrameResult(job, error=line)
