"""run.json: what makes a run one run, and what becomes of the folder when that changes."""

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from dip_pipeline.engine.durable import TEMPORARY, replace
from dip_pipeline.engine.faults import reach
from dip_pipeline.errors import RunError

logger = logging.getLogger(__name__)

RUN = "run.json"
LOCK = "lock"
TILES = "tiles"
PREVIOUS = "previous"  # tiles of runs with another key
_KEYED = "*.keyed"  # files whose name says what decides their content: good for any run
_MISSING = object()  # a field that one of two keys does not have


def set_up(
    path: Path, key: Mapping[str, Any], about: Mapping[str, object]
) -> tuple[str, bool, tuple[str, ...]]:
    """Begin the run, or go on with it; gives its id, whether it is an old one, what differs."""
    found = read_run(path)
    differing = () if found is None else differences(found["key"], key)
    for litter in path.rglob(TEMPORARY):
        litter.unlink(missing_ok=True)
    if found is not None and not differing:
        return found["run_id"], True, ()
    run_id = str(uuid.uuid4())
    _put_aside(path)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"run_id": run_id, "created": created, "about": dict(about), "key": key}
    replace(path / RUN, json.dumps(content, indent=1, default=str).encode())
    return run_id, False, differing


def join(path: Path, key: Mapping[str, Any]) -> tuple[str, bool, tuple[str, ...]]:
    """Go on beside other shards."""
    found = read_run(path)
    differing = ("run.json",) if found is None else differences(found["key"], key)
    if found is None or differing:
        raise RunError(
            f"{path}: its shards run with other options ({', '.join(differing)}); "
            "stop them, or give the same options"
        )
    return found["run_id"], True, ()


def read_run(path: Path) -> dict[str, Any] | None:
    """Read run.json; None where there is none. One that cannot be read has an empty key."""
    try:
        found = json.loads((path / RUN).read_bytes())
        return {
            "run_id": str(found["run_id"]),
            "key": dict(found["key"]),
            "about": dict(found["about"]),
            "created": str(found["created"]),
        }
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        logger.warning("%s: cannot be read; beginning anew", path / RUN)
        return {"run_id": "", "key": {}, "about": {}, "created": ""}


def _put_aside(path: Path) -> None:
    """Make room for another run: tiles aside, for those may be its too; all else but keys goes."""
    kept = {LOCK, RUN, PREVIOUS}
    previous = path / PREVIOUS
    for folder in (path / TILES).glob("*"):
        previous.mkdir(exist_ok=True)
        if (previous / folder.name).exists():
            shutil.rmtree(folder)
        else:
            folder.rename(previous / folder.name)
    _delete([e for e in path.iterdir() if e.name not in kept and not fnmatch(e.name, _KEYED)])


def drop_content(path: Path) -> None:
    """Delete all but the lock, run.json last: as long as it is there the folder is known as ours.

    In run.json's absence the folder holds nothing but the lock.
    """
    _delete([entry for entry in path.iterdir() if entry.name not in (LOCK, RUN)])
    (path / RUN).unlink(missing_ok=True)


def _delete(entries: list[Path]) -> None:
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
        reach("during remove")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the fields of two keys that are not the same, or are missing on one side."""
    names: list[str] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, _MISSING), new.get(name, _MISSING)
        tables = [each for each in (before, after) if each is not _MISSING]
        if all(isinstance(each, dict) and each for each in tables):
            inner = differences(*({} if each is _MISSING else each for each in (before, after)))
            names += [f"{name}.{each}" for each in inner]
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
