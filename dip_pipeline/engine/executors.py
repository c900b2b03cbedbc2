"""Executors: each runs a function over items on some set of processes; the results are the same."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dip_pipeline.engine.options import ExecutorKind, WorkerOptions

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job(Generic[P, R]):
    """What is done with every item.

    run : can be pickled where the executor has processes; may run twice for an item
    on_lost : gives the result of an item that its worker process does not survive; None to raise
    """

    run: Callable[[P], R]
    on_lost: Callable[[P], R] | None = None


class Executor(Protocol):
    """Yields the result of every (name, item), as they finish, drawing items as slots get free."""

    def __call__(
        self, job: Job[P, R], named_items: Iterable[tuple[str, P]], options: WorkerOptions
    ) -> Iterator[R]:
        """Run the job; the name of an item stands in messages."""


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
    ends the worker processes at once.
    """
    named = (
        (f"item {number}" if key is None else str(key(item)), item)
        for number, item in enumerate(items)
    )
    return EXECUTORS[options.executor](Job(run, on_lost), named, options)


def _run_inline(
    job: Job[P, R],
    named_items: Iterable[tuple[str, P]],
    options: WorkerOptions,  # noqa: ARG001  one process, whatever they say
) -> Iterator[R]:
    for _, item in named_items:
        yield job.run(item)


def _run_local(
    job: Job[P, R], named_items: Iterable[tuple[str, P]], options: WorkerOptions
) -> Iterator[R]:
    from dip_pipeline.engine.local import run_local  # dask loads here, not with the package

    return run_local(job, named_items, options)


EXECUTORS: dict[ExecutorKind, Executor] = {
    ExecutorKind.INLINE: _run_inline,
    ExecutorKind.LOCAL: _run_local,
}
