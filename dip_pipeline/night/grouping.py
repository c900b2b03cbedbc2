"""Which frames belong together: of one camera, filter, pixel scale and kind, and of one night."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dip_pipeline.frames import calibration_kind, camera_of

_GAP_HOURS = 6.0  # between the last frame of a night and the first of the next, anywhere on Earth
_MJD_OF_1970 = 40587
# Of the years 1900 and 2200: a card that says another time says none.
_EARLIEST_HOURS, _LATEST_HOURS = -613_600.0, 2_016_200.0
_OLD_DATE = re.compile(r"^(\d\d)/(\d\d)/(\d\d)$")  # of FITS before 2000
_CLOCKS = ("TIME-OBS", "UT", "UTC-OBS", "UTSTART", "UTC")  # where DATE-OBS is a day alone
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d(\.\d*)?)?")
_BEGUN = (("DATE-OBS", _CLOCKS), ("DATE-BEG", ()), ("DATE-AVG", ()))
_SCALE_TOLERANCE = 0.02  # as a prior takes it


@dataclass(frozen=True, slots=True)
class Taken:
    """One frame: where it is, what it was taken with, and when (hours; None where nobody says).

    scale_arcsec : of a pixel; None where nobody says
    kind : of a frame for calibration; "" for the sky
    """

    source: str
    instrument: str
    filter: str
    scale_arcsec: float | None
    hours: float | None
    kind: str = ""

    @property
    def sort(self) -> tuple[str, str, str]:
        """What frames must have in common, beside their pixel scale."""
        return self.instrument, self.filter, self.kind

    @classmethod
    def of(cls, source: str, header: Mapping[str, object]) -> "Taken":
        """Read the cards of a frame."""
        camera = camera_of(header)
        return cls(
            source,
            (camera.instrument or "").casefold(),
            (camera.filter or "").casefold(),
            camera.pixel_scale_arcsec,
            hours_of(header),
            (calibration_kind(header) or "").casefold(),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that can share a prior; name : made of filter and night, for a file."""

    name: str
    sources: tuple[str, ...]


def hours_of(header: Mapping[str, object]) -> float | None:
    """Hours since 1970 UT of an exposure's beginning, by MJD-OBS, or as `begun_of` reads it."""
    mjd = header.get("MJD-OBS")
    if isinstance(mjd, int | float) and not isinstance(mjd, bool) and math.isfinite(mjd):
        return _believed(24.0 * (float(mjd) - _MJD_OF_1970))
    try:
        moment = datetime.fromisoformat(begun_of(header))
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return _believed(seconds / 3600.0)


def begun_of(header: Mapping[str, object]) -> str:
    """When an exposure began, as its cards tell day and clock: ISO 8601; "" where none does."""
    for day, clocks in _BEGUN:
        if isinstance(date := header.get(day), str) and date.strip():
            told = _OLD_DATE.sub(r"19\3-\2-\1", date.strip())
            hours = (str(header.get(name) or "").strip() for name in clocks if "T" not in told)
            clock = next((hour for hour in hours if _CLOCK.fullmatch(hour)), "")
            return f"{told}T{'0' if clock[1] == ':' else ''}{clock}" if clock else told
    return ""


def _believed(hours: float) -> float | None:
    return hours if _EARLIEST_HOURS < hours < _LATEST_HOURS else None


def group_by_night(frames: Sequence[Taken]) -> list[Group]:
    """Put frames together that were taken with one camera and filter in one night.

    A night ends where the same camera rests for six hours: no time zone has to be known. Frames
    that do not say when they were taken count as one night.
    """
    groups: list[Group] = []
    for sort in dict.fromkeys(item.sort for item in frames):
        for alike in _by_scale([item for item in frames if item.sort == sort]):
            for night in _nights(alike):
                groups.append(Group(_name(night, len(groups) + 1), tuple(i.source for i in night)))
    return groups


def _by_scale(frames: Sequence[Taken]) -> list[list[Taken]]:
    """Part frames whose pixel scales a prior would not take for one; in the order of the first."""
    known = sorted({item.scale_arcsec for item in frames if item.scale_arcsec is not None})
    least: dict[float | None, float | None] = {None: None}
    first = -math.inf
    for scale in known:
        first = scale if scale > first * (1 + _SCALE_TOLERANCE) else first
        least[scale] = first
    alike: dict[float | None, list[Taken]] = {}
    for item in frames:
        alike.setdefault(least[item.scale_arcsec], []).append(item)
    return list(alike.values())


def _nights(frames: Sequence[Taken]) -> list[list[Taken]]:
    nights: list[list[Taken]] = []
    dated = sorted((i for i in frames if i.hours is not None), key=lambda i: i.hours or 0.0)
    last = -math.inf
    for item in dated:
        hours = item.hours or 0.0
        if hours - last > _GAP_HOURS:
            nights.append([])
        nights[-1].append(item)
        last = hours
    undated = [item for item in frames if item.hours is None]
    return [*nights, undated] if undated else nights


def _name(night: Sequence[Taken], number: int) -> str:
    first = night[0]
    date = "undated"
    if first.hours is not None:
        date = datetime.fromtimestamp(first.hours * 3600, UTC).strftime("%Y%m%d")
    words = "".join(c if c.isalnum() else "_" for c in f"{first.instrument}_{first.filter}")
    return f"{number:02d}_{date}_{words.strip('_') or 'camera'}"
