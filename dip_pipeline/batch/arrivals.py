"""Frames as they come in: whose file is whole, which were tried, which are worth another try."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dip_pipeline.frames import split_selector

SETTLED_S = 10.0


class Looks(NamedTuple):
    """What a file or a folder looked like: bytes, files, and when one of them changed last (s)."""

    size: int
    files: int
    changed: float


class Arrivals:
    """Which frames have come in, whole, since they were looked at last.

    A file is whole when it has not changed for SETTLED_S: so old are those that were there before,
    and for so long those have been looked at that are being written, whatever their clock says.
    clock, now : seconds, of any beginning and since 1970
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._now = clock, now
        self._seen: dict[str, tuple[Looks, float]] = {}
        self._tried: dict[str, Looks] = {}
        self._done: set[str] = set()

    def fresh(self, sources: Sequence[str]) -> list[str]:
        """Take those that are whole and were not taken, or not as they are now."""
        return [source for source in sources if source not in self._done and self._takes(source)]

    def is_arriving(self, source: str) -> bool:
        """Whether there is something of a frame that has not been whole yet, or not as it is."""
        looks = looks_of(Path(split_selector(source)[0]))
        return source not in self._done and looks not in (None, self._tried.get(source))

    def has_taken(self, source: str) -> bool:
        """Whether a frame has been whole once."""
        return source in self._tried

    def done(self, source: str) -> None:
        """Never take a frame again: it is restored."""
        self._done.add(source)

    def _takes(self, source: str) -> bool:
        looks = looks_of(Path(split_selector(source)[0]))
        if looks is None or looks == self._tried.get(source):
            return False
        before, since = self._seen.get(source, (None, 0.0))
        if looks != before:
            since = self._clock()
            self._seen[source] = looks, since
        if max(self._clock() - since, self._now() - looks.changed) < SETTLED_S:
            return False
        self._tried[source] = looks
        return True


def looks_of(path: Path) -> Looks | None:
    """Look at a file, or at all in the folder of a Zarr group; None for one that is not there yet.

    Nor is one that is empty.
    """
    paths = [path]
    with suppress(OSError):
        if path.is_dir():
            paths = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        stats = [each.stat() for each in paths]
        size = sum(stat.st_size for stat in stats)
        if size:
            return Looks(size, len(stats), max(stat.st_mtime for stat in stats))
    return None
