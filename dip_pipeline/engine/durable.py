"""Files that are whole or not there: written aside, synced, linked; sealed with a digest."""

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from dip_pipeline.engine.faults import reach
from dip_pipeline.errors import DiskFullError, OutputError, RunError

TEMPORARY = "*.tmp"  # names of files being written; litter once their writer is dead

_MAGIC = b"DIPFILE1"
_DIGEST_BYTES = 32  # sha256

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}


def publish(path: Path, parts: Sequence[bytes]) -> bool:
    """Write a file that nobody ever sees half written, and that is never written again.

    Returns False where the file is already there: the first writer wins, because two fits of
    one tile may differ in their last bits, and a frame must not mix them.
    Raises OutputError where the file cannot be written.
    """
    if path.exists():
        return False
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        reach("before publish")
        _write_synced(aside, parts)
        reach("before link")
        won = _link(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise output_error(error, path, sum(map(len, parts))) from error
    finally:
        with contextlib.suppress(OSError):  # the cause, if any, is on its way already
            aside.unlink(missing_ok=True)
    return won


def publish_sealed(path: Path, parts: Sequence[bytes]) -> bool:
    """Publish a file whose digest stands in its head."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return publish(path, [_MAGIC, digest.digest(), *parts])


def replace(path: Path, content: bytes) -> None:
    """Write a file anew; whoever reads it sees the old or the new one. Raises OutputError."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write_synced(aside, [content])
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise output_error(error, path, len(content)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def read_published(path: Path) -> bytes:
    """Content of a sealed file; raises RunError where it is missing, torn or changed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); run again") from error
    head = len(_MAGIC) + _DIGEST_BYTES
    content = data[head:]
    if data[:head] != _MAGIC + hashlib.sha256(content).digest():
        raise RunError(f"{path}: damaged, its checksum does not match; run again to make it anew")
    return content


def publish_copy(path: Path, source: Path) -> bool:
    """Publish what another published file holds, of which this is a second name where it may be.

    Returns False where a file is there already. Raises OutputError where it cannot be written.
    """
    try:
        named = _second_name(path, source)
        return publish(path, [source.read_bytes()]) if named is None else named
    except OSError as error:
        raise output_error(error, path) from error


def output_error(error: OSError, path: Path, n_bytes: int | None = None) -> OutputError:
    """Say in one line why `path` (of n_bytes, where known) could not be written."""
    if error.errno in _NO_ROOM:
        needed = "more room" if n_bytes is None else f"room for {n_bytes} more bytes"
        return DiskFullError(
            f"{path}: disk full or quota reached, need {needed}; free some, then run the same "
            "command again: it goes on where it stopped"
        )
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "give an output in a folder where you may write"
    )


def _write_synced(path: Path, parts: Sequence[bytes]) -> None:
    with path.open("xb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _link(aside: Path, path: Path) -> bool:
    named = _second_name(path, aside)
    if named is not None:
        return named
    # A second writer that comes within microseconds would win; both files are whole.
    if path.exists():
        return False
    aside.rename(path)
    return True


def _second_name(path: Path, source: Path) -> bool | None:
    """Give a file another name; False where that is taken, None where no file can have two.

    Some file systems (exFAT, some network shares) have no hard links.
    """
    try:
        path.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return None
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
