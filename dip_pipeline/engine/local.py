"""The local executor: worker processes of this machine, run by Dask, heard on loopback only."""

# mypy: allow-untyped-calls
# (dask and distributed declare types for a part of their functions)

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count, islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import dask.config
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, as_completed
from distributed.scheduler import NoValidWorkerError

from dip_pipeline.engine.durable import output_error
from dip_pipeline.engine.executors import Job
from dip_pipeline.engine.options import WorkerOptions
from dip_pipeline.engine.worker_process import Notes, attempt
from dip_pipeline.errors import RunError

P = TypeVar("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_SILENT = logging.CRITICAL  # we report what happens to an item in our own words
_ITEMS_PER_SLOT = 2  # one that runs, one that waits so that the worker never does

_DASK_SETTINGS = {
    # We count the deaths ourselves: Dask's count blames every task that the worker held.
    "distributed.scheduler.allowed-failures": 10_000,
    # A busy or stopped worker (Ctrl-Z) is not a dead one; the nanny sees a process that ends.
    "distributed.scheduler.worker-ttl": None,
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.scheduler.no-workers-timeout": "120s",  # rather than wait for ever
    "distributed.worker.multiprocessing-method": "spawn",  # fork breaks torch and CUDA
    "distributed.worker.daemon": True,  # they end with this process
}


def run_local(
    job: Job[P, R], named_items: Iterable[tuple[str, P]], options: WorkerOptions
) -> Iterator[R]:
    """Run the job in worker processes; see `map_items`."""
    coming = iter(named_items)
    first = list(islice(coming, _ITEMS_PER_SLOT * options.slots))
    if not first:
        return
    with (
        _scratch_folder() as folder,
        _workers(options, min(options.slots, len(first)), folder) as client,
    ):
        running: dict[Future[Any], tuple[str, P, Notes]] = {}
        finished = as_completed(loop=client.loop, raise_errors=False)
        numbers = count()

        def submit(name: str, item: P) -> None:
            notes = Notes(Path(folder) / f"item-{next(numbers)}")
            future = client.submit(attempt, job.run, item, notes, key=notes.stem.name)
            running[future] = name, item, notes
            finished.add(future)

        for name, item in first:
            submit(name, item)
        for future in finished:
            name, item, notes = running.pop(future)
            for more in islice(coming, 1):
                submit(*more)
            _raise_if_failed(name, future)
            yield _result(job, name, item, notes)


def _raise_if_failed(name: str, future: Future[Any]) -> None:
    """Raise what the item's function raised, and let go of the task."""
    try:
        if future.status != "finished":  # for a finished one this would ask its worker
            future.result()
    except NoValidWorkerError as error:
        raise RunError(
            f"{name}: no worker process could be started any more (out of memory?); "
            "use fewer --workers, or --executor inline"
        ) from error
    finally:
        future.release()


def _result(job: Job[P, R], name: str, item: P, notes: Notes) -> R:
    """Give the result of an item whose task has ended, or what takes its place."""
    starts = notes.starts
    if notes.done:
        if starts > 1:
            logger.warning("%s: done at start %d; its process died before", name, starts)
        result: R = notes.result()
        notes.forget()
        return result
    if job.on_lost is None:
        raise RunError(
            f"{name}: its worker process died {starts} times (out of memory?); "
            "use fewer --workers or smaller tiles"
        )
    logger.warning("%s: given up after %d dead worker processes", name, starts)
    return job.on_lost(item)


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="dip-workers-", ignore_cleanup_errors=True)
    except OSError as error:
        raise output_error(error, Path(error.filename or "temporary folder")) from error
    with folder:
        yield folder.name


@contextlib.contextmanager
def _workers(options: WorkerOptions, n_workers: int, folder: str) -> Iterator[Client]:
    """Start processes and a client to them; when this ends, so do they, at once."""
    with dask.config.set(_DASK_SETTINGS), _environment_kept(), _dask_silent():
        cluster: SpecCluster | None = None
        try:
            with _interrupts_held():
                cluster = _start_cluster(options, n_workers, folder)
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            if cluster is not None:
                _end_workers(cluster)
                cluster.close()


def _start_cluster(options: WorkerOptions, n_workers: int, folder: str) -> SpecCluster:
    scheduler = {
        "cls": Scheduler,
        "options": {
            "protocol": "tcp://",
            "host": _LOOPBACK,
            "dashboard": False,
            # Without it the port 8787 is asked for, which another run may have.
            "dashboard_address": f"{_LOOPBACK}:0",
        },
    }
    workers = {
        number: {"cls": Nanny, "options": _worker(options, number, folder)}
        for number in range(n_workers)
    }
    try:
        return SpecCluster(workers, scheduler, silence_logs=_SILENT)
    except (RuntimeError, OSError) as error:
        raise RunError(
            f"worker processes cannot be started ({error}); use --executor inline"
        ) from error


def _worker(options: WorkerOptions, number: int, folder: str) -> dict[str, Any]:
    return {
        "protocol": "tcp://",
        "host": _LOOPBACK,
        "nthreads": 1,
        "dashboard": False,
        "dashboard_address": f"{_LOOPBACK}:0",
        "memory_limit": 0,  # Dask would stop or kill a worker that torch's caches make look big
        "local_directory": folder,
        "preload": "dip_pipeline.engine.worker_process",
        "silence_logs": _SILENT,
        "env": _worker_environment(options, number),
    }


def _worker_environment(options: WorkerOptions, number: int) -> dict[str, str]:
    threads = str(options.threads_per_fit)
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if options.devices[0] != "cpu":
        device = options.devices[number % len(options.devices)]
        environment["CUDA_VISIBLE_DEVICES"] = _cuda_name(device)
    return environment


def _cuda_name(device: str) -> str:
    """Name of a GPU for a child process: its place among those that this process may see."""
    place = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(place)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if place >= len(names):
        raise RunError(f"--device {device}: CUDA_VISIBLE_DEVICES={visible} has {len(names)} GPUs")
    return names[place]


def _end_workers(cluster: SpecCluster) -> None:
    """Kill the worker processes: nothing in them is worth waiting for."""
    for nanny in list(cluster.workers.values()):
        nanny.close_gracefully()  # so that it does not start the process anew
        process_id = nanny.pid
        if process_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what the nannies, which live in this process, set in its environment."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _dask_silent() -> Iterator[None]:
    dask_logger = logging.getLogger("distributed")
    before = dask_logger.level
    dask_logger.setLevel(_SILENT)
    try:
        yield
    finally:
        dask_logger.setLevel(before)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the processes are up, and never reach them.

    What is started here inherits the mask and keeps it: this process alone ends the others.
    """
    resource_tracker.ensure_running()  # its start, otherwise somewhere below, lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
