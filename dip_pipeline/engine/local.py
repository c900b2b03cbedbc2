"""The local executor: worker processes of this machine, run by Dask, heard on loopback only."""

# mypy: allow-untyped-calls
# (dask and distributed declare types for a part of their functions)

import contextlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Nanny, Scheduler, SpecCluster

from dip_pipeline.engine.options import GUARD_ADVICE, WorkerOptions
from dip_pipeline.errors import RunError

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_STARTS = 3  # tried before it is believed that no process can be started
_SILENT = logging.CRITICAL  # we report what happens to an item in our own words

_DASK_SETTINGS = {
    # We count the deaths ourselves: Dask's count blames every task that the worker held.
    "distributed.scheduler.allowed-failures": 10_000,
    # A busy or stopped worker (Ctrl-Z) is not a dead one; the nanny sees a process that ends.
    "distributed.scheduler.worker-ttl": None,
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.scheduler.no-workers-timeout": "120s",  # rather than wait for ever
    "distributed.worker.multiprocessing-method": "spawn",  # fork breaks torch and CUDA
    "distributed.worker.daemon": True,  # they end with this process
    # Its table of GPUs fails on names of parts of them (MIG), and nobody looks at it.
    "distributed.diagnostics.nvml": False,
}


class LocalWorkers:
    """One process a GPU, or as many as the cores can feed; see `Workers`."""

    keeps_results = True

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options

    def connect(self, items: int, folder: str) -> contextlib.AbstractContextManager[Client]:
        """Start the processes, no more than there are items."""
        return _workers(self._options, min(self._options.slots, items), folder)

    def slots(self, client: Client) -> int:  # noqa: ARG002  (they do not come and go)
        """One item a process."""
        return self._options.slots


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
            "dashboard": options.dashboard,
            # Without it the port 8787 is asked for, which another run may have.
            "dashboard_address": f"{_LOOPBACK}:0",
        },
    }
    workers = {
        number: {"cls": Nanny, "options": _worker(options, number, folder)}
        for number in range(n_workers)
    }
    causes: list[Exception] = []
    while len(causes) < _STARTS:
        try:
            cluster = SpecCluster(workers, scheduler, silence_logs=_SILENT)
        except (RuntimeError, OSError) as error:  # such as of a process that was killed meanwhile
            causes.append(error)
            if _is_unguarded():
                raise RunError(f"worker processes cannot be started: {GUARD_ADVICE}") from error
        else:
            if options.dashboard:
                _tell_dashboard(cluster)
            return cluster
    raise RunError(
        f"worker processes cannot be started ({causes[-1]}); use --executor inline"
    ) from causes[-1]


def _is_unguarded() -> bool:
    """Whether the script of this process asks nowhere whether it is run, or loaded by a worker."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        return False
    with contextlib.suppress(OSError):
        return b"__main__" not in Path(script).read_bytes()
    return False


def _tell_dashboard(cluster: SpecCluster) -> None:
    if importlib.util.find_spec("bokeh") is None:
        logger.warning("--dashboard: bokeh is not installed: pip install bokeh; going on without")
    else:
        logger.warning("dashboard: %s", cluster.dashboard_link)


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
