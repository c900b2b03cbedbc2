"""The scratch folder of a run, beside its output: what makes a run one run, and resumable."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dip_pipeline.engine.durable import (
    TEMPORARY,
    output_error,
    publish,
    publish_sealed,
    read_published,
)
from dip_pipeline.engine.tile_store import TileStore
from dip_pipeline.errors import RunError

logger = logging.getLogger(__name__)

_RUN = "run.json"
_LOCK = "lock"
_TILES = "tiles"
_MISSING = object()  # a field that one of two keys does not have
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(slots=True)
class RunDirectory:
    """The scratch folder of one run, held by one process at a time.

        run.json    the key of the run, its id, when it began; never changed
        lock        who holds the folder
        tiles/<id>/ finished tiles (a worker left over from a dropped run has another id)
        prior       the frame's prior, shared by all tiles
        work.zarr   the blended frame

    run_id : new for every run, the same for all its resumptions
    resumed : whether an earlier process began this run
    restarted_because : the fields of the key that differ from the scratch that was found and
        dropped, dotted; empty where there was none
    """

    path: Path
    run_id: str
    resumed: bool
    restarted_because: tuple[str, ...]
    _lock: int | None = field(repr=False)

    @classmethod
    def open(cls, path: Path, key: Mapping[str, object]) -> Self:
        """Create the folder, or go on with the one that is there if its key is the same.

        key : all that decides the result; what JSON can hold
        Raises RunError where another process holds the folder, or it is none of ours;
        OutputError where it cannot be written.
        """
        lock = _acquire(path)
        try:
            found = _read_run(path)
            wanted: dict[str, Any] = json.loads(json.dumps(key))
            differing = () if found is None else _differences(found["key"], wanted)
            if found is None or differing:
                run_id = str(uuid.uuid4())
                _drop_content(path)
                _write_run(path, run_id, wanted)
            else:
                run_id = found["run_id"]
            for litter in path.rglob(TEMPORARY):
                litter.unlink(missing_ok=True)
            resumed = found is not None and not differing
            run = cls(path, run_id, resumed, differing, lock)
            run.tiles.folder.mkdir(parents=True, exist_ok=True)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise output_error(error, path) from error
            raise
        return run

    @property
    def tiles(self) -> TileStore:
        """The tiles of this run; the store can be sent to other processes."""
        return TileStore(self.path / _TILES / self.run_id[:8])

    @property
    def prior_path(self) -> Path:
        """Where the frame's prior is published (see `publish_file`) for all workers."""
        return self.path / "prior"

    @property
    def work_path(self) -> Path:
        """Where the blended frame is built, a Zarr group."""
        return self.path / "work.zarr"

    def publish_file(self, name: str, content: bytes) -> bool:
        """Store a file once, whole and sealed; False where it is there. See `read_published`."""
        return publish_sealed(self.path / name, [content])

    def find_file(self, name: str) -> bytes | None:
        """Content of a published file; None where it is missing, or was damaged and is dropped."""
        path = self.path / name
        if not path.exists():
            return None
        try:
            return read_published(path)
        except RunError as error:
            logger.warning("%s", error)
            path.unlink(missing_ok=True)
            return None

    def release(self) -> None:
        """Let other processes have the folder; its content stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Delete the folder: the product is safe and nothing here is worth keeping.

        What cannot be deleted is left with a warning: the product is good all the same.
        """
        try:
            _drop_content(self.path)
            (self.path / _LOCK).unlink(missing_ok=True)
            self.release()
            self.path.rmdir()
        except OSError as error:
            logger.warning("%s: scratch not deleted (%s)", self.path, error.strerror)
        finally:
            self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _acquire(path: Path) -> int:
    """Lock the folder, making it where needed; gives the descriptor that holds the lock.

    The lock is the kernel's: it ends with its process, however that ends, so nobody has to judge
    whether an owner is dead (process numbers are used again, in containers at once).
    """
    try:
        for _ in range(100):  # more than once only while another process deletes the folder
            path.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                _check_ours(path)
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
                held = False
                try:
                    held = _hold(lock, path / _LOCK)
                finally:
                    if not held:
                        os.close(lock)
                if held:
                    return lock
    except OSError as error:
        raise output_error(error, path) from error
    raise RunError(f"{path}: another process keeps deleting it; run again")


def _hold(lock: int, path: Path) -> bool:
    """Take the lock of an open file and sign it; False where `path` is another file by now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(lock, 1000, 0).decode(errors="replace").strip() or "another process"
        raise RunError(
            f"{path.parent}: already being run by {owner}; wait for it, or stop it first"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: no locks on this file system; run one process at a time", path)
    if not os.path.samestat(os.fstat(lock), path.stat()):
        return False
    now = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0)
    return True


def _check_ours(path: Path) -> None:
    """Refuse a folder that is not ours before anything in it is touched."""
    names = {entry.name for entry in path.iterdir()}
    if _RUN in names:
        return
    if any(not fnmatch(name, TEMPORARY) for name in names - {_LOCK}):
        raise RunError(
            f"{path}: there already, and not a scratch folder of dip; "
            "move it away, or give another output"
        )


def _read_run(path: Path) -> dict[str, Any] | None:
    """Read run.json; None where there is none. One that cannot be read has an empty key."""
    try:
        found = json.loads((path / _RUN).read_bytes())
        return {"run_id": str(found["run_id"]), "key": dict(found["key"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        logger.warning("%s: cannot be read; beginning anew", path / _RUN)
        return {"run_id": "", "key": {}}


def _write_run(path: Path, run_id: str, key: Mapping[str, object]) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    content = json.dumps({"run_id": run_id, "created": created, "key": key}, indent=1)
    publish(path / _RUN, [content.encode()])


def _drop_content(path: Path) -> None:
    """Delete all but the lock, run.json last: as long as it is there the folder is known as ours.

    In run.json's absence the folder holds nothing but the lock.
    """
    entries = [entry for entry in path.iterdir() if entry.name not in (_LOCK, _RUN)]
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    (path / _RUN).unlink(missing_ok=True)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the fields that are not the same, or are missing on one side."""
    names: list[str] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, _MISSING), new.get(name, _MISSING)
        if isinstance(before, dict) and isinstance(after, dict):
            names += [f"{name}.{inner}" for inner in _differences(before, after)]
        elif not _same(before, after):
            names.append(name)
    return tuple(names)


def _same(a: object, b: object) -> bool:
    # As text: NaN equals NaN there, and 1 is not True.
    return a is b or (
        a is not _MISSING
        and b is not _MISSING
        and json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    )
