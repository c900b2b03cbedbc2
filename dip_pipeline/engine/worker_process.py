"""What happens inside a worker process, and what it leaves on disk for the one that started it."""

# mypy: allow-untyped-calls
# (distributed declares types for a part of its functions)

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distributed.protocol.pickle import dumps, loads

from dip_pipeline.engine.durable import output_error

P = TypeVar("P")
R = TypeVar("R")

_STOP = "stop"
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

    def finish(self, result: object) -> None:
        """Leave the result, or where none are kept that there was one; whole, or not there."""
        aside = self.stem.with_name(f"{self.stem.name}.{os.getpid()}")
        with self._told_if_it_fails():
            aside.write_bytes(dumps(result) if self.keeps_result else b"")
            aside.replace(self._result)

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


class Lost:
    """What stands for the result of an item that was not begun: started too often, or stopped."""


def attempt(run: Callable[[P], R], item: P, notes: Notes) -> R | Lost | None:
    """Run an item, unless it was started too often; its result is left in the notes, or given."""
    if not notes.begin():
        return Lost()
    result = run(item)
    notes.finish(result)
    return None if notes.keeps_result else result


def dask_setup(worker: object) -> None:  # noqa: ARG001  the name and argument are dask's
    """Keep Dask quiet in this process; Dask calls it in every worker process that it starts."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
