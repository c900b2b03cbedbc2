"""Names of summaries: each is kept by one run at a time."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from dip_pipeline.engine.run_lock import Lock, owner_of, take
from dip_pipeline.errors import FrameError, RunError
from dip_pipeline.night.unmade import is_at_work, read_summary, summaries_in

log = logging.getLogger(__name__)

_LOOK_S = 0.05


@contextmanager
def own_name(path: Path, *, patience_s: float = 0.0) -> Iterator[Path]:
    """Lend the name of a summary that no other run which is at work keeps: the next number's.

    patience_s : to wait for one, whose keeper may be about to let it go
    Nor one that is no summary. Without a lock where none can be had: whoever writes the summary
    tells of it.
    """
    why = ""
    for number in count(1):
        own = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if is_foreign(own):
            why = why or "is no summary of dip"
            continue
        lock_path = _lock_of(own)
        try:
            lock = _taken(lock_path, patience_s)
        except RunError:
            held = owner_of(lock_path) or "another process"
            why = why or f"is kept by another run that is at work ({held})"
            continue
        except OSError:
            lock = None
        break
    if own != path:
        log.warning("%s: %s; that of this one is %s", path, why, own.name)
    try:
        yield own
    finally:
        if lock is not None:
            lock_path.unlink(missing_ok=True)  # first: who waits for it makes another one
            lock.release()


def is_foreign(path: Path) -> bool:
    """Whether another file has this name, or one that cannot be read."""
    try:
        read_summary(path)
    except FrameError:
        return path.is_file()
    return False


def ended_beside(own: Path) -> dict[Path, bytes]:
    """Give the other summaries of a folder that no run keeps any more, and what they hold."""
    found = {}
    for path in summaries_in(own.parent):
        if path != own and not is_foreign(path) and not is_at_work(path):
            with suppress(OSError):
                found[path] = path.read_bytes()
    return found


def take_away(path: Path, content: bytes) -> None:
    """Delete a summary, unless a run keeps it, or has done since it held this."""
    lock_path = _lock_of(path)
    with suppress(OSError, RunError):
        if (lock := take(lock_path)) is None:
            return
        try:
            if path.read_bytes() == content:
                path.unlink()
        finally:
            lock_path.unlink(missing_ok=True)
            lock.release()


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _taken(lock_path: Path, patience_s: float) -> Lock:
    """Lock a file and sign it. RunError where another process holds it, OSError for no lock."""
    deadline = time.monotonic() + patience_s
    lock = None
    while lock is None:
        try:
            lock = take(lock_path)  # None where its holder took it away at this moment
        except RunError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_S)
    with suppress(OSError):  # a full disk holds no name
        lock.sign()
    return lock
