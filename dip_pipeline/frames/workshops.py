"""Hidden folders in which outputs grow; what a killed writer left is told by its lock.

A workshop stands beside its output, so that what is ready can be renamed. Its lock is one of the
kernel, which ends with its process: who can take it knows that nobody works there any more. A
process id would not do, which two containers may share.
"""

import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

logger = logging.getLogger(__name__)

_NAME_BYTES = 200
_LOCK, _NEW, _OLD = "lock", "new", "old"
_TRIES = 5
_YOUNG_S = 60.0  # a folder without a lock may be about to get one
_SILENT_S = 86_400.0  # where locks of other machines cannot be seen
_AT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux


@contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """Lend a name to write an output to; the folder it is in goes at the end, with what is left.

    Raises OSError where it cannot be made.
    """
    folder, lock = _opened(output)
    try:
        yield folder / _NEW
    finally:
        os.close(lock)  # first: network folders keep what is open
        with suppress(OSError):
            shutil.rmtree(folder)


def exchange(new: Path, old: Path) -> None:
    """Put a folder in the place of another one, which goes; `new` is in a workshop.

    At once where the system can; else the old one steps aside, and back where that fails.
    """
    if _swapped(new, old):
        return
    aside = new.with_name(_OLD)
    try:
        old.rename(aside)
        new.rename(old)
    finally:
        if aside.exists() and not old.exists():
            aside.rename(old)


def clear_workshops(output: Path) -> None:
    """Delete what killed writers of an output left; an output that had stepped aside comes back.

    Nothing is said of what cannot be deleted: it is in nobody's way.
    """
    path = Path(os.path.realpath(output))
    with suppress(OSError):
        for folder in sorted(path.parent.glob(f".{escape(_short(path.name))}.*.part")):
            with suppress(OSError):
                _clear(folder, path)


def _opened(output: Path) -> tuple[Path, int]:
    """Make a workshop, and lock it; gives its folder, and the descriptor that holds the lock."""
    for _ in range(_TRIES):
        folder = output.with_name(f".{_short(output.name)}.{uuid.uuid4().hex[:12]}.part")
        folder.mkdir()
        try:
            lock = _locked(folder / _LOCK)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if lock is not None:
            return folder, lock
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(output))


def _locked(path: Path) -> int | None:
    """Make and hold a lock, signed; None where it was taken for a dead one's, and has gone."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # no locks here
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, socket.gethostname().encode())
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _clear(folder: Path, path: Path) -> None:
    if not _taken_over(folder):
        return
    aside = folder / _OLD
    if aside.exists() and not path.exists():
        aside.rename(path)
        logger.warning("%s: put back, as it was before a run that was killed", path)
    shutil.rmtree(folder)


def _taken_over(folder: Path) -> bool:
    """Take the lock away from a workshop where nobody works any more, as far as can be told."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > _YOUNG_S
    try:
        left = _is_left(lock) or _silent_s(folder) > _SILENT_S
        if left:
            (folder / _LOCK).unlink()  # who waits for it sees that it has gone
    except BlockingIOError:
        left = False
    finally:
        os.close(lock)
    return left


def _is_left(lock: int) -> bool:
    """Whether a lock can be had, and would not be another machine's; BlockingIOError if held."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # no locks here
        return False
    return os.pread(lock, 256, 0).decode(errors="replace") in ("", socket.gethostname())


def _silent_s(folder: Path) -> float:
    """Seconds since anything in a folder was written."""
    files = (Path(inner) / name for inner, _, names in os.walk(folder) for name in names)
    return time.time() - max((file.stat().st_mtime for file in files), default=0.0)


def _swapped(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the system or the disk cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    failed: int = rename(_AT_FOLDER, names[0], _AT_FOLDER, names[1], _EXCHANGE)
    return failed == 0


def _short(name: str) -> str:
    """Leave room behind a name (255 bytes at most); two names stay two."""
    raw = os.fsencode(name)
    if len(raw) <= _NAME_BYTES:
        return name
    return f"{raw[:100].decode(errors='ignore')}.{hashlib.sha256(raw).hexdigest()}"
