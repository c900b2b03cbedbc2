"""What a frame was taken with, as far as its header says: filter, camera, pixel scale."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# The first group with an answer counts. Filters in series are one filter together; numbers are
# places in a wheel.
_FILTER_CARDS = (
    ("FILTER", "PUPIL"),
    ("FILTNAM1", "FILTNAM2"),
    ("FILTER1", "FILTER2", "FILTER3"),
)
_NO_FILTER = ("clear", "open", "empty", "none", "n/a")
_KIND_CARDS = ("IMAGETYP", "OBSTYPE", "OBSTYP", "IMGTYPE", "ESO DPR TYPE")
_NO_SKY = re.compile(
    r"(?:bias|zero|dark|(?:dome|lamp|sky|twi|twilight|super)?flat(?:field)?|lamp|arc|comp|comparison)"
)
_OF_NO_SKY = ("master", "dome", "sky", "twilight", "super", "internal", "field", "frame", "image")
_CELESTIAL = ("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT")
# Arcseconds a pixel, for one card both axes, for two each one.
_SIDE_CARDS = (
    ("PIXELSCL",),
    ("PIXSCALE",),
    ("PIXSCAL1", "PIXSCAL2"),
    ("SECPIX",),
    ("SECPIX1", "SECPIX2"),
)
# As AIPS leaves it, in degrees, and CASA and others after it, where a map has no cards of it.
_CLEAN_BEAM = re.compile(r"\bBMAJ\s*=\s*([-+.\dED]+)\s+BMIN\s*=\s*([-+.\dED]+)", re.IGNORECASE)
_ARCSEC = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "rad": math.degrees(3600.0)}


@dataclass(frozen=True, slots=True)
class Camera:
    """What a frame was taken with; None where nothing says."""

    filter: str | None
    instrument: str | None
    pixel_scale_arcsec: float | None


def camera_of(header: Mapping[str, object]) -> Camera:
    """Read filter, instrument, and the scale of a pixel from the cards of a header, by keyword."""
    return Camera(_filter(header), _text(header.get("INSTRUME")), _pixel_scale(header))


def pixel_side_arcsec(header: Mapping[str, object]) -> float | None:
    """Side of a pixel by world coordinates, or by cards that tell it; None where nothing does.

    Cards may be of the camera's pixels where those of an image are binned: enough to warn by, not
    to refuse.

    >>> pixel_side_arcsec({"SECPIX1": -0.5, "SECPIX2": 0.5})
    0.5
    """
    by_coordinates = _pixel_scale(header)
    if by_coordinates is not None:
        return by_coordinates
    for keywords in _SIDE_CARDS:
        area = math.prod(abs(_number(header, keyword, math.nan)) for keyword in keywords)
        if math.isfinite(area) and area > 0:
            return float(area ** (1 / len(keywords)))
    return None


def beam_px(header: Mapping[str, object], history: Iterable[str] = ()) -> float | None:
    """Width of the beam of a radio map at half its height, in pixels; None where nothing says.

    BMAJ and BMIN are in degrees, as AIPS and CASA write them; their geometric mean counts.
    history : texts of HISTORY, of which the last that tells the beam of a CLEAN counts where no
        card does: later steps are further down

    >>> beam_px(
    ...     {
    ...         "BMAJ": 0.004,
    ...         "BMIN": 0.001,
    ...         "CTYPE1": "RA---SIN",
    ...         "CTYPE2": "DEC--SIN",
    ...         "CDELT1": -0.0005,
    ...         "CDELT2": 0.0005,
    ...     }
    ... )
    4.0
    """
    side = _pixel_scale(header)
    major = _number(header, "BMAJ", math.nan)
    minor = _number(header, "BMIN", major)
    if not (major > 0 and minor > 0):
        major, minor = _clean_beam(history)
    if not side or not (major > 0 and minor > 0):
        return None
    return round(math.sqrt(major * minor) * _ARCSEC["deg"] / side, 6)


def _clean_beam(history: Iterable[str]) -> tuple[float, float]:
    """Axes of the last beam in a history, degrees; NaN where there is none."""
    found = [match.groups() for line in history if (match := _CLEAN_BEAM.search(line))]
    for major, minor in reversed(found):
        try:
            return float(major.upper().replace("D", "E")), float(minor.upper().replace("D", "E"))
        except ValueError:
            continue
    return math.nan, math.nan


def calibration_kind(header: Mapping[str, object]) -> str | None:
    """Tell what a header calls a frame that shows no sky (`Bias Frame`, `dome flat`); else None.

    >>> [calibration_kind({"IMAGETYP": kind}) for kind in ("Light Frame", "Dark Frame")]
    [None, 'Dark Frame']
    """
    kinds = (_text(header.get(keyword)) for keyword in _KIND_CARDS)
    return next((kind for kind in kinds if kind and _shows_no_sky(kind)), None)


def _shows_no_sky(kind: str) -> bool:
    """Whether all words name calibration: `dark subtracted` does not, nor does `zeropoint`."""
    words = [word for word in re.findall("[a-z]+", kind.casefold()) if word not in _OF_NO_SKY]
    return bool(words) and all(_NO_SKY.fullmatch(word) for word in words)


def _filter(header: Mapping[str, object]) -> str | None:
    for keywords in _FILTER_CARDS:
        names = [name for keyword in keywords if (name := _text(header.get(keyword)))]
        glass = [name for name in names if not name.lower().startswith(_NO_FILTER)]
        if names:
            return " + ".join(glass) or names[0]
    return None


def _pixel_scale(header: Mapping[str, object]) -> float | None:
    """Square root of the area of a pixel at the reference point, distortions left out.

    Greisen & Calabretta 2002, A&A 395, 1061: CDi_j outranks PCi_j with CDELTi; a rotation by
    CROTA2 keeps the area.
    """
    kinds = [str(header.get(f"CTYPE{axis}", "")).upper() for axis in (1, 2)]
    units = [str(header.get(f"CUNIT{axis}", "deg")).strip().lower() or "deg" for axis in (1, 2)]
    if not all(kind.startswith(_CELESTIAL) for kind in kinds):
        return None
    if not all(unit in _ARCSEC for unit in units):
        return None
    with_cd = any(f"CD{row}_{col}" in header for row in (1, 2) for col in (1, 2))
    steps = [1.0, 1.0] if with_cd else [_number(header, f"CDELT{axis}", 1.0) for axis in (1, 2)]
    name = "CD" if with_cd else "PC"
    (a, b), (c, d) = (
        [_number(header, f"{name}{row}_{col}", float(row == col and not with_cd)) for col in (1, 2)]
        for row in (1, 2)
    )
    area = abs((a * d - b * c) * steps[0] * steps[1]) * _ARCSEC[units[0]] * _ARCSEC[units[1]]
    return math.sqrt(area) if math.isfinite(area) and area > 0 else None


def _number(header: Mapping[str, object], keyword: str, default: float) -> float:
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _text(value: object) -> str | None:
    """Text of a card, spaces made single; None where it is empty, or not text."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text or None
