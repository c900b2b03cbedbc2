"""A pool on Dask: a small window of items, counted by us; Dask holds nothing worth keeping."""

# mypy: allow-untyped-calls
# (dask and distributed declare types for a part of their functions)

import contextlib
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from distributed import Client

from dip_pipeline.engine.dask_work import Work
from dip_pipeline.engine.durable import output_error
from dip_pipeline.engine.executors import Job
from dip_pipeline.engine.options import WorkerOptions
from dip_pipeline.engine.worker_process import Notes
from dip_pipeline.errors import BrokenProcessError, RunError, StoppedError

P = TypeVar("P")
R = TypeVar("R")

_TASKS_PER_SLOT = 2  # one that runs, one that waits so that the worker never does


class Workers(Protocol):
    """Where the processes of a pool come from."""

    keeps_results: bool
    """Whether results must outlive their worker: it is near, and may be killed at any moment."""

    def connect(self, items: int, folder: str) -> contextlib.AbstractContextManager[Client]:
        """Start what is needed for so many items at once, or find it; a client to it."""

    def slots(self, client: Client) -> int:
        """How many items run at the same time, now."""


class DaskPool:
    """Runs jobs on workers of Dask; may be used from several threads at once."""

    def __init__(self, options: WorkerOptions, workers: Workers, *, few: bool) -> None:
        self.options = options
        self._few = few
        self._workers = workers
        self._stack = contextlib.ExitStack()
        self._starting = threading.Lock()
        self._client: Client | None = None
        self._failure = ""
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
        first = list(islice(coming, _TASKS_PER_SLOT * self.options.slots))
        if not first:
            return
        client = self._connected(len(first) if self._few else self.options.slots)
        with self._notes_folder(job) as folder:
            work = Work(self, client, job, folder)
            try:
                yield from work.results(first, coming)
            except KeyboardInterrupt:
                self.stop()
                work.drain()
                raise
            finally:
                work.forget()

    def window(self, client: Client) -> int:
        """How many tasks may be with the scheduler."""
        return _TASKS_PER_SLOT * max(1, self._workers.slots(client))

    def check(self) -> None:
        """Raise RunError where the pool is closed, or its scheduler is gone."""
        client = self._client
        if self._closed or client is None:
            raise StoppedError("stopped before all items were done; the same command resumes")
        check_scheduler(client)

    @property
    def stopped(self) -> bool:
        """Whether no further item is to begin."""
        return self._stopped

    @property
    def keeps_results(self) -> bool:
        """Whether results are left on the disk by the workers."""
        return self._workers.keeps_results

    def _connected(self, items: int) -> Client:
        """Find the workers once; what failed is not tried again, for it may take a minute."""
        with self._starting:
            if self._failure:
                raise BrokenProcessError(self._failure)
            if self._client is None:
                self._folder = self._stack.enter_context(_scratch_folder())
                try:
                    found = self._workers.connect(items, self._folder)
                    self._client = self._stack.enter_context(found)
                except RunError as error:
                    self._failure = str(error)
                    raise BrokenProcessError(self._failure) from error
            check_scheduler(self._client)
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


def check_scheduler(client: Client) -> None:
    """Raise BrokenProcessError where the scheduler is gone."""
    if client.status not in ("running", "connecting"):
        raise BrokenProcessError(
            f"the scheduler is gone ({client.status}); what is finished is kept: "
            "the same command resumes"
        )


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
