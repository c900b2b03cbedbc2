"""Executors: each runs a function over items on some set of processes; the results are the same."""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from dip_pipeline.engine.options import GUARD_ADVICE, ExecutorKind, WorkerOptions
from dip_pipeline.errors import RunError, StoppedError

if TYPE_CHECKING:
    from dip_pipeline.engine.clusters import ClusterOptions

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job(Generic[P, R]):
    """What is done with every item.

    run : can be pickled where the executor has processes; may run twice for an item
    on_lost : gives the result of an item that its worker process does not survive; None to raise
    folder : on a disk that all workers see, for what they leave about items; None for a temporary
        one of this machine
    rank : of several jobs at once, that of the lowest rank is served first
    together : does a packet of items at once, which is quicker on a GPU; gives their results in
        order. Items whose process died are run alone after that
    packet : items of a packet, at most; 1 for each on its own
    """

    run: Callable[[P], R]
    on_lost: Callable[[P], R] | None = None
    folder: Path | None = None
    rank: int = 0
    together: Callable[[Sequence[P]], Sequence[R]] | None = None
    packet: int = 1

    @property
    def packs(self) -> bool:
        """Whether items are done in packets; many short ones in one task are none."""
        return self.together is not None and self.packet > 1

    def run_packet(self, items: Sequence[P]) -> Sequence[R]:
        """Do some items in this process."""
        if self.together is None or not self.packs or len(items) == 1:
            return [self.run(item) for item in items]
        return self.together(items)


class Pool(Protocol):
    """Processes that run jobs, several at once if asked from several threads."""

    @property
    def options(self) -> WorkerOptions:
        """What the work runs on."""

    def run(self, job: Job[P, R], named_items: Iterable[tuple[str, P]]) -> Iterator[R]:
        """Yield the result of every (name, item), as they finish, drawing items as slots free.

        The name of an item stands in messages.
        """

    def stop(self) -> None:
        """Begin no further item; those that run may end."""


def open_pool(
    options: WorkerOptions, cluster: "ClusterOptions | None" = None, *, few: bool = False
) -> AbstractContextManager[Pool]:
    """Open a pool; processes start with the first item, and end, at once, when it is closed.

    cluster : to be started for this pool; None where there is one, or none is needed
    few : start no more processes than the first job has items
    Raises RunError in a process that such a pool starts, while it loads the caller's script.
    """
    if options.executor is ExecutorKind.LOCAL:
        _check_not_loading()
    return EXECUTORS[options.executor](options, cluster, few)


@contextmanager
def open_when_needed(
    executor: ExecutorKind,
    options: Callable[[], WorkerOptions],
    cluster: "ClusterOptions | None" = None,
) -> Iterator[Pool]:
    """Open a pool as `open_pool` does, but not before something is asked of it.

    Where all is done already, neither GPUs are looked for nor Dask is loaded.
    executor : of the options; options : gives them
    Raises RunError at once in a process that such a pool starts.
    """
    if executor is ExecutorKind.LOCAL:
        _check_not_loading()
    with ExitStack() as opened:
        yield _LatePool(lambda: opened.enter_context(open_pool(options(), cluster)))


class _LatePool:
    """A pool that is opened when something is first asked of it."""

    def __init__(self, opener: Callable[[], Pool]) -> None:
        self._opener = opener
        self._lock = Lock()
        self._pool: Pool | None = None
        self.stopped = False

    @property
    def options(self) -> WorkerOptions:
        return self._opened().options

    def run(self, job: Job[P, R], named_items: Iterable[tuple[str, P]]) -> Iterator[R]:
        return self._opened().run(job, named_items)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            if self._pool is not None:
                self._pool.stop()

    def _opened(self) -> Pool:
        with self._lock:
            if self._pool is None:
                self._pool = self._opener()
                if self.stopped:
                    self._pool.stop()
            return self._pool


def _check_not_loading() -> None:
    """Begin no work in a worker process that loads a script whose work is not behind a guard.

    Nothing is written of it there: the process that the script runs in tells, see `local`.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    sys.excepthook = lambda *_: None
    raise RunError(f"this is a worker process that loads the script: {GUARD_ADVICE}")


def run_items(
    pool: Pool,
    job: Job[P, R],
    items: Iterable[P],
    *,
    key: Callable[[P], object] | None = None,
) -> Iterator[R]:
    """Yield job.run(item) for all items, as they finish: in any order; see `map_items`."""
    named = (
        (f"item {number}" if key is None else str(key(item)), item)
        for number, item in enumerate(items)
    )
    return pool.run(job, named)


def map_items(
    run: Callable[[P], R],
    items: Iterable[P],
    options: WorkerOptions,
    *,
    key: Callable[[P], object] | None = None,
    on_lost: Callable[[P], R] | None = None,
) -> Iterator[R]:
    """Yield run(item) for all items, as they finish: in any order.

    items : drawn lazily, at most two a slot ahead of the results
    key : names an item in messages; "item 0", "item 1", ... without it
    on_lost : called here, in this process, for an item whose worker process died three times
        over it; its result takes the place of run's

    An exception of `run` comes out here. RunError where an item is lost and there is no
    `on_lost`, or where no worker process can be started. Closing the iterator, or an interrupt,
    ends the worker processes.
    """
    with open_pool(options, few=True) as pool:
        yield from run_items(pool, Job(run, on_lost), items, key=key)


class InlinePool:
    """The process that asks, alone: one item after the other, no sockets."""

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self._stopped = False

    def run(self, job: Job[P, R], named_items: Iterable[tuple[str, P]]) -> Iterator[R]:
        """Run the items here."""
        coming = iter(named_items)
        while packet := list(islice(coming, job.packet)):
            if self._stopped:
                raise StoppedError(f"{packet[0][0]}: stopped before it; the same command resumes")
            yield from job.run_packet([item for _, item in packet])

    def stop(self) -> None:
        """Begin no further item."""
        self._stopped = True


def _open_inline(
    options: WorkerOptions,
    cluster: "ClusterOptions | None",  # noqa: ARG001  one process, whatever they say
    few: bool,  # noqa: ARG001, FBT001
) -> AbstractContextManager[Pool]:
    return nullcontext(InlinePool(options))


def _open_local(
    options: WorkerOptions,
    cluster: "ClusterOptions | None",  # noqa: ARG001  this machine alone
    few: bool,  # noqa: FBT001
) -> AbstractContextManager[Pool]:
    from dip_pipeline.engine.dask_pool import DaskPool  # dask loads here, not with the package
    from dip_pipeline.engine.local import LocalWorkers

    return DaskPool(options, LocalWorkers(options), few=few)


def _open_dask(
    options: WorkerOptions,
    cluster: "ClusterOptions | None",
    few: bool,  # noqa: FBT001
) -> AbstractContextManager[Pool]:
    from dip_pipeline.engine.dask_pool import DaskPool
    from dip_pipeline.engine.remote import RemoteWorkers

    return DaskPool(options, RemoteWorkers(options, cluster), few=few)


Opener = Callable[[WorkerOptions, "ClusterOptions | None", bool], AbstractContextManager[Pool]]
EXECUTORS: dict[ExecutorKind, Opener] = {
    ExecutorKind.INLINE: _open_inline,
    ExecutorKind.LOCAL: _open_local,
    ExecutorKind.DASK: _open_dask,
}
