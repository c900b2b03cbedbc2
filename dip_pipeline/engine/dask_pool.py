"""A pool on Dask: a small window of items, counted by us; Dask holds nothing worth keeping."""

# mypy: allow-untyped-calls
# (dask and distributed declare types for a part of their functions)

import contextlib
import logging
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from distributed import Client, Future
from distributed.scheduler import KilledWorker, NoValidWorkerError

from dip_pipeline.engine.durable import output_error
from dip_pipeline.engine.executors import Job
from dip_pipeline.engine.options import WorkerOptions
from dip_pipeline.engine.worker_process import MAX_STARTS, Lost, Notes, attempt
from dip_pipeline.errors import RunError

P = TypeVar("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

DRAIN_S = 10.0  # after an interrupt, for items that run to end

_ITEMS_PER_SLOT = 2  # one that runs, one that waits so that the worker never does
_LOOK_S = 0.5  # between looks at whether the pool is still there


class Workers(Protocol):
    """Where the processes of a pool come from."""

    keeps_results: bool
    """Whether results must outlive their worker: it is near, and may be killed at any moment."""

    def connect(self, items: int, folder: str) -> contextlib.AbstractContextManager[Client]:
        """Start what is needed for so many items at once, or find it; a client to it."""

    def slots(self, client: Client) -> int:
        """How many items run at the same time, now."""


@dataclass(slots=True)
class _Item(Generic[P]):
    name: str
    item: P
    notes: Notes
    attempt: int = 0


class DaskPool:
    """Runs jobs on workers of Dask; may be used from several threads at once."""

    def __init__(self, options: WorkerOptions, workers: Workers, *, few: bool) -> None:
        self.options = options
        self._few = few
        self._workers = workers
        self._stack = contextlib.ExitStack()
        self._starting = threading.Lock()
        self._client: Client | None = None
        self._folder = ""
        self._notes: set[Path] = set()
        self._closed = False
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._stack.close()

    def stop(self) -> None:
        """Begin no further item; those that run may end."""
        self._stopped = True
        for folder in list(self._notes):
            with contextlib.suppress(OSError):
                Notes.stop_all(folder)

    def run(self, job: Job[P, R], named_items: Iterable[tuple[str, P]]) -> Iterator[R]:
        """Run the items on the workers; see `Pool`."""
        coming = iter(named_items)
        first = list(islice(coming, _ITEMS_PER_SLOT * self.options.slots))
        if not first:
            return
        client = self._connected(len(first) if self._few else self.options.slots)
        with self._notes_folder(job) as folder:
            work = _Work(self, client, job, folder)
            try:
                yield from work.results(first, coming)
            except KeyboardInterrupt:
                self.stop()
                work.drain()
                raise
            finally:
                work.forget()

    def window(self, client: Client) -> int:
        """How many items may be with the scheduler."""
        return _ITEMS_PER_SLOT * max(1, self._workers.slots(client))

    def check(self) -> None:
        """Raise RunError where the pool is closed, or its scheduler is gone."""
        client = self._client
        if self._closed or client is None:
            raise RunError("stopped before all items were done; the same command resumes")
        if client.status not in ("running", "connecting"):
            raise RunError(
                f"the scheduler is gone ({client.status}); what is finished is kept: "
                "the same command resumes"
            )

    @property
    def stopped(self) -> bool:
        """Whether no further item is to begin."""
        return self._stopped

    @property
    def keeps_results(self) -> bool:
        """Whether results are left on the disk by the workers."""
        return self._workers.keeps_results

    def _connected(self, items: int) -> Client:
        with self._starting:
            if self._client is None:
                self._folder = self._stack.enter_context(_scratch_folder())
                self._client = self._stack.enter_context(self._workers.connect(items, self._folder))
            return self._client

    @contextlib.contextmanager
    def _notes_folder(self, job: Job[Any, Any]) -> Iterator[Path]:
        own = job.folder is None or self.keeps_results
        parent = Path(self._folder) if own or job.folder is None else job.folder
        folder = parent / f"attempts-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise output_error(error, folder) from error
        self._notes.add(folder)
        try:
            yield folder
        finally:
            self._notes.discard(folder)
            if not own:
                _delete_folder(folder)


class _Work(Generic[P, R]):
    """The items of one job that are with the scheduler."""

    def __init__(self, pool: DaskPool, client: Client, job: Job[P, R], folder: Path) -> None:
        self._pool, self._client, self._job, self._folder = pool, client, job, folder
        self._running: dict[Future[Any], _Item[P]] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._numbers = count()

    def results(self, first: list[tuple[str, P]], coming: Iterator[tuple[str, P]]) -> Iterator[R]:
        for name, item in first:
            self._submit_new(name, item)
        while self._running:
            future = self._next_ended()
            entry = self._running.pop(future, None)
            if entry is None:
                continue
            again, results = self._outcome(future, entry)
            if again:
                self._submit(entry)
            if not self._pool.stopped:
                missing = self._pool.window(self._client) - len(self._running)
                for more in islice(coming, max(0, missing)):
                    self._submit_new(*more)
            yield from results
        if self._pool.stopped:
            raise RunError("stopped before all items were done; the same command resumes")

    def drain(self) -> None:
        """Wait a while for what runs to end; a second interrupt ends the wait."""
        deadline = time.monotonic() + DRAIN_S
        if self._running:
            logger.info("waiting up to %.0f s for what runs to end", DRAIN_S)
        while self._running and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._running.pop(self._ended.get(timeout=0.1), None)

    def forget(self) -> None:
        """Let go of all items that are still with the scheduler."""
        for future in self._running:
            with contextlib.suppress(Exception):
                future.cancel()
        self._running.clear()

    def _submit_new(self, name: str, item: P) -> None:
        notes = Notes(self._folder / f"item-{next(self._numbers)}", self._pool.keeps_results)
        self._submit(_Item(name, item, notes))

    def _submit(self, entry: _Item[P]) -> None:
        key = f"{self._folder.name}-{entry.notes.stem.name}-{entry.attempt}"
        future = self._client.submit(
            attempt,
            self._job.run,
            entry.item,
            entry.notes,
            key=key,
            priority=-self._job.rank,
            pure=False,
        )
        self._running[future] = entry
        future.add_done_callback(self._ended.put)

    def _next_ended(self) -> Future[Any]:
        while True:
            try:
                return self._ended.get(timeout=_LOOK_S)
            except queue.Empty:
                self._pool.check()

    def _outcome(self, future: Future[Any], entry: _Item[P]) -> tuple[bool, list[R]]:
        """Whether an item must be tried again, else its result (none where it was stopped)."""
        if future.status in ("lost", "pending"):  # its result died with its worker: comes again
            self._running[future] = entry
            future.add_done_callback(self._ended.put)
            return False, []
        if future.status == "cancelled":
            self._pool.check()
            raise RunError(f"{entry.name}: the scheduler dropped it; the same command resumes")
        try:
            given = self._given(future, entry)
        except KilledWorker:
            if entry.attempt + 1 >= MAX_STARTS and entry.notes.starts == 0:
                raise RunError(f"{entry.name}: the workers die before they begin it") from None
            entry.attempt += 1
            return (True, []) if entry.notes.starts < MAX_STARTS else (False, self._lost(entry))
        if not isinstance(given, Lost):
            return False, [given]
        return False, [] if entry.notes.stopped else self._lost(entry)

    def _given(self, future: Future[Any], entry: _Item[P]) -> R | Lost:
        """Get the result of an item that has ended; raises what its function raised."""
        notes = entry.notes
        try:
            # Asked of its worker only where the disk does not have it.
            given: Any = None
            if future.status != "finished" or not notes.keeps_result:
                given = future.result()
        except NoValidWorkerError as error:
            raise RunError(
                f"{entry.name}: no worker process could be started any more (out of memory?); "
                "use fewer --workers, or --executor inline"
            ) from error
        finally:
            future.release()
        if notes.keeps_result:
            given = notes.result() if notes.done else Lost()
        if isinstance(given, Lost):
            return given
        if notes.starts > 1:
            logger.warning(
                "%s: done at start %d; its process died before", entry.name, notes.starts
            )
        notes.forget()
        result: R | Lost = given
        return result

    def _lost(self, entry: _Item[P]) -> list[R]:
        starts = entry.notes.starts
        if self._job.on_lost is None:
            raise RunError(
                f"{entry.name}: its worker process died {starts} times (out of memory?); "
                "use fewer --workers or smaller tiles"
            )
        logger.warning("%s: given up after %d dead worker processes", entry.name, starts)
        return [self._job.on_lost(entry.item)]


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="dip-workers-", ignore_cleanup_errors=True)
    except OSError as error:
        raise output_error(error, Path(error.filename or "temporary folder")) from error
    with folder:
        yield folder.name


def _delete_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        folder.rmdir()
