"""A product that exists already: whether it is of this very run, and what it was made with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dip_pipeline.account import key_of
from dip_pipeline.engine import differences
from dip_pipeline.errors import ExistsError, FrameError
from dip_pipeline.frames import read_provenance, wrong_sums

_CONFIGURATION = "configuration."
_PLAIN_NAMES = {
    "algorithm": "version of the method",
    "input": "content of the input",
    "plane": "HDU of the input",
    "prior": "prior file",
}
_OTHER_FILES = "companions."
_MOST_TOLD = 6


def is_product_of(target: Path, key: Mapping[str, object]) -> bool:
    """Whether the target exists and is the finished product of this very run.

    Raises ExistsError where it was, and has been changed since.
    """
    if _key_of_product(target) != key:
        return False
    if damage := _damage(target):
        raise ExistsError(
            f"{target}: made by this very run{damage}; give --overwrite to make it again"
        )
    return True


def _damage(target: Path) -> str:
    """Say what is wrong with the bytes of a product; "" where nothing is, or it is none."""
    try:
        wrong = wrong_sums(target)
    except FrameError as error:
        return f"; it cannot be read whole: {str(error).removeprefix(f'{target}: ')}"
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
    if not target.exists():
        return {}
    try:
        found = read_provenance(target)
    except FrameError:
        return {}
    return {} if found is None else key_of(found.document)


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
