"""Where a telescope pointed, by cards that tell it beside, or instead of, world coordinates."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from dip_pipeline.frames.camera import pixel_side_arcsec
from dip_pipeline.quiet_warnings import ignored_warnings

# Of the telescope, or of what it was to look at. The first pair that can be read counts.
_CARDS = (
    ("RA", "DEC"),
    ("TELRA", "TELDEC"),
    ("OBJCTRA", "OBJCTDEC"),
    ("RA_PNT", "DEC_PNT"),
    ("RA_TARG", "DEC_TARG"),
    ("RA_OBJ", "DEC_OBJ"),
    ("TARGRA", "TARGDEC"),
    ("OBJRA", "OBJDEC"),
)
_ARCSEC_OF_UM_PER_MM = math.degrees(3.6)
_DEG_OF_HOUR = 15.0
_MOST_HOURS = 24.0
# What comments call the unit of a number, the first that is found; its degrees.
_UNITS = tuple(
    (re.compile(words, re.IGNORECASE), degrees)
    for words, degrees in (
        (r"\bdeg(?:ree)?s?\b|\[d\]|\(d\)", 1.0),
        (r"\brad(?:ian)?s?\b", math.degrees(1.0)),
        (r"\b(?:hours?|hrs?|hourangle|hh?\.h+|hh?:mm?:ss?)\b|\[h\]|\(h\)", _DEG_OF_HOUR),
    )
)


class CardPointing(NamedTuple):
    """Where cards say that a telescope looked, degrees.

    may_be_hours : whether the longitude is a bare number, whose unit nothing tells: where it is
        hours the place is at 15 times that longitude
    """

    longitude_deg: float
    latitude_deg: float
    may_be_hours: bool = False


def pointing_by_cards(
    cards: Mapping[str, object], comments: Mapping[str, str] | None = None
) -> CardPointing | None:
    """Right ascension and declination, of whichever equinox; None where no card says.

    comments : of cards, by their keywords: in them the unit of a number may stand
    Of text with minutes a right ascension is hours; a number is degrees where its comment says
    nothing else. One that may be hours counts only where no other pair of cards is sure. What no
    place is, or the origin, which stands for not known, is passed over.
    """
    told = comments or {}
    found = [place for names in _CARDS if (place := _place(names, cards, told)) is not None]
    sure = [place for place in found if not (place.may_be_hours and _fits_hours(place))]
    return (*sure, *found)[0] if found else None


def _fits_hours(place: CardPointing) -> bool:
    return place.longitude_deg <= _MOST_HOURS


def _place(
    names: tuple[str, str], cards: Mapping[str, object], comments: Mapping[str, str]
) -> CardPointing | None:
    """Place of one pair of cards."""
    values = [cards.get(name) for name in names]
    longitude, latitude = _degrees(values[0], "hourangle"), _degrees(values[1], "deg")
    if longitude is None or latitude is None or (longitude == 0 and latitude == 0):
        return None
    units = [_unit_in(comments.get(name, "")) for name in names]
    may_be_hours = False
    if _is_number(values[0]):
        in_hours = units[0] == _DEG_OF_HOUR
        if in_hours and not 0 <= longitude <= _MOST_HOURS:
            units[0] = None  # a comment of the time when the card was text, say
        longitude *= units[0] or 1.0
        may_be_hours = units[0] is None
    if _is_number(values[1]) and units[1] not in (None, _DEG_OF_HOUR):
        latitude *= units[1] or 1.0
    if -180 <= longitude <= 360 and abs(latitude) <= 90:
        return CardPointing(longitude % 360, latitude, may_be_hours)
    return None


def _unit_in(comment: str) -> float | None:
    """Degrees of the unit that a comment names; None where it names none.

    >>> [_unit_in(words) for words in ("[deg] RA of the telescope", "RA, decimal hours", "RA")]
    [1.0, 15.0, None]
    """
    return next((degrees for words, degrees in _UNITS if words.search(comment)), None)


def _is_number(value: object) -> bool:
    """Whether a value that gave an angle is a number, or a text of one without minutes."""
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def side_by_cards_arcsec(cards: Mapping[str, object]) -> float | None:
    """Side of a pixel, as cards tell it, or focal length (mm) and width of a pixel (um) do."""
    told = pixel_side_arcsec(cards)
    width_um, focal_mm = (_degrees(cards.get(name), "deg") for name in ("XPIXSZ", "FOCALLEN"))
    if told is not None or not width_um or not focal_mm:
        return told
    return abs(_ARCSEC_OF_UM_PER_MM * width_um / focal_mm)


def _degrees(value: object, unit: str) -> float | None:
    """Degrees of a number, or of a text, with minutes of this unit; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return _of_text(str(value), unit)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _of_text(text: str, unit: str) -> float | None:
    from astropy.coordinates import Angle  # slow to load, and few commands need it

    with ignored_warnings():  # of 24 hours, and of 60 seconds
        try:
            number = float(Angle(text, unit=unit).deg)
        except (ValueError, TypeError):  # astropy's own are ones
            return None
    return number if math.isfinite(number) else None
