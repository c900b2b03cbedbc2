"""A product that exists already: whether it is of this very run, and what it was made with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from dip_pipeline.account.account import key_of
from dip_pipeline.account.record import is_lost
from dip_pipeline.engine import differences
from dip_pipeline.errors import ExistsError, FrameError
from dip_pipeline.frames import Provenance, read_provenance, wrong_sums
from dip_pipeline.frames.workshops import clear_workshops

_CONFIGURATION = "configuration."
_PLAIN_NAMES = {
    "algorithm": "version of the method",
    "input": "content of the input",
    "plane": "HDU of the input",
    "prior": "prior file",
}
_OTHER_FILES = "companions."
_MOST_TOLD = 6


class Made(Enum):
    """What an earlier run made of a target."""

    NOT = "nothing, or by another run"
    WHOLE = "the product of this very run"
    LACKING = "the same, but for tiles whose workers died"


def made_before(target: Path, key: Mapping[str, object], *, overwrite: bool) -> Made:
    """Tell whether the target exists and is the product of this very run.

    What a killed writer left beside it is put right first.
    overwrite : whether a product that is damaged, or has tiles that failed, is to be made again
    Raises ExistsError where it has been changed since, and is not.
    """
    clear_workshops(target)
    found = _account_of(target)
    if found is None or key_of(found.document) != key:
        return Made.NOT
    if damage := _damage(target):
        if overwrite:
            return Made.NOT
        raise ExistsError(
            f"{target}: made by this very run{damage}; give --overwrite to make it again"
        )
    if any(is_lost(tile) for tile in found.tiles):
        return Made.LACKING
    return Made.NOT if overwrite and any(tile["failed"] for tile in found.tiles) else Made.WHOLE


def _damage(target: Path) -> str:
    """Say what is wrong with the bytes of a product; "" where nothing is, or it is none."""
    try:
        wrong = wrong_sums(target)
    except FrameError as error:
        found = str(error).removeprefix(f"{target}: ")
        return f"; it cannot be read whole: {found.partition('; ')[0]}"  # what follows is of inputs
    is_ours = wrong and read_provenance(target) is not None
    return f"; damaged, or changed since: {wrong}" if is_ours else ""


@contextmanager
def differences_told(target: Path, key: Mapping[str, object]) -> Iterator[None]:
    """Where an output is refused because it exists, say in what the run that made it differs.

    key : of the run that is asked for, as `run_key` gives it
    """
    try:
        yield
    except ExistsError as error:
        told = _damage(target) or told_differences(_key_of_product(target), key)
        raise ExistsError(f"{error}{told}") from error


def told_differences(made: Mapping[str, Any], wanted: Mapping[str, object]) -> str:
    """Say in what the run that made a product differs from the one that is asked for.

    made, wanted : keys of runs, as `run_key` gives them; "" where nothing is known of the first
    """
    if not made:
        return ""
    told = [_told(name, made, wanted) for name in differences(made, wanted)]
    more = [] if len(told) <= _MOST_TOLD else [f"and {len(told) - _MOST_TOLD} more"]
    return f"; it was made with another {', '.join(told[:_MOST_TOLD] + more)}"


def _key_of_product(target: Path) -> dict[str, Any]:
    """All that decided the pixels of a product; empty where there is none, or none of ours."""
    found = _account_of(target)
    return {} if found is None else key_of(found.document)


def _account_of(target: Path) -> Provenance | None:
    if not target.exists():
        return None
    try:
        return read_provenance(target)
    except FrameError:
        return None


def _told(name: str, made: Mapping[str, Any], wanted: Mapping[str, object]) -> str:
    """Name a difference as a user knows it, options with both their values."""
    if name.startswith(_OTHER_FILES):
        return name.removeprefix(_OTHER_FILES)
    if not name.startswith(_CONFIGURATION):
        return _PLAIN_NAMES.get(name, name)
    then, now = (_value(key, name) for key in (made, wanted))
    return f"{name.removeprefix(_CONFIGURATION)} ({then}, now {now})"


def _value(key: Mapping[str, Any], name: str) -> str:
    found: Any = key
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return "not said"
        found = found[part]
    return "none" if found is None else str(found)
