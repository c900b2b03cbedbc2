"""What a pixel counts, by its unit (BUNIT): it decides whether photon noise can be told."""

import re
from enum import StrEnum


class UnitKind(StrEnum):
    """Sorts of units."""

    UNKNOWN = "no unit named"
    COUNTS = "data numbers"  # a gain turns them into electrons
    ELECTRONS = "electrons"
    COUNT_RATE = "data numbers a second"  # gain and exposure time
    ELECTRON_RATE = "electrons a second"  # exposure time
    CALIBRATED = "calibrated flux"  # no electrons without the calibration


_ELECTRONS = (
    "electron",
    "electrons",
    "e",
    "e-",
    "el",
    "photon",
    "photons",
    "photoelectron",
    "photoelectrons",
)
_EVENTS = ("count", "counts", "ct", "cts")
_COUNTS = ("adu", "adus", "dn", "du", *_EVENTS)
_NO_UNIT = ("", "none", "unknown", "undefined", "null", "n/a", "-")
_SECOND = r"\(?(?:s|secs?|seconds?)\)?"
_RATE = re.compile(rf"^(?P<what>.+?)\s*(?:/\s*{_SECOND}|(?:\.|\*|\s)\s*{_SECOND}(?:\*\*|\^)?-1)$")
# "Of a pixel" goes without saying.
_OF_A_PIXEL = re.compile(r"\s*(?:/\s*pix(?:el)?|[.*\s]\s*pix(?:el)?(?:\*\*|\^)?-1)(?=$|[\s/.*])")
_BRACKET = re.compile(r"/\s*\(([^()]*)\)")
_NO_BRACES = str.maketrans("", "", "{}")


def unit_kind(unit: str) -> UnitKind:
    """Sort a unit as written in BUNIT.

    >>> [unit_kind(u).name for u in ("ELECTRONS/S", "adu", "DN s-1", "e-", "MJy/sr", "")]
    ['ELECTRON_RATE', 'COUNTS', 'COUNT_RATE', 'ELECTRONS', 'CALIBRATED', 'UNKNOWN']
    >>> [unit_kind(u).name for u in ("adu/pix", "e-/s/pix", "counts sec-1", "DN/(s)")]
    ['COUNTS', 'ELECTRON_RATE', 'COUNT_RATE', 'COUNT_RATE']
    >>> [unit_kind(u).name for u in ("adu/(s pix)", "ct s^{-1}", "Jy/(beam)")]
    ['COUNT_RATE', 'COUNT_RATE', 'CALIBRATED']
    """
    what, found = _what_and_rate(unit)
    if what in _NO_UNIT:
        return UnitKind.UNKNOWN
    if what in _ELECTRONS:
        return UnitKind.ELECTRON_RATE if found else UnitKind.ELECTRONS
    if what in _COUNTS:
        return UnitKind.COUNT_RATE if found else UnitKind.COUNTS
    return UnitKind.CALIBRATED


def counts_events(unit: str) -> bool:
    """Whether a unit says that pixels are numbers of events, or of these a second.

    >>> [counts_events(u) for u in ("counts", "ct/s", "electron", "adu", "DN s-1", "")]
    [True, True, True, False, False, False]
    """
    return _what_and_rate(unit)[0] in (*_EVENTS, *_ELECTRONS)


def _what_and_rate(unit: str) -> tuple[str, bool]:
    """Split a unit into what is counted of a pixel and whether that is a second."""
    text = " ".join(unit.strip().lower().translate(_NO_BRACES).split())
    text = _OF_A_PIXEL.sub("", _BRACKET.sub(_each_divided, text))
    if text == "cps":
        return "counts", True
    found = _RATE.match(text)
    return (found.group("what").strip(), True) if found else (text, False)


def _each_divided(bracket: re.Match[str]) -> str:
    """Write "/(s pix)" as "/s/pix"."""
    return "".join(f"/{part}" for part in re.split(r"[\s.*]+", bracket.group(1).strip()))


def is_rate(kind: UnitKind) -> bool:
    """Whether the exposure time was divided out."""
    return kind in (UnitKind.COUNT_RATE, UnitKind.ELECTRON_RATE)
