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
_COUNTS = ("adu", "adus", "dn", "du", "count", "counts", "ct", "cts")
_NO_UNIT = ("", "none", "unknown", "undefined", "null", "n/a", "-")
_SECOND = r"\(?(?:s|secs?|seconds?)\)?"
_RATE = re.compile(rf"^(?P<what>.+?)\s*(?:/\s*{_SECOND}|(?:\.|\*|\s)\s*{_SECOND}(?:\*\*|\^)?-1)$")
# "Of a pixel" goes without saying.
_OF_A_PIXEL = re.compile(r"\s*(?:/\s*pix(?:el)?|[.*\s]\s*pix(?:el)?(?:\*\*|\^)?-1)(?=$|[\s/.*])")


def unit_kind(unit: str) -> UnitKind:
    """Sort a unit as written in BUNIT.

    >>> [unit_kind(u).name for u in ("ELECTRONS/S", "adu", "DN s-1", "e-", "MJy/sr", "")]
    ['ELECTRON_RATE', 'COUNTS', 'COUNT_RATE', 'ELECTRONS', 'CALIBRATED', 'UNKNOWN']
    >>> [unit_kind(u).name for u in ("adu/pix", "e-/s/pix", "counts sec-1", "DN/(s)")]
    ['COUNTS', 'ELECTRON_RATE', 'COUNT_RATE', 'COUNT_RATE']
    """
    text = _OF_A_PIXEL.sub("", " ".join(unit.strip().lower().split()))
    if text in _NO_UNIT:
        return UnitKind.UNKNOWN
    if text == "cps":
        return UnitKind.COUNT_RATE
    found = _RATE.match(text)
    what = found.group("what").strip() if found else text
    if what in _ELECTRONS:
        return UnitKind.ELECTRON_RATE if found else UnitKind.ELECTRONS
    if what in _COUNTS:
        return UnitKind.COUNT_RATE if found else UnitKind.COUNTS
    return UnitKind.CALIBRATED


def is_rate(kind: UnitKind) -> bool:
    """Whether the exposure time was divided out."""
    return kind in (UnitKind.COUNT_RATE, UnitKind.ELECTRON_RATE)
