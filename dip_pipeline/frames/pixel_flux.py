"""Whether a pixel's number is shared among finer pixels, or is the same in each: by BUNIT."""

import re
from enum import StrEnum

from astropy import units

from dip_pipeline.errors import FrameError
from dip_pipeline.quiet_warnings import ignored_warnings


class PixelFlux(StrEnum):
    """What the number in a pixel is."""

    PER_PIXEL = "a flux of the whole pixel"  # shared among finer pixels: the total is kept
    BRIGHTNESS = "a brightness"  # the same in finer pixels


# Words of a unit that stand for a solid angle, a beam, or what does not depend on the pixel.
_BRIGHTNESS_WORDS = re.compile(
    r"(?<![a-z])(m?sr|steradians?|ster?|str|(m|u)?arc-?sec(ond)?s?|arc-?min(ute)?s?|mas|uas|"
    r"deg(ree)?s?|rad|sq-?(deg|arc-?sec|arc-?min)|bm|beam|rayleighs?|r|pc|kpc|"
    r"(n|u|mu|\N{MICRO SIGN}|\N{GREEK SMALL LETTER MU}|m)?k(elvins?)?|k?m/s|"
    r"percent|%|tau|ratios?|fractions?|optical depth|column density|index)(?![a-z])"
)
_NO_PIXEL_TYPES = (
    "angle", "solid angle", "temperature", "speed", "velocity", "column density",
    "surface mass density",
)  # fmt: skip
# Words that astropy does not know, of what a detector or a catalogue counts in a pixel.
_PIXEL_WORDS = re.compile(
    r"(?<![a-z])(counts?|cts?|cps|adus?|dn|e-?|electrons?|photo-?(n|electron)s?|"
    r"(nano|micro|milli)?magg(y|ies)|ergs?|(m|u|micro)?jy|flux|data numbers?)(?![a-z])"
)
_MAGNITUDES = re.compile(
    r"(?<![a-z])(ab|st|m_?(ab|st)|m|bol)?mag(nitude)?s?(?![a-z])|(?<![a-z])d(ex|b)(?![a-z])"
)


def pixel_flux(unit: str) -> PixelFlux:
    """Sort a unit as written in BUNIT; raises FrameError for a logarithm of light.

    No unit counts as data numbers of a pixel.

    >>> [pixel_flux(unit).name for unit in ("adu", "MJy/sr", "nanomaggy", "Jy/beam", "")]
    ['PER_PIXEL', 'BRIGHTNESS', 'PER_PIXEL', 'BRIGHTNESS', 'PER_PIXEL']
    >>> {pixel_flux(unit).name for unit in ("MJy/sqdeg", "mJy/bm", "MJY/STER", "MJy/str")}
    {'BRIGHTNESS'}
    """
    text = " ".join(unit.strip().split())
    lower = text.lower()
    if _MAGNITUDES.search(lower):
        raise FrameError(
            f"BUNIT {text!r}: a logarithm has no mean over pixels that is the light's; convert the "
            "image to a linear flux"
        )
    brightness = _is_brightness(text) or _BRIGHTNESS_WORDS.search(lower) is not None
    return PixelFlux.BRIGHTNESS if brightness else PixelFlux.PER_PIXEL


def is_guess(unit: str) -> bool:
    """Whether a unit is sorted as a flux of the pixel for want of knowing better.

    >>> [is_guess(unit) for unit in ("adu", "MJy/sr", "DN/S", "e-/s", "", "furlong/fortnight")]
    [False, False, False, False, False, True]
    """
    text = " ".join(unit.strip().split())
    if not text or _PIXEL_WORDS.search(text.lower()):
        return False
    if pixel_flux(unit) is PixelFlux.BRIGHTNESS:
        return False
    return isinstance(_parsed(text), units.UnrecognizedUnit | None)


def _is_brightness(text: str) -> bool:
    """Whether astropy knows the unit, and it holds an angle, or is one of what has no pixels."""
    unit = _parsed(text)
    if unit is None or isinstance(unit, units.UnrecognizedUnit):
        return False
    try:
        bases = {base.name for base in unit.decompose().bases}
        kinds = set(unit.physical_type)
    except (ValueError, TypeError, AttributeError):
        return False
    return bool(bases & {"rad", "beam"}) or bool(kinds & set(_NO_PIXEL_TYPES))


def _parsed(text: str) -> units.UnitBase | None:
    """Read a unit as astropy does; None where it cannot."""
    with ignored_warnings():  # of a style that the standard does not like
        try:
            return units.Unit(text, parse_strict="silent")
        except (ValueError, TypeError, AttributeError):
            return None
