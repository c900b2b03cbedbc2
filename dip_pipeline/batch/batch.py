"""Many frames: one bad frame never stops a night."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, Pool, Shard, WorkerOptions, open_when_needed
from dip_pipeline.errors import (
    BrokenProcessError,
    ConfigError,
    DipError,
    ExitCode,
    StoppedError,
)
from dip_pipeline.night.figure_table import LEAST_FRAMES
from dip_pipeline.night.odd_frames import OddFrame, odd_frames
from dip_pipeline.repeated_warnings import Repeated, warnings_counted

if TYPE_CHECKING:
    from dip_pipeline.engine.clusters import ClusterOptions
    from dip_pipeline.pipeline import Progress, RunReport

log = logging.getLogger(__name__)

_DRAIN_S = 15.0  # after an interrupt, for frames to let go

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
    """One frame to restore, and where it goes; prior : file to apply to it, whatever is else."""

    source: str
    target: Path
    prior: str | None = None


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
    """How all frames ended, in the order in which they were given.

    repeated : warnings that several of them have in common
    odd : those that are unlike the others of their kind
    """

    frames: tuple[FrameResult, ...]
    repeated: tuple[Repeated, ...] = ()
    odd: tuple[OddFrame, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """OK where every tile of every frame is restored."""
        good = all(frame.report is not None and frame.report.ok for frame in self.frames)
        return ExitCode.OK if good else ExitCode.FRAMES_FAILED


def restore_frames(  # noqa: PLR0913  (all but two have defaults)
    jobs: Sequence[Job],
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: "Progress | None" = None,
    command_line: Sequence[str] = (),
    shard: Shard | None = None,
    cluster: "ClusterOptions | None" = None,
    at_once: int = 2,
    on_result: Callable[[FrameResult], None] = lambda _: None,
) -> BatchReport:
    """Restore frames; what stops one is logged and does not stop the next.

    cluster : to be started for these frames
    at_once : frames in work at the same time, where there are workers: the next one is read and
        fitted while the tiles of the last one are restored
    on_result : told of each frame that has ended

    Raises what no frame would fare better with: ConfigError, PriorError for a prior file that
    cannot be read, and BrokenProcessError where the workers cannot be had, or are gone.
    """
    from dip_pipeline.exposures.guiding import further_exposures, with_others
    from dip_pipeline.exposures.readable import check_exposures, readable_exposures
    from dip_pipeline.pipeline import restore_frame
    from dip_pipeline.restoration.computing.callers_settings import settings_kept
    from dip_pipeline.runs.place import Place
    from dip_pipeline.runs.prior_file import PriorFile

    if config.fit.prior is not None:
        PriorFile.read(Path(config.fit.prior))
    sources = [job.source for job in jobs]
    guiding = sources
    if config.task.each:
        guiding = readable_exposures(sources, config)
        check_exposures([*guiding, *further_exposures(sources, config)], config)
    executor, opening = _pool_for(config, cluster)
    with settings_kept(), warnings_counted(sources) as heard, opening as pool:
        front = Front(progress)
        ended: list[FrameResult] = []

        def restore(rank: int) -> FrameResult:
            job = jobs[rank]
            own = with_others(_with_prior(config, job.prior), sources, rank, guiding)
            with front.listening(rank) as listener:
                result = _attempt(
                    job,
                    lambda: restore_frame(
                        job.source,
                        job.target,
                        own,
                        overwrite=overwrite,
                        progress=listener,
                        command_line=command_line,
                        place=Place(pool, rank, shard, elsewhere=executor is ExecutorKind.DASK),
                    ),
                )
            on_result(result)
            ended.append(result)
            return result

        try:
            if executor is ExecutorKind.INLINE or min(at_once, len(jobs)) <= 1:
                results = tuple(restore(rank) for rank in range(len(jobs)))
            else:
                results = _side_by_side(restore, len(jobs), at_once, pool)
            return BatchReport(results, heard.repeated, unlike_others(results))
        except BrokenProcessError as error:
            if len(jobs) == 1:
                raise
            count = f"{len(ended)} of {len(jobs)} frames had ended, the others wait"
            raise BrokenProcessError(f"{error} ({count})") from error


def _pool_for(
    config: RunConfig, cluster: "ClusterOptions | None"
) -> tuple[ExecutorKind, AbstractContextManager[Pool]]:
    """Choose where frames are restored; it is opened for the first that is not done yet."""
    from dip_pipeline.preparing.planning import options_when_needed

    options, executor = options_when_needed(config), config.workers.executor_in_force
    if cluster is None:
        return executor, open_when_needed(executor, options)
    started = ExecutorKind.DASK
    on_cluster = partial(_on_cluster, options)
    return started, open_when_needed(started, on_cluster, cluster)


def _on_cluster(options: Callable[[], WorkerOptions]) -> WorkerOptions:
    """Give the options of a cluster's workers: it says itself how many there are."""
    return replace(options(), executor=ExecutorKind.DASK, workers=None)


def unlike_others(results: Sequence[FrameResult]) -> tuple[OddFrame, ...]:
    """Tell which products are unlike the others; tells nothing of shards and of few frames."""
    from dip_pipeline.night.figures import all_figures  # stars are looked for: sep loads here

    whole = [
        (result.job.source, result.job.target)
        for result in results
        if result.report is not None and result.report.status != "part done"
    ]
    return odd_frames(all_figures(whole)) if len(whole) >= LEAST_FRAMES else ()


def _with_prior(config: RunConfig, prior: str | None) -> RunConfig:
    """Have a prior applied; that exposures share networks is then done."""
    if prior is None:
        return config
    done = {"fit.planes": "auto"} if config.task.each else {}
    return config.with_overrides(**{"fit.prior": prior, **done})


def _side_by_side(
    restore: Callable[[int], FrameResult], frames: int, at_once: int, pool: Pool
) -> tuple[FrameResult, ...]:
    """Restore some frames at a time; an interrupt, and what no frame can do without, stop all."""
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="dip-frame")
    try:
        futures = [threads.submit(restore, rank) for rank in range(frames)]
        waiting = set(futures)
        while waiting:  # in short waits, which an interrupt ends at once on every system
            ended, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
        return tuple(future.result() for future in futures)
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        pool.stop()
        wait(futures, timeout=_DRAIN_S)
        raise
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _attempt(job: Job, restore: "Callable[[], RunReport]") -> FrameResult:
    try:
        return FrameResult(job, restore())
    except (ConfigError, BrokenProcessError, StoppedError):
        raise
    except (DipError, OSError, MemoryError) as error:
        return failed(job, str(error) or type(error).__name__)
    except _BUGS as error:
        log.exception("%s: a bug in dip-pipeline, please report it", job.source)
        return failed(job, f"{type(error).__name__}: {error}")


class Front:
    """Of several frames in work, the listener follows the foremost; notes of all are passed on."""

    def __init__(self, progress: "Progress | None") -> None:
        self._progress = progress
        self._lock = threading.RLock()
        self._frames: dict[int, _Listener] = {}

    @contextmanager
    def listening(self, rank: int) -> Iterator["Progress | None"]:
        """Lend a frame its listener."""
        if self._progress is None:
            yield None
            return
        with self._lock:
            listener = self._frames[rank] = _Listener(self, rank, self._progress)
        try:
            yield listener
        finally:
            with self._lock:
                was_foremost = rank == min(self._frames)
                del self._frames[rank]
                if was_foremost and self._frames:
                    self._frames[min(self._frames)].introduce()

    def tell(self, rank: int, what: Callable[[], None]) -> None:
        """Pass on what the foremost frame tells."""
        with self._lock:
            if rank == min(self._frames, default=rank):
                what()


class _Listener:
    def __init__(self, front: Front, rank: int, progress: "Progress") -> None:
        self._front, self._rank, self._progress = front, rank, progress
        self._started: tuple[str, int, int] | None = None

    def introduce(self) -> None:
        """Tell how far the frame is by now: it has become the foremost."""
        if self._started is not None:
            self._progress.frame_started(*self._started)

    def frame_started(self, source: str, tiles: int, found_done: int) -> None:
        self._started = (source, tiles, found_done)
        self._front.tell(self._rank, self.introduce)

    def fit_started(self, target: str, frames: int) -> None:
        self._front.tell(self._rank, lambda: self._progress.fit_started(target, frames))

    def fit_step(self, step: int, steps: int, risk: float) -> None:
        self._front.tell(self._rank, lambda: self._progress.fit_step(step, steps, risk))

    def tile_done(self, record: Mapping[str, object]) -> None:
        if self._started is not None:
            source, tiles, done = self._started
            self._started = (source, tiles, done + 1)
        self._front.tell(self._rank, lambda: self._progress.tile_done(record))

    def note(self, message: str) -> None:
        self._progress.note(message)


def failed(job: Job, message: str) -> FrameResult:
    """Tell at once what happened, and to which frame."""
    line = " ".join(message.split())
    name = " ".join(Path(job.source).name.partition("[")[0].split())
    if name not in line:
        line = f"{job.source}: {line}"
    log.error("%s", line)
    return FrameResult(job, error=line)
