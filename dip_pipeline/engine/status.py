"""How a run stands, read from its folder: also while it runs, and without disturbing it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dip_pipeline.engine.records import Records
from dip_pipeline.engine.run_directory import PROGRESS, RECORDS, told_progress
from dip_pipeline.engine.run_file import LOCK, RUN, TILES, drop_content, read_run
from dip_pipeline.engine.run_lock import Owner, owner_of, take
from dip_pipeline.errors import RunError

_RECENT = 50  # tiles that the pace is judged by


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    owners : processes that are at it; more than one where it is done in shards
    about : what run.json says of the work
    doing : what progress.json says of the moment
    tiles_done, tiles_failed : finished tiles; those of them that were copied through
    seconds_a_tile : of all processes together, lately; None before two are done
    scratch_bytes : size of the folder
    """

    path: Path
    state: Literal["running", "interrupted"]
    owners: tuple[Owner, ...]
    run_id: str
    created: str
    about: Mapping[str, Any]
    doing: Mapping[str, Any]
    tiles_done: int
    tiles_failed: int
    seconds_a_tile: float | None
    scratch_bytes: int


def read_status(path: Path) -> RunStatus:
    """Read how a run stands; raises RunError where the folder is none of ours, or gone."""
    run = _run_of(path)
    owners = tuple(
        owner for file in path.glob(f"{LOCK}*") if (owner := owner_of(file)) and owner.alive
    )
    folder = path / TILES / run["run_id"][:8]
    done = sum(1 for _ in folder.rglob("*.tile")) if folder.is_dir() else 0
    times, failed = _recorded(path / RECORDS / run["run_id"][:8])
    return RunStatus(
        path=path,
        state="running" if owners else "interrupted",
        owners=owners,
        run_id=run["run_id"],
        created=run["created"],
        about=run["about"],
        doing=_doing(path) if owners else {},
        tiles_done=done,
        tiles_failed=failed,
        seconds_a_tile=_pace(times),
        scratch_bytes=_size(path),
    )


def clean(path: Path) -> None:
    """Delete the scratch of a run that nobody is at; raises RunError where somebody is."""
    _run_of(path)
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
        path.rmdir()
    except OSError as error:
        raise RunError(f"{path}: not deleted ({error.strerror})") from error
    finally:
        lock.release()


def _run_of(path: Path) -> dict[str, Any]:
    run = read_run(path) if path.is_dir() else None
    if run is None:
        raise RunError(
            f"{path}: no scratch folder of dip ({RUN} is missing); give an output that is being "
            "made, or its folder OUT.dip"
        )
    return run


def _recorded(folder: Path) -> tuple[list[float], int]:
    """When tiles were finished, ascending, and how many of them failed."""
    times: list[float] = []
    failed: set[tuple[str, object]] = set()
    for part in (folder, *(inner for inner in folder.glob("*") if inner.is_dir())):
        for entry in Records(part).read():
            times.append(float(entry.get("time", 0.0)))
            if entry.get("failed"):
                failed.add((part.name, entry.get("tile")))
    return sorted(times), len(failed)


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
    for file in path.rglob("*"):
        try:
            total += file.stat().st_blocks * 512
        except OSError:  # gone meanwhile
            continue
    return total
