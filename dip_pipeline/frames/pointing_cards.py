"""Where a telescope pointed, by cards that tell it beside, or instead of, world coordinates."""

import math
import warnings
from collections.abc import Mapping

from dip_pipeline.frames.camera import pixel_side_arcsec

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


def pointing_by_cards(cards: Mapping[str, object]) -> tuple[float, float] | None:
    """Right ascension and declination, degrees, of whichever equinox; None where no card says.

    Numbers are degrees; of text with minutes a right ascension is hours. What no place is, or the
    origin, which stands for not known, is passed over.
    """
    for names in _CARDS:
        longitude = _degrees(cards.get(names[0]), "hourangle")
        latitude = _degrees(cards.get(names[1]), "deg")
        if longitude is None or latitude is None or (longitude == 0 and latitude == 0):
            continue
        if -180 <= longitude <= 360 and abs(latitude) <= 90:
            return longitude % 360, latitude
    return None


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

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 24 hours, and of 60 seconds
        try:
            number = float(Angle(text, unit=unit).deg)
        except (ValueError, TypeError):  # astropy's own are ones
            return None
    return number if math.isfinite(number) else None
