"""What an image extension holds, as its name and its class say, and which science it belongs to."""

import re
from typing import Literal

from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.layouts.chip import FitsView, Place, fits_shape

NOISE_NAMES = (
    "ERR", "ERROR", "SIGMA", "RMS", "STDDEV", "STD", "UNCERT", "UNC", "NOISE", "VAR", "VARIANCE",
    "IVAR", "INVVAR", "IVM", "STAT", "WEIGHT", "WEIGHTS", "WHT", "WGT",
)  # fmt: skip
FLAG_NAMES = (
    "DQ", "MASK", "MSK", "FLAGS", "FLAG", "FLG", "BPM", "QUALITY", "QUAL", "MASKBITS",
)  # fmt: skip
SCIENCE_NAMES = ("SCI", "SCIENCE", "IMAGE", "DATA")

# Images that hold no sky: lookup tables of distortions (Calabretta et al., FITS WCS paper IV),
# counts of exposures, backgrounds that were taken away, pictures to look at, planes of a product.
_NO_SKY = (
    "D2IMARR", "WCSDVARR", "WCSCORR", "DIP_ERR", "DIP_FLAG", "PIXELDQ", "GROUPDQ", "CTX", "CON",
    "BKG", "BACKGROUND", "THUMB", "THUMBNAIL", "EXPMAP", "SAMP", "TIME",
)  # fmt: skip

Sort = Literal["science", "noise", "flags", "no sky", ""]

# ESO-044286, Science Data Products Standard: class of an extension, and who belongs to whom.
_SORT_BY_CLASS: dict[str, Sort] = {"DATA": "science", "ERROR": "noise", "QUALITY": "flags"}


def sort_by_name(name: str) -> Sort:
    """Tell it by the last word of the name (`ERR`, `1-1.E.RMS`, `CCD7_WEIGHT`); "" for others."""
    plain = "VAR" if name.startswith("VAR_") else name
    sorts: tuple[tuple[Sort, tuple[str, ...]], ...] = (
        ("noise", NOISE_NAMES),
        ("flags", FLAG_NAMES),
        ("no sky", _NO_SKY),
        ("science", SCIENCE_NAMES),
    )
    return next((sort for sort, words in sorts if stem_of(plain, words) is not None), "")


def sort_of(hdu: HduSpan) -> Sort:
    """Tell it by the class of the extension (HDUCLAS2), else by its name."""
    return class_of(hdu) or sort_by_name(hdu.name)


def class_of(hdu: HduSpan) -> Sort:
    """Tell it by the class alone; "" where there is none."""
    return _SORT_BY_CLASS.get(_text(hdu, "HDUCLAS2"), "")


def is_companion(hdu: HduSpan) -> bool:
    """Whether an extension is a noise plane, flags, or no sky at all."""
    return sort_of(hdu) in ("noise", "flags", "no sky")


def stem_of(name: str, words: tuple[str, ...]) -> str | None:
    """Give what a name says before one of some words; "" for the word alone; None without any.

    >>> [stem_of(name, ("SCI", "ERR")) for name in ("SCI", "1-1.E.SCI", "CCD7_ERR", "FERR")]
    ['', '1-1.E', 'CCD7', None]
    """
    found = re.fullmatch(rf"(?:(.+)[._ -])?(?:{'|'.join(words)})", name)
    return None if found is None else found.group(1) or ""


def plane_of(view: FitsView, science: HduSpan, sort: Literal["noise", "flags"]) -> Place | None:
    """HDU that holds the noise, or the flags, of a science HDU.

    It is named by the science's card (ERRDATA, QUALDATA), has the science's name and a word
    (`CCD7`, `CCD7_WEIGHT`; `1-1.E.SCI`, `1-1.E.RMS`), or is named by the word alone and of the
    science's version.
    """
    card, words = ("ERRDATA", NOISE_NAMES) if sort == "noise" else ("QUALDATA", FLAG_NAMES)
    alike = [hdu for hdu in view.images() if hdu is not science and fits_shape(hdu, science)]
    named = _text(science, card)
    of_card = [hdu for hdu in alike if named and hdu.name == named]
    if of_card:
        of_version = [hdu for hdu in of_card if hdu.version == science.version]
        return Place((of_version or of_card)[0])
    stem = stem_of(science.name, SCIENCE_NAMES)
    stem = science.name if stem is None else stem
    if stem:
        own = [h for h in alike if h.name.startswith(stem) and h.version == science.version]
        for word in words:
            for hdu in own:
                if stem_of(hdu.name, (word,)) == stem:
                    return Place(hdu)
    return view.beside(science, *words)


def _text(hdu: HduSpan, keyword: str) -> str:
    """Text of a card of the HDU's own header in capitals; "" without."""
    start = f"{keyword:<8}=".encode()
    found = next((raw for raw in hdu.cards if raw.startswith(start)), None)
    return "" if found is None else str(parse_cards([found])[0][1] or "").strip().upper()
