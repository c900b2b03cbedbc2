"""The items of one job that are with a Dask scheduler: a few tasks at a time, counted by us."""

# mypy: allow-untyped-calls
# (dask and distributed declare types for a part of their functions)

import contextlib
import logging
import queue
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from distributed import Client, Future
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from dip_pipeline.engine.executors import Job
from dip_pipeline.engine.worker_process import MAX_STARTS, Done, Lost, Notes, attempt
from dip_pipeline.errors import RunError, StoppedError

P = TypeVar("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

DRAIN_S = 10.0  # after an interrupt, for items that run to end

_LOOK_S = 0.5  # between looks at whether the pool is still there
_RECONNECT_S = 120.0  # Dask itself gives up earlier, as its configuration says
_TASK_S = 0.02  # shorter ones would cost Dask more than they are worth
_MOST_SHORT_ITEMS = 32


class Home(Protocol):
    """The pool that the work is done in."""

    def window(self, client: Client) -> int:
        """How many tasks may be with the scheduler."""

    @property
    def stopped(self) -> bool:
        """Whether no further item is to begin."""

    @property
    def keeps_results(self) -> bool:
        """Whether results are left on the disk by the workers."""

    def check(self) -> None:
        """Raise RunError where the pool is closed, or its scheduler is gone."""


@dataclass(frozen=True, slots=True)
class _Item(Generic[P]):
    name: str
    item: P
    notes: Notes


@dataclass(slots=True)
class _Task(Generic[P]):
    """Items that are with the scheduler as one: a packet, or some that take no time to speak of."""

    entries: list[_Item[P]]
    attempt: int = 0


class Work(Generic[P, R]):
    """The items of one job that are with the scheduler."""

    def __init__(self, pool: Home, client: Client, job: Job[P, R], folder: Path) -> None:
        self._pool, self._client, self._job, self._folder = pool, client, job, folder
        self._running: dict[Future[Any], _Task[P]] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._numbers = count()
        self._pace = _Pace(job.packet)

    def results(self, first: list[tuple[str, P]], coming: Iterator[tuple[str, P]]) -> Iterator[R]:
        """Give the results as they come, drawing items as there is room in the window."""
        items = chain(first, coming)
        self._submit_new(items)
        while self._running:
            future = self._next_ended()
            task = self._running.pop(future, None)
            if task is None:
                continue
            again, results = self._outcome(future, task)
            for entries in again:
                self._submit(_Task(entries, task.attempt + 1))
            if not self._pool.stopped:
                self._submit_new(items)
            yield from results
        if self._pool.stopped:
            raise StoppedError("stopped before all items were done; the same command resumes")

    def drain(self) -> None:
        """Wait a while for what runs to end; a second interrupt ends the wait."""
        deadline = time.monotonic() + DRAIN_S
        if self._running:
            logger.info("waiting up to %.0f s for what runs to end", DRAIN_S)
        while self._running and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._running.pop(self._ended.get(timeout=0.1), None)

    def forget(self) -> None:
        """Let go of all items that are still with the scheduler.

        Where a process ends, nobody answers any more: to wait would be for ever.
        """
        for future in () if sys.is_finalizing() else self._running:
            with contextlib.suppress(Exception):
                future.cancel()
        self._running.clear()

    def _submit_new(self, items: Iterator[tuple[str, P]]) -> None:
        """Fill the window."""
        while len(self._running) < self._pool.window(self._client):
            entries = [
                _Item(name, item, self._notes_of(next(self._numbers)))
                for name, item in islice(items, self._pace.items_a_task)
            ]
            if not entries:
                return
            self._submit(_Task(entries))

    def _notes_of(self, number: int) -> Notes:
        return Notes(self._folder / f"item-{number}", self._pool.keeps_results)

    def _submit(self, task: _Task[P]) -> None:
        key = f"{self._folder.name}-{task.entries[0].notes.stem.name}-{task.attempt}"
        future = self._client.submit(
            attempt,
            replace(self._job, on_lost=None, folder=None),
            [(entry.item, entry.notes) for entry in task.entries],
            key=key,
            priority=-self._job.rank,
            pure=False,
        )
        self._running[future] = task
        future.add_done_callback(self._ended.put)

    def _next_ended(self) -> Future[Any]:
        while True:
            try:
                return self._ended.get(timeout=_LOOK_S)
            except queue.Empty:
                self._pool.check()

    def _outcome(self, future: Future[Any], task: _Task[P]) -> tuple[list[list[_Item[P]]], list[R]]:
        """Items that must be tried again, and the results of the others (none if stopped)."""
        if future.status in ("lost", "pending"):  # its result died with its worker: comes again
            self._running[future] = task
            future.add_done_callback(self._ended.put)
            return [], []
        name = task.entries[0].name
        if future.status == "cancelled":
            self._wait_for_scheduler()
            raise RunError(f"{name}: the scheduler dropped it; the same command resumes")
        try:
            given = self._given(future, task)
        except KilledWorker:
            given = [Lost() for _ in task.entries]
            if task.attempt + 1 >= MAX_STARTS and not any(e.notes.starts for e in task.entries):
                raise RunError(f"{name}: the workers die before they begin it") from None
        return self._sorted_out(task, given)

    def _wait_for_scheduler(self) -> None:
        """Raise what the pool has to say of a scheduler that does not come back."""
        last = time.monotonic() + _RECONNECT_S
        while self._client.status == "connecting" and time.monotonic() < last:
            self._pool.check()
            time.sleep(_LOOK_S)
        self._pool.check()

    def _sorted_out(
        self, task: _Task[P], given: list[Done[R] | Lost]
    ) -> tuple[list[list[_Item[P]]], list[R]]:
        results: list[R] = []
        left: list[list[_Item[P]]] = []
        for entry, result in zip(task.entries, given, strict=True):
            if isinstance(result, Done):
                self._pace.note(result.seconds)
                results.append(result.result)
            elif not entry.notes.stopped:
                if entry.notes.starts >= MAX_STARTS:
                    results += self._lost(entry)
                else:
                    left.append([entry])
        return left, results

    def _given(self, future: Future[Any], task: _Task[P]) -> list[Done[R] | Lost]:
        """Get the results of a task that has ended; raises what the job's function raised."""
        keeps = self._pool.keeps_results
        given: list[Any] = []
        try:
            # Asked of its worker only where the disk does not have it.
            if future.status != "finished" or not keeps:
                given = future.result()
        except (NoValidWorkerError, NoWorkerError) as error:
            raise RunError(
                f"{task.entries[0].name}: no worker process could be started any more "
                "(out of memory?); use fewer --workers, or --executor inline"
            ) from error
        finally:
            future.release()
        if keeps:
            given = [e.notes.result() if e.notes.done else Lost() for e in task.entries]
        for entry, result in zip(task.entries, given, strict=True):
            if isinstance(result, Done):
                if entry.notes.starts > 1:
                    logger.warning(
                        "%s: done at start %d; its process died before",
                        entry.name,
                        entry.notes.starts,
                    )
                entry.notes.forget()
        return given

    def _lost(self, entry: _Item[P]) -> list[R]:
        starts = entry.notes.starts
        if self._job.on_lost is None:
            raise RunError(
                f"{entry.name}: its worker process died {starts} times (out of memory?); "
                "use fewer --workers or smaller tiles"
            )
        logger.warning("%s: given up after %d dead worker processes", entry.name, starts)
        return [self._job.on_lost(entry.item)]


class _Pace:
    """How many items make a task: a packet, or so many that a task lasts long enough for Dask."""

    def __init__(self, packet: int) -> None:
        self._packet = packet
        self._seconds_an_item: float | None = None

    @property
    def items_a_task(self) -> int:
        """For the next task."""
        if self._packet > 1 or self._seconds_an_item is None:
            return self._packet
        return max(1, min(_MOST_SHORT_ITEMS, int(_TASK_S / self._seconds_an_item)))

    def note(self, seconds: float) -> None:
        """Take note of what an item took."""
        seconds = max(seconds, 1e-6)
        if self._seconds_an_item is not None:
            seconds = 0.8 * self._seconds_an_item + 0.2 * seconds
        self._seconds_an_item = seconds
