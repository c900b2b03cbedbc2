"""Warnings that several frames of a night have in common: counted, and said once at the end."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
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

    sources : the frames, by which a warning begins that is of one of them; others are not counted
    """

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__(logging.WARNING)
        self._paths: dict[str, str] = {}
        self._lock = Lock()
        self._first: dict[str, tuple[str, str]] = {}
        self._frames: dict[str, set[str]] = {}
        self.expect(sources)

    def expect(self, sources: Sequence[str]) -> None:
        """Add frames that have come in since."""
        self._paths |= {source: source.partition("[")[0] for source in sources}
        whole = sorted(self._paths.items(), key=lambda item: -len(item[1]))  # ba.fits before a.fits
        self._marks = whole + [(source, PurePath(path).name) for source, path in whole]

    def emit(self, record: logging.LogRecord) -> None:
        """Count one record; errors are told of each frame as it ends."""
        if record.levelno >= logging.ERROR:
            return
        name, _, text = " ".join(record.getMessage().split()).partition(": ")
        frame = next((source for source, mark in self._marks if mark in name), None)
        if frame is None:
            return
        with self._lock:
            self._first.setdefault(record.msg, (frame, text))
            self._frames.setdefault(record.msg, set()).add(frame)

    @property
    def repeated(self) -> tuple[Repeated, ...]:
        """Warnings of two frames and more, in the order in which they came first."""
        with self._lock:
            return tuple(
                Repeated(len(self._frames[said]), *first)
                for said, first in self._first.items()
                if len(self._frames[said]) > 1
            )


@contextmanager
def warnings_counted(sources: Sequence[str]) -> Iterator[WarningCount]:
    """Count what this package warns of some frames meanwhile, whoever else listens."""
    logger, count = logging.getLogger("dip_pipeline"), WarningCount(sources)
    logger.addHandler(count)
    try:
        yield count
    finally:
        logger.removeHandler(count)
