"""Files that hold no sky: masks, weights, noise maps, PSFs, tables; what they are, in words."""

import re

from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.layouts.chip import FitsView
from dip_pipeline.frames.layouts.names import SCIENCE_NAMES, is_companion, sort_of

_HOW_TO_USE = {"mask": "--dq", "noise": "--err"}

# What the end of a file's name, before its suffixes, says of its content.
_BY_NAME = (
    (r"_ood_|[._-](?:mask|dqmask|mskimg|dq|bpm|flags|maskbits)$", "a mask", "mask"),
    (r"_oow_|-invvar-|[._-](?:weight|wht|wtmap|ivar|invvar)$", "a weight map", "noise"),
    (r"[._-](?:rms|err|error|sigma|noise|var|variance)$", "a noise map", "noise"),
    (r"(?:^|[._-])(?:webb|st|e|model)?psf$|[._-]psf[._-]", "a point-spread function", ""),
)
_BY_PRODUCT = {"DQMASK": ("a mask", "mask"), "WTMAP": ("a weight map", "noise")}
_SORTS = {"flags": "mask", "noise": "noise"}
_CLASSES = {"ERROR": ("a noise map", "noise"), "QUALITY": ("a mask", "mask")}


def refusal(view: FitsView) -> str | None:
    """Say what a file is that holds no image of the sky; None where it holds one."""
    images = view.images()
    sky = [hdu for hdu in images if not is_companion(hdu)]
    if images and not sky:
        names = ", ".join(hdu.where for hdu in images[:8])
        use = _SORTS.get(sort_of(images[0]), "")
        return f"it holds only {names}, no science image{_use(use)}"
    if not sky or any(hdu.name in SCIENCE_NAMES for hdu in sky):
        return None
    sort = (_by_cards(view, sky[0]) if len(sky) == 1 else None) or _by_file_name(view.path.name)
    return None if sort is None else sort[0] + _use(sort[1])


def _by_cards(view: FitsView, hdu: HduSpan) -> tuple[str, str] | None:
    header = view.header(hdu)
    if hdu.name.startswith("PSF") or ("OVERSAMP" in header and "PIXELSCL" in header):
        return "a point-spread function", ""
    if "BSOFTEN" in header and "BOFFSET" in header:
        return "a stack whose pixels are the asinh of flux (BSOFTEN); undo that first", ""
    by_class = _CLASSES.get(str(header.get("HDUCLAS2") or "").strip().upper())
    return by_class or _BY_PRODUCT.get(str(header.get("PRODTYPE") or "").strip().upper())


def _by_file_name(name: str) -> tuple[str, str] | None:
    stem = re.sub(r"(?:\.(?:fits?|fts))?(?:\.(?:fz|gz|bz2|xz))?$", "", name, flags=re.IGNORECASE)
    for pattern, words, use in _BY_NAME:
        if re.search(pattern, stem, re.IGNORECASE):
            return f"{words}, by its name", use
    return None


def _use(use: str) -> str:
    option = _HOW_TO_USE.get(use)
    advice = "" if option is None else f"; give it beside its image, with {option}"
    return f"{advice}; select it with FILE[n] to restore it all the same"
