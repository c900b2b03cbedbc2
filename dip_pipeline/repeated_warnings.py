"""Warnings that several frames of a night have in common: counted, and said once at the end."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple


class Repeated(NamedTuple):
    """A warning of several frames: how many, the first of them, and what is said of that one."""

    frames: int
    first: str
    text: str

    def __str__(self) -> str:
        return f"{self.frames} frames: {self.text} (this of {self.first})"


class WarningCount(logging.Handler):
    """Counts warnings by what they say, whatever their names and numbers are.

    A warning begins with the name of its frame, as every one of this package does.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lock = Lock()
        self._first: dict[str, tuple[str, str]] = {}
        self._names: dict[str, set[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Count one record; errors are told of each frame as it ends."""
        if record.levelno >= logging.ERROR:
            return
        name, _, text = " ".join(record.getMessage().split()).partition(": ")
        with self._lock:
            self._first.setdefault(record.msg, (name, text))
            self._names.setdefault(record.msg, set()).add(name)

    @property
    def repeated(self) -> tuple[Repeated, ...]:
        """Warnings of two frames and more, in the order in which they came first."""
        with self._lock:
            return tuple(
                Repeated(len(self._names[said]), *first)
                for said, first in self._first.items()
                if len(self._names[said]) > 1
            )


@contextmanager
def warnings_counted() -> Iterator[WarningCount]:
    """Count what this package warns of meanwhile, whoever else listens."""
    logger, count = logging.getLogger("dip_pipeline"), WarningCount()
    logger.addHandler(count)
    try:
        yield count
    finally:
        logger.removeHandler(count)
