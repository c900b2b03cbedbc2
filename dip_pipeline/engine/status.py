"""How a run stands, read from its folder: also while it runs, and without disturbing it."""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dip_pipeline.engine.durable import TEMPORARY
from dip_pipeline.engine.records import Records
from dip_pipeline.engine.run_directory import PROGRESS, RECORDS, told_progress
from dip_pipeline.engine.run_file import LOCK, RUN, TILES, drop_content, read_run
from dip_pipeline.engine.run_lock import Owner, owner_of, remove_empty, take
from dip_pipeline.errors import RunError

_RECENT = 50  # tiles that the pace is judged by
_IN_SIGHT = 8  # numbers of shards in one line
_SHARD = re.compile(rf"{LOCK}-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    state : waiting, where nobody is at it and nothing broke off: for shards that have not begun, or
        for `dip finish`
    owners : processes that are at it; more than one where it is done in shards
    about : what run.json says of the work
    doing : what progress.json says of the moment
    tiles_done, tiles_failed : finished tiles; those of them that were copied through
    seconds_a_tile : of all processes together, lately; None before two are done
    scratch_bytes : size of the folder
    shards : how many parts it is done in; 0 where it is not. shards_left : those with tiles missing
    shards_broken : those of them that had begun, and nobody is at any more
    """

    path: Path
    state: Literal["running", "waiting", "interrupted"]
    owners: tuple[Owner, ...]
    run_id: str
    created: str
    about: Mapping[str, Any]
    doing: Mapping[str, Any]
    tiles_done: int
    tiles_failed: int
    seconds_a_tile: float | None
    scratch_bytes: int
    shards: int = 0
    shards_left: tuple[int, ...] = ()
    shards_broken: tuple[int, ...] = ()

    @property
    def tiles_words(self) -> str:
        """How many tiles are done, and how many of them are the input's."""
        failed = f", {self.tiles_failed} of them FAILED and copied" if self.tiles_failed else ""
        return f"{self.tiles_done} of {self.about.get('tiles', '?')} tiles are done{failed}"

    @property
    def way_on(self) -> str:
        """What goes on with it, or ends it, where nobody is at it."""
        if self.tiles_done >= _whole_number(self.about.get("tiles")) > 0:
            return f"dip finish {self.path} writes it"
        if not self.shards_left:
            return "the same command goes on with it"
        first, names = self.shards_left[0], ", ".join(map(str, self.shards_left[:_IN_SIGHT]))
        if len(self.shards_left) == 1:
            which = f"shard {first} of {self.shards} is left (--shard {first}/{self.shards})"
            return f"{which}, or dip finish --complete {self.path} restores here what is missing"
        more = ", ..." if len(self.shards_left) > _IN_SIGHT else ""
        return (
            f"shards {names}{more} of {self.shards} are left (--shard {first}/{self.shards} and so "
            f"on), or dip finish --complete {self.path} restores here what is missing"
        )


def read_status(path: Path) -> RunStatus:
    """Read how a run stands; raises RunError where the folder is none of ours, or gone."""
    try:
        return _status_of(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: gone while it was read; the run has ended") from error


def _status_of(path: Path) -> RunStatus:
    run = _run_of(path)
    signed = {file.name: owner_of(file, looking_on=True) for file in path.glob(f"{LOCK}*")}
    known = {name: owner for name, owner in signed.items() if owner is not None}
    alive = {name: owner for name, owner in known.items() if owner.alive}
    done = {file.stem for file in (path / TILES / run["run_id"][:8]).glob("*.tile")}
    shards = _shards(path)
    left = _shards_left(shards, _whole_number(run["about"].get("tiles")), done)
    begun = {number: f"{LOCK}-{number}-of-{shards}" for number in left}
    broken = tuple(n for n, name in begun.items() if name in signed and name not in alive)
    # Who lets go leaves its lock empty: a name that nobody answers to is that of one who died.
    broke_off = not shards or bool(broken) or LOCK in known
    times, failed = _recorded(path / RECORDS / run["run_id"][:8])
    return RunStatus(
        path=path,
        state="running" if alive else "interrupted" if broke_off else "waiting",
        owners=tuple(alive.values()),
        run_id=run["run_id"],
        created=run["created"],
        about=run["about"],
        doing=_doing(path) if alive else {},
        tiles_done=len(done),
        tiles_failed=failed,
        seconds_a_tile=_pace(times),
        scratch_bytes=_size(path),
        shards=shards,
        shards_left=left,
        shards_broken=broken,
    )


def _shards(path: Path) -> int:
    """How many parts the last of the shards that began here was one of; 0 where there was none."""
    latest = (0.0, 0)
    for file in path.glob(f"{LOCK}-*"):
        if (found := _SHARD.fullmatch(file.name)) is not None:
            with contextlib.suppress(OSError):  # gone meanwhile
                latest = max(latest, (file.stat().st_mtime, int(found[2])))
    return latest[1]


def _shards_left(shards: int, tiles: int, done: Collection[str]) -> tuple[int, ...]:
    """Numbers of the shards of which a tile is missing."""
    if not shards:
        return ()
    numbers = {int(name) for name in done if name.isdecimal()}
    missing = (index for index in range(tiles) if index not in numbers)
    return tuple(sorted({index % shards + 1 for index in missing}))


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) else 0


def clean(path: Path) -> RunStatus | None:
    """Delete the scratch of a run that nobody is at; raises RunError where somebody is.

    Gives how the run stood; None where nothing but a lock was left of it.
    """
    before = None if _only_a_lock(path) else read_status(path)
    lock = take(path / LOCK)
    if lock is None:
        raise RunError(f"{path}: being deleted by another process")
    try:
        for file in path.glob(f"{LOCK}-*"):
            owner = owner_of(file)
            if owner is not None and owner.alive:
                raise RunError(f"{path}: already being run by {owner}; stop it first")
        drop_content(path)
        (path / LOCK).unlink(missing_ok=True)
        remove_empty(path)
    except OSError as error:
        raise RunError(f"{path}: not deleted ({error.strerror})") from error
    finally:
        lock.release()
    return before


def _only_a_lock(path: Path) -> bool:
    """Whether nothing else is left of a scratch folder: its process died as it was deleted."""
    named = path.suffix == ".dip" and path.is_dir()
    return named and all(file.name == LOCK or file.match(TEMPORARY) for file in path.iterdir())


def _run_of(path: Path) -> dict[str, Any]:
    run = read_run(path) if path.is_dir() else None
    if run is None:
        raise RunError(
            f"{path}: no scratch folder of dip ({RUN} is missing); give an output that is being "
            "made, or its folder OUT.dip"
        )
    return run


def _recorded(folder: Path) -> tuple[list[float], int]:
    """When tiles were finished, ascending, and how many of them failed the last time."""
    lines = [(float(line.get("time", 0.0)), line) for line in Records(folder).read()]
    lines.sort(key=lambda line: line[0])
    failed = {line.get("tile"): bool(line.get("failed")) for _, line in lines}
    return [when for when, _ in lines], sum(failed.values())


def _pace(times: list[float]) -> float | None:
    recent = times[-_RECENT:]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    return (recent[-1] - recent[0]) / (len(recent) - 1)


def _doing(path: Path) -> dict[str, Any]:
    found = told_progress(path / PROGRESS)
    if found:
        found["seconds_ago"] = max(0.0, time.time() - float(found.get("time", 0.0)))
    return found


def _size(path: Path) -> int:
    total = 0
    for file in _files(path):
        try:
            total += file.stat().st_blocks * 512
        except OSError:  # gone meanwhile
            continue
    return total


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and those in it; folders that go meanwhile have none."""
    return (Path(inner) / name for inner, _, names in os.walk(folder) for name in names)
