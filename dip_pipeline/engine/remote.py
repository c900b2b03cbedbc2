"""Workers of a Dask scheduler that stands elsewhere, or that is started for this run."""

# mypy: allow-untyped-calls

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import dask.config
from distributed import Client
from distributed.security import Security
from distributed.utils import silence_logging_cmgr

from dip_pipeline import __version__
from dip_pipeline.engine.clusters import ClusterOptions, start_cluster
from dip_pipeline.engine.dask_pool import check_scheduler
from dip_pipeline.engine.options import WorkerOptions
from dip_pipeline.errors import ConfigError, RunError

logger = logging.getLogger(__name__)

_COUNT_S = 2.0  # between looks at how many workers there are
_TELL_S = 60.0


class RemoteWorkers:
    """Workers that come and go; see `Workers`. What they make lies on a disk that they share."""

    keeps_results = False

    def __init__(self, options: WorkerOptions, cluster: ClusterOptions | None) -> None:
        if options.scheduler is None and cluster is None:
            raise ConfigError("--executor dask: give --scheduler ADDRESS or --scheduler-file FILE")
        self._options = options
        self._cluster = cluster
        self._slots = 0
        self._counted = 0.0

    @contextlib.contextmanager
    def connect(self, items: int, folder: str) -> Iterator[Client]:  # noqa: ARG002
        """Find the scheduler, or start the cluster; waits until there is a worker."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
            if self._cluster is not None:
                place = stack.enter_context(start_cluster(self._cluster))
            else:
                assert self._options.scheduler is not None
                place = self._options.scheduler.find()
                _check_tls(place)
            try:
                client = stack.enter_context(_ClosingClient(place, set_as_default=False))
            except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
                reason = str(error) or type(error).__name__
                raise RunError(
                    f"--scheduler {place}: cannot be reached ({reason}); "
                    "is it running, and are Dask's TLS settings those of its cluster?"
                ) from error
            _wait_for_a_worker(client, str(place))
            _check_versions(client)
            yield client

    def slots(self, client: Client) -> int:
        """Threads of all workers that are there."""
        now = time.monotonic()
        if now - self._counted > _COUNT_S:
            self._counted = now
            threads = _threads_of(client)
            self._slots = self._slots if threads is None else threads
        return self._slots


class _ClosingClient(Client):
    """A client that is closed where it cannot be made; Dask leaves that to the end of Python.

    There nobody answers any more, and it is waited for.
    """

    def start(self, **options: Any) -> None:  # noqa: ANN401
        """Connect to the scheduler."""
        try:
            super().start(**options)
        except BaseException:
            self.close()
            raise


def _check_tls(place: str) -> None:
    """Raise ConfigError for an encrypted connection that Dask has no settings for."""
    loader = dask.config.get("distributed.client.security-loader", None)
    if loader is not None or not place.startswith("tls://"):
        return
    need = (
        "; set distributed.comm.tls.ca-file, distributed.comm.tls.client.cert and "
        "distributed.comm.tls.client.key in Dask's configuration"
    )
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--scheduler {place}: Dask's TLS settings cannot be used ({error}){need}"
        ) from error
    if context is None:
        raise ConfigError(f"--scheduler {place}: Dask has no TLS settings{need}")


def _threads_of(client: Client) -> int | None:
    """Count the threads of all workers that are there; None where the scheduler does not answer."""
    try:
        threads: int = sum(client.nthreads().values())
    except (OSError, TimeoutError, RuntimeError, AttributeError):  # a closed client has none to ask
        return None
    return threads


def _wait_for_a_worker(client: Client, place: str) -> None:
    told = time.monotonic() - _TELL_S
    while not (threads := _threads_of(client)):
        check_scheduler(client)
        if threads == 0 and time.monotonic() - told >= _TELL_S:
            logger.warning("%s: no workers yet; waiting for one", place)
            told = time.monotonic()
        time.sleep(0.2)


def _check_versions(client: Client) -> None:
    """Workers of another version would give other pixels; those that come later are like these."""
    try:
        found = set(client.run(_version, on_error="return").values())
    except (OSError, TimeoutError, RuntimeError) as error:
        raise RunError(f"the workers do not answer ({error})") from error
    others = {str(version) for version in found if version != __version__}
    if others:
        raise RunError(
            f"workers have dip-pipeline {', '.join(sorted(others))}, this is {__version__}; "
            "install the same version everywhere"
        )


def _version() -> str:
    from dip_pipeline import __version__

    return __version__
