"""Outputs appear whole or not at all: written beside under another name, then renamed."""

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.errors import ExistsError, OutputError
from dip_pipeline.frames.workshops import exchange, workshop

_GZIP_LEVEL = 6
_COPY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an output goes.

    target : as the user named it; path : links resolved
    """

    target: Path
    path: Path
    overwrite: bool


def prepare(target: Path, source: Path, *, overwrite: bool, hint: str = "") -> Destination:
    """Check that the output may be written at all; raises OutputError.

    Never onto, into, or around the input; onto an existing output only when asked (ExistsError).
    hint : how else one may ask, in words
    """
    try:
        # Unlike `resolve` it leaves a link that leads nowhere but to itself.
        path, origin = (Path(os.path.realpath(one)) for one in (target, source))
        looped = path.is_symlink()
        exists = path.exists()
        same = path == origin or (exists and path.samefile(origin))
        folder_is_there = path.parent.is_dir()
        takes_files = os.access(path.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from error
    if looped:
        raise OutputError(f"{target}: is a link that leads to itself; name another output")
    if same or origin in path.parents or path in origin.parents:
        raise OutputError(f"{target}: is the input {source}, or holds it; name another output")
    if exists and not overwrite:
        raise ExistsError(
            f"{target}: exists already; name another output, or give --overwrite{hint}"
        )
    if not folder_is_there:
        raise OutputError(f"{target}: no folder {path.parent}; create it first")
    if not takes_files:
        raise OutputError(
            f"{target}: cannot be written: {path.parent} is read-only, or not yours; give an "
            "output in a folder where you may write"
        )
    return Destination(target, path, overwrite)


@contextmanager
def publishing(destination: Destination, needed_bytes: int) -> Iterator[Path]:
    """Lend the name to write to; publish what was written, or leave nothing behind.

    needed_bytes : told to the user where there is no room.
    Raises OutputError for whatever the file system refuses.
    """
    try:
        with workshop(destination.path) as part:
            yield part
            _sync(part)
            _move_in(part, destination)
            _sync_folder(destination.path.parent)
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        raise OutputError(
            f"{destination.target}: cannot be written: {reason}; "
            f"needed: {needed_bytes} bytes in {destination.path.parent}"
        ) from error


def write_gzip(part: Path, write: Callable[[Path], None], target: Path) -> None:
    """Gzip what `write` writes; no name and no time in it, so that the same bytes stay the same.

    target : as the user named it. Read back to its end, where gzip's own check sum stands. Raises
    OutputError where that differs.
    """
    plain = part.with_suffix(".plain")
    try:
        write(plain)
        with (
            plain.open("rb") as source,
            part.open("wb") as stream,
            gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed,
        ):
            shutil.copyfileobj(source, packed, _COPY_BYTES)
        size = plain.stat().st_size
    finally:
        plain.unlink(missing_ok=True)
    try:
        with gzip.open(part) as unpacked:
            while block := unpacked.read(_COPY_BYTES):
                size -= len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OutputError(f"{target}: reads back otherwise than written; check the disk") from error
    if size:
        raise OutputError(f"{target}: reads back otherwise than written; check the disk")


def _move_in(part: Path, destination: Destination) -> None:
    if part.is_dir():
        _move_folder(part, destination)
    elif destination.overwrite:
        part.replace(destination.path)
    else:
        _link(part, destination)


def _link(part: Path, destination: Destination) -> None:
    """Rename without ever replacing a file that came into being meanwhile."""
    try:
        os.link(part, destination.path)
    except FileExistsError as error:
        raise _appeared(destination) from error
    except OSError:
        # No hard links here (FAT, some network folders): the window for a race is small.
        if destination.path.exists():
            raise
        part.replace(destination.path)


def _move_folder(part: Path, destination: Destination) -> None:
    """Put a folder in place; an old one goes when the new one is there."""
    path = destination.path
    if not path.exists():
        part.rename(path)
    elif destination.overwrite:
        exchange(part, path)
    else:
        raise _appeared(destination)


def _appeared(destination: Destination) -> OutputError:
    return OutputError(f"{destination.target}: appeared while this run was writing; left alone")


def _sync(part: Path) -> None:
    """Force every byte to the disk before the new name appears."""
    files = [part]
    if part.is_dir():
        files = [Path(folder) / name for folder, _, names in os.walk(part) for name in names]
        for folder, _, _ in os.walk(part):
            _sync_folder(Path(folder))
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
