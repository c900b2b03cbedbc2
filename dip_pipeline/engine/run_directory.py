"""The scratch folder of a run, beside its output: what makes a run one run, and resumable."""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dip_pipeline.engine.durable import (
    TEMPORARY,
    output_error,
    read_published,
)
from dip_pipeline.engine.faults import reach
from dip_pipeline.engine.options import Shard
from dip_pipeline.engine.records import Records
from dip_pipeline.engine.run_file import (
    LOCK,
    PREVIOUS,
    RUN,
    TILES,
    differences,
    drop_content,
    join,
    read_run,
    set_up,
)
from dip_pipeline.engine.run_lock import Lock, remove_empty, take
from dip_pipeline.engine.tile_store import TileStore
from dip_pipeline.errors import ConfigError, OutputError, RestorationError, RunError

logger = logging.getLogger(__name__)

RECORDS = "records"
PROGRESS = "progress.json"
_PATIENCE_S = 60.0  # of a shard, for another one that sets the folder up


@dataclass(slots=True)
class RunDirectory:
    """The scratch folder of one run, held by one process at a time, or by its shards.

        run.json        the key of the run, its id, when it began, what it is about; never changed
        lock            who holds the folder; lock-I-of-N: who does shard I
        tiles/<id>/     finished tiles (a worker left over from a dropped run has another id)
        records/<id>/   a line for every tile, a file a process
        *.keyed         what all tiles share, such as the frame's prior
        previous/       tiles of a run with another key, until those that still hold are taken
        progress.json   what is being done at the moment

    run_id : new for every run, the same for all its resumptions
    resumed : whether an earlier process began this run
    restarted_because : the fields of the key that differ from the scratch that was found,
        dotted; empty where there was none
    """

    path: Path
    run_id: str
    resumed: bool
    restarted_because: tuple[str, ...]
    _locks: list[Lock] = field(repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        key: Mapping[str, object],
        *,
        about: Mapping[str, object] | None = None,
        shard: Shard | None = None,
    ) -> Self:
        """Create the folder, or go on with the one that is there if its key is the same.

        key : all that decides the result; what JSON can hold
        about : what else `dip finish` and `dip status` need to know; not compared
        shard : the part of the work this process does, side by side with other shards
        Raises RunError where another process holds the folder, or it is none of ours;
        OutputError where it cannot be written.
        """
        lock, alone = _acquire(path, shard)
        locks = [lock]
        try:
            wanted: dict[str, Any] = json.loads(json.dumps(key))
            if alone:
                run_id, resumed, differing = set_up(path, wanted, about or {})
                lock.sign()
            else:
                run_id, resumed, differing = join(path, wanted)
            if shard is not None:
                locks.append(_take_shard(path, shard))
                lock.share()
            run = cls(path, run_id, resumed, differing, locks)
            run.tiles.folder.mkdir(parents=True, exist_ok=True)
        except BaseException as error:
            for held in locks:
                held.release()
            if isinstance(error, OSError):
                raise output_error(error, path) from error
            raise
        reach("run begun")
        return run

    @property
    def tiles(self) -> TileStore:
        """The tiles of this run; the store can be sent to other processes."""
        name = self.run_id[:8]
        return TileStore(self.path / TILES / name, Records(self.path / RECORDS / name))

    def previous_tiles(self) -> list[TileStore]:
        """Give the stores of earlier runs with other keys, whose tiles may be this run's too."""
        folders = sorted((self.path / PREVIOUS).glob("*"))
        return [TileStore(folder) for folder in folders if folder.is_dir()]

    def tell(self, doing: str, **facts: object) -> None:
        """Leave word of what is being done at the moment, for `read_status`; never fails."""
        tell_progress(self.progress_path, doing, **facts)

    def told(self) -> dict[str, Any]:
        """Give the last word that was left; empty where there is none."""
        return told_progress(self.progress_path)

    @property
    def progress_path(self) -> Path:
        """Where word is left of what is being done."""
        return self.path / PROGRESS

    def keyed_path(self, name: str, key: str) -> Path:
        """Where a file is published that all workers share and `key` decides."""
        return self.path / f"{name}-{key[:16]}.keyed"

    @property
    def work_path(self) -> Path:
        """Where the blended frame is built."""
        return self.path / "work"

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

    def alone_at(self, name: str) -> Lock | None:
        """Hold a piece of work that shards share; None where another one is at it."""
        try:
            lock = take(self.path / f"{LOCK}-{name}")
        except RunError:
            return None
        if lock is not None:
            lock.sign()
        return lock

    def release(self) -> None:
        """Let other processes have the folder; its content stays."""
        while self._locks:
            self._locks.pop().release()

    @classmethod
    def forget(cls, path: Path, key: Mapping[str, object]) -> None:
        """Delete the folder of a run whose product is there, unless somebody is at work in it."""
        found = read_run(path)
        if found is None or differences(found["key"], json.loads(json.dumps(key))):
            return
        with contextlib.suppress(RunError, OutputError):
            cls.open(path, key).remove()

    def drop_work(self) -> None:
        """Delete what the blended frame was built in; tiles and prior stay."""
        shutil.rmtree(self.work_path, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder: the product is safe and nothing here is worth keeping.

        What cannot be deleted is left with a warning: the product is good all the same.
        """
        try:
            drop_content(self.path)
            (self.path / LOCK).unlink(missing_ok=True)
            self.release()
            remove_empty(self.path)
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
        # Where options cannot be used, or a fit cannot be started with what it was given, what is
        # left is litter, unless tiles or a prior are in it, or another shard may be at it.
        useless = isinstance(error, ConfigError | RestorationError)
        if useless and len(self._locks) == 1 and not self._has_work():
            self.remove()
        self.release()

    def _has_work(self) -> bool:
        return any(
            file.suffix in (".tile", ".keyed") and not file.name.startswith(f"{LOCK}-")
            for file in self.path.rglob("*")
        )


def tell_progress(path: Path, doing: str, **facts: object) -> None:
    """Write what is being done at the moment; that it cannot be written is no failure."""
    content = json.dumps({"doing": doing, "time": round(time.time(), 3), **facts})
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        aside.write_text(content)
        aside.replace(path)


def told_progress(path: Path) -> dict[str, Any]:
    """Read what `tell_progress` wrote; empty where that cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _acquire(path: Path, shard: Shard | None) -> tuple[Lock, bool]:
    """Lock the folder, making it where needed; gives the lock, and whether it is ours alone."""
    deadline = time.monotonic() + (0.0 if shard is None else _PATIENCE_S)
    try:
        for _ in range(10_000):  # more than once only while another process deletes the folder
            path.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                _check_ours(path)
                try:
                    lock = take(path / LOCK)
                    alone = True
                except RunError:
                    lock = None if shard is None else _take_shared(path / LOCK)
                    alone = False
                    if lock is None and time.monotonic() >= deadline:
                        raise
                    time.sleep(0.0 if lock is not None else 0.2)
                if lock is not None:
                    return lock, alone
    except FileExistsError as error:
        raise _not_ours(path) from error
    except OSError as error:
        raise output_error(error, path) from error
    raise RunError(f"{path}: another process keeps deleting it; run again")


def _take_shared(path: Path) -> Lock | None:
    with contextlib.suppress(RunError):
        return take(path, shared=True)
    return None


def _take_shard(path: Path, shard: Shard) -> Lock:
    try:
        lock = take(path / f"{LOCK}-{shard.number}-of-{shard.count}")
    except RunError as error:
        raise RunError(f"shard {shard}: {error}") from error
    if lock is None:
        raise RunError(f"shard {shard}: {path} is being deleted; run again")
    lock.sign()
    return lock


def _check_ours(path: Path) -> None:
    """Refuse a folder that is not ours before anything in it is touched."""
    names = {entry.name for entry in path.iterdir()}
    if RUN in names:
        return
    if any(not fnmatch(name, TEMPORARY) for name in names - {LOCK}):
        raise _not_ours(path)


def _not_ours(path: Path) -> RunError:
    return RunError(
        f"{path}: there already, and not a scratch folder of dip; "
        "move it away, or give another output"
    )
