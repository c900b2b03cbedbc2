"""Whether a pixel's number is shared among finer pixels, or is the same in each: by BUNIT."""

import re
from enum import StrEnum

from astropy import units

from dip_pipeline.errors import FrameError


class PixelFlux(StrEnum):
    """What the number in a pixel is."""

    PER_PIXEL = "a flux of the whole pixel"  # shared among finer pixels: the total is kept
    BRIGHTNESS = "a brightness"  # the same in finer pixels


# Words of a unit that stand for a solid angle, a beam, or what does not depend on the pixel.
_BRIGHTNESS_WORDS = re.compile(
    r"(?<![a-z])(m?sr|steradians?|ster?|str|(m|u)?arc-?sec(ond)?s?|arc-?min(ute)?s?|mas|uas|"
    r"deg(ree)?s?|rad|sq-?(deg|arc-?sec|arc-?min)|bm|beam|rayleighs?|r|pc|kpc|k|mk|kelvins?|k?m/s|percent|%)(?![a-z])"
)
_ANGLE_TYPES = ("angle", "solid angle", "temperature", "speed", "velocity")
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


def _is_brightness(text: str) -> bool:
    """Whether astropy knows the unit, and it holds an angle, or is one of what has no pixels."""
    try:
        unit = units.Unit(text, parse_strict="silent")
        if isinstance(unit, units.UnrecognizedUnit):
            return False
        bases = {base.name for base in unit.decompose().bases}
        kinds = set(unit.physical_type)
    except (ValueError, TypeError, AttributeError):
        return False
    return bool(bases & {"rad", "beam"}) or bool(kinds & set(_ANGLE_TYPES))
