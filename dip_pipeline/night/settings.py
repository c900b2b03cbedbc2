"""Settings of restorations: which frames of a night were restored with others than the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from dip_pipeline.account.account import key_of
from dip_pipeline.config import OPTIONS
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.night.odd_frames import FrameFigures, kinds

_METHOD, _PRIOR = "algorithm", "fit.prior"
_WORDS = {_METHOD: "version of the method"}
# No other restoration: another draw of random numbers, and in how many pieces a frame was read.
_NO_SETTINGS = ("fit.seed", "task.name", "task.factor")


def settings_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Give the settings that decided the pixels of a product, by dotted names, as words.

    A prior is one by its content. Empty where the account does not say it.
    """
    key = key_of(dict(document))
    tables = key.get("configuration")
    if not isinstance(tables, Mapping):
        return {}
    found = {
        f"{table}.{name}": _words(value)
        for table, values in tables.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if f"{table}.{name}" not in _NO_SETTINGS
    }
    name = PurePath(str(facts_of(document, "configuration").get(_PRIOR) or "")).name
    digest = str(key.get("prior") or "")[:8]
    return {
        **found,
        _PRIOR: f"{name} ({digest})" if digest else "none",
        _METHOD: _words(key.get(_METHOD)),
    }


def other_settings(frames: Sequence[FrameFigures]) -> dict[str, str]:
    """Tell by their sources which frames have other settings than most of their kind, and which."""
    found: dict[str, str] = {}
    for group in kinds(frames):
        usual = _usual(group)
        for frame in group:
            told = [
                f"{_name(name)} {value} (others {usual[name]})"
                for name, value in frame.settings.items()
                if value != usual[name]
            ]
            if told:
                found[frame.source] = ", ".join(told)
    return found


def _usual(group: Sequence[FrameFigures]) -> dict[str, str]:
    """Value of each setting that most frames have; of as many the default, or the first frame's."""
    counts: dict[str, Counter[str]] = {}
    for frame in group:
        for name, value in frame.settings.items():
            counts.setdefault(name, Counter())[value] += 1
    return {name: _most_common(values, _default(name)) for name, values in counts.items()}


def _most_common(values: Counter[str], default: str) -> str:
    return max(values, key=lambda value: (values[value], value == default))


def _default(name: str) -> str:
    info = OPTIONS.get(name)
    return "" if info is None else _words(info.default)


def _name(name: str) -> str:
    """Name a setting as the command line does, where it has it."""
    info = OPTIONS.get(name)
    return _WORDS.get(name) or (info.flag if info is not None and info.flag else name)


def _words(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
