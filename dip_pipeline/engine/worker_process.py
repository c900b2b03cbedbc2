"""What happens inside a worker process, and what it leaves on disk for the one that started it."""

# mypy: allow-untyped-calls
# (distributed declares types for a part of its functions)

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distributed.protocol.pickle import dumps, loads

from dip_pipeline.engine.durable import output_error
from dip_pipeline.errors import BrokenProcessError

if TYPE_CHECKING:
    from dip_pipeline.engine.executors import Job

logger = logging.getLogger(__name__)

P = TypeVar("P")
R = TypeVar("R")

_STOP = "stop"
_LONG_S = 0.5  # of several items that were thought to be short
MAX_STARTS = 3  # an item that kills its process so many times is lost


@dataclass(frozen=True, slots=True)
class Notes:
    """What is known of one item on disk, whichever processes die: its starts and its result.

    Dask gives the tasks of a dead worker to others for ever, cannot tell the one that killed
    it from those that waited behind, and loses the results that the worker still held.

    stem : beginning of the files' names
    keeps_result : whether results are left here, too
    """

    stem: Path
    keeps_result: bool = True

    @staticmethod
    def stop_all(folder: Path) -> None:
        """Let no item whose notes are in the folder begin any more."""
        (folder / _STOP).touch()

    @property
    def stopped(self) -> bool:
        """Whether no item is to begin any more."""
        return (self.stem.parent / _STOP).exists()

    def begin(self) -> bool:
        """Note a start; False where it was started too often, is done, or all is stopped."""
        if self.stopped:
            return False
        if self._result.exists():
            # Where results are not kept this one was lost with its worker, after it was done.
            return not self.keeps_result
        for start in range(MAX_STARTS):
            with contextlib.suppress(FileExistsError), self._told_if_it_fails():
                self._start(start).touch(exist_ok=False)
                return True
        return False

    def finish(self, done: "Done[R]") -> "Done[R] | None":
        """Leave the result, whole or not there, and return None; or return it.

        Where results are not kept a note is left that there was one.
        """
        aside = self.stem.with_name(f"{self.stem.name}.{os.getpid()}")
        with self._told_if_it_fails():
            aside.write_bytes(dumps(done) if self.keeps_result else b"")
            aside.replace(self._result)
        return None if self.keeps_result else done

    @property
    def fresh(self) -> bool:
        """Whether the item was never started, nor done."""
        return not self._start(0).exists() and not self._result.exists()

    @property
    def starts(self) -> int:
        """How often the item was started."""
        return sum(self._start(start).exists() for start in range(MAX_STARTS))

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self._result.exists()

    def result(self) -> Any:  # noqa: ANN401  it is what `finish` was given
        """Give the result of an item that is done."""
        return loads(self._result.read_bytes())

    def forget(self) -> None:
        """Empty the result of an item that is done, but leave its file.

        Dask may still give the item to another worker when the one that held it dies before
        the scheduler hears that nobody asks for it any more.
        """
        os.truncate(self._result, 0)
        for start in range(MAX_STARTS):
            self._start(start).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise output_error(error, self.stem) from error

    @property
    def _result(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.result")

    def _start(self, number: int) -> Path:
        return self.stem.with_name(f"{self.stem.name}.start{number}")


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """Result of an item, and the seconds that it took."""

    result: R
    seconds: float


class Lost:
    """What stands for the result of an item that was not begun."""


def attempt(job: "Job[P, R]", entries: Sequence[tuple[P, Notes]]) -> list[Done[R] | Lost | None]:
    """Run some items, unless they were started too often; results are left in the notes, or given.

    A packet is done together at its first start. Had it to be started again somebody in it may
    have killed the process, so then each is on its own. Items that turn out not to be short are
    left for other workers, as if they had not come.
    """
    began = time.monotonic()
    results: list[Done[R] | Lost | None] = [Lost()] * len(entries)
    places = list(range(len(entries)))
    if job.packs:
        fresh = [i for i in places if entries[i][1].fresh and entries[i][1].begin()]
        if fresh:
            started = time.monotonic()
            with _ended_if_broken():
                packet = job.run_packet([entries[i][0] for i in fresh])
            seconds = (time.monotonic() - started) / len(fresh)
            for i, result in zip(fresh, packet, strict=True):
                results[i] = entries[i][1].finish(Done(result, seconds))
        places = [i for i in places if i not in fresh]
    for i in places:
        item, notes = entries[i]
        if i > 0 and time.monotonic() - began > _LONG_S:
            break
        if notes.begin():
            started = time.monotonic()
            with _ended_if_broken():
                result = job.run(item)
            results[i] = notes.finish(Done(result, time.monotonic() - started))
    return results


@contextlib.contextmanager
def _ended_if_broken() -> Iterator[None]:
    """End this process where it can compute no further; its nanny starts another one."""
    try:
        yield
    except BrokenProcessError as error:
        logger.warning("%s; this worker process ends itself", error)
        os.kill(os.getpid(), signal.SIGKILL)


def dask_setup(worker: object) -> None:  # noqa: ARG001  the name and argument are dask's
    """Keep Dask quiet in this process; Dask calls it in every worker process that it starts."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
