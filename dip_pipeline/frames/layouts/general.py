"""Layouts without an observatory: CCDData, named extensions, side files, mosaics, one image."""

import re
from typing import Literal

from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.flag_rules import rule_for
from dip_pipeline.frames.layouts.chip import (
    Chip,
    FitsView,
    FlagPlane,
    NoisePlane,
    Place,
    fits_shape,
    flag_plane,
    noise_plane,
    plane_in,
)
from dip_pipeline.frames.layouts.names import (
    FLAG_NAMES,
    NOISE_NAMES,
    SCIENCE_NAMES,
    class_of,
    is_companion,
    plane_of,
    sort_of,
)
from dip_pipeline.frames.noise_form import form_of

# Sorts of companion files, by the end of their names; those of the science may end in _sci, _drz.
_NOISE_ENDINGS = (
    "rms", "err", "error", "sigma", "noise", "unc", "var", "ivar", "invvar", "weight", "wht", "wt",
)  # fmt: skip
_FLAG_ENDINGS = ("mask", "dq", "mskimg", "msk", "flags", "bpm")
_SORTS: tuple[Literal["noise", "flags"], ...] = ("noise", "flags")
_SCIENCE_ENDING = re.compile(r"(?:[._-](?:sci|drz|drc|image|img|sciimg))$", re.IGNORECASE)


class CcdData:
    """Primary image with UNCERT (its form by UTYPE) and MASK, as astropy's CCDData writes them."""

    name = "CCDData"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read the primary image."""
        primary = view.hdus[0]
        if not primary.has_pixels or not view.images("UNCERT", "MASK"):
            return ()
        science = view.science[0] if view.science else primary
        rule = rule_for("", view.bad_bits)
        mask = view.beside(science, "MASK")
        return (Chip(science, _noise(view, science), flag_plane(rule, mask)),)


class NamedExtensions:
    """Science, noise and flags told by the names of extensions; several versions, several chips."""

    name = "named extensions"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Every version of SCI, else of another name or class that says science."""
        science = view.chosen(SCIENCE_NAMES) or _said_to_be_science(view)
        if not science and view.images(*NOISE_NAMES, *FLAG_NAMES) and view.hdus[0].has_pixels:
            science = [view.hdus[0]]
        rule = rule_for("", view.bad_bits)
        chips = tuple(
            Chip(hdu, _noise(view, hdu), flag_plane(rule, _flags(view, hdu))) for hdu in science
        )
        # One image alone may still have files beside it.
        alone = len(chips) == 1 and chips[0].noise is None and chips[0].flags is None
        return () if alone else chips


class SideFiles:
    """Images whose noise and masks are files beside theirs: NAME_rms, NAME.weight, NAME_mask.

    Of several chips each takes the one of its name, or place, in the other file.
    """

    name = "image with files beside it"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read the one image of the file, or all chips of a mosaic."""
        images = [hdu for hdu in view.images() if not is_companion(hdu)]
        named = view.chosen(SCIENCE_NAMES)
        if len(named) != 1 and len(images) != 1:
            named = _chips_of_mosaic(view)
        sciences = named or images[:1]
        alone = len(sciences) == 1
        chips = [
            Chip(
                science,
                self._noise(view, science, alone=alone),
                self._flags(view, science, alone=alone),
            )
            for science in sciences
        ]
        return tuple(chips) if any(chip.noise or chip.flags for chip in chips) else ()

    @staticmethod
    def _noise(view: FitsView, science: HduSpan, *, alone: bool) -> NoisePlane | None:
        for ending in _NOISE_ENDINGS:
            for other in _siblings(view, ending):
                place = _plane_beside(other, science, NOISE_NAMES, alone=alone)
                if place is not None:
                    own = place.hdu.name if place.hdu.name in NOISE_NAMES else ending
                    headers = other.header(place.hdu), view.header(science)
                    units = (str(cards.get("BUNIT") or "") for cards in headers)
                    form = form_of(own, headers[0], *units, file_name=other.path.name)
                    return noise_plane(form, place)
        return None

    @staticmethod
    def _flags(view: FitsView, science: HduSpan, *, alone: bool) -> FlagPlane | None:
        ztf = "ztf" in view.path.name.lower() or view.text("ORIGIN").startswith("ZWICKY")
        for ending in _FLAG_ENDINGS:
            for other in _siblings(view, ending):
                place = _plane_beside(other, science, FLAG_NAMES, alone=alone)
                if place is not None:
                    return flag_plane(rule_for("ZTF" if ztf else "", view.bad_bits), place)
        return None


def _plane_beside(
    other: FitsView, science: HduSpan, words: tuple[str, ...], *, alone: bool
) -> Place | None:
    """Find a plane in a file beside an image's: the one of such a name, where there are others."""
    named = [hdu for hdu in other.images(*words) if alone and fits_shape(hdu, science)]
    return Place(named[0], other.path) if named else plane_in(other, science, alone=alone)


class Mosaic:
    """Several images that are chips or amplifiers of one exposure: each is restored."""

    name = "multi-extension mosaic"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Every image extension, in the order of the file."""
        return tuple(Chip(hdu) for hdu in _chips_of_mosaic(view))


class Plain:
    """One image, and nothing that belongs to it."""

    name = "plain image"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read the image that is named so, else the first; or all that were chosen."""
        chosen = view.chosen(SCIENCE_NAMES)
        images = [hdu for hdu in view.images() if not is_companion(hdu)]
        return tuple(Chip(hdu) for hdu in chosen or images[:1])


def _chips_of_mosaic(view: FitsView) -> list[HduSpan]:
    """Image extensions of a file that has several, and none that is named as the science."""
    images = [
        hdu
        for hdu in view.images()
        if hdu.index > 0 and not is_companion(hdu) and len(hdu.plane_shape) > 1
    ]
    if view.chosen(SCIENCE_NAMES) or view.hdus[0].has_pixels or len(images) < 2:
        return []
    # Whole numbers beside as many real ones are flags, or counts of something, whatever their name.
    real = [hdu for hdu in images if hdu.bitpix < 0]
    return real if len(images) <= 2 * len(real) else images


def _said_to_be_science(view: FitsView) -> list[HduSpan]:
    """Images that a class or the end of a name says are science, or that have planes of their own.

    Chips with a noise plane or flags each: `CCD1`, `CCD1_WEIGHT`, `CCD2`, ...; or one image of any
    name or none, with `ERR` or `DQ` beside it.
    """
    images = [hdu for hdu in view.images() if not is_companion(hdu)]
    if view.hdus[0].has_pixels:  # that is the science, whatever lies beside it
        return [hdu for hdu in images if hdu.index > 0 and class_of(hdu) == "science"]
    said = [hdu for hdu in images if sort_of(hdu) == "science"]
    paired = any(
        hdu.name and _is_own(plane_of(view, hdu, sort), hdu) for hdu in images for sort in _SORTS
    )
    if said or paired:
        return said or images
    # The only image, whatever its name, has the planes that are of its size.
    alone = len(images) == 1 and any(plane_of(view, images[0], sort) for sort in _SORTS)
    return images if alone else []


def _is_own(place: Place | None, science: HduSpan) -> bool:
    return place is not None and place.hdu.name.startswith(science.name)


def _noise(view: FitsView, science: HduSpan) -> NoisePlane | None:
    place = plane_of(view, science, "noise")
    if place is None:
        return None
    header, of_science = view.header(place.hdu), view.header(science)
    unit, science_unit = (str(cards.get("BUNIT") or "") for cards in (header, of_science))
    return noise_plane(form_of(place.hdu.name, header, unit, science_unit), place)


def _flags(view: FitsView, science: HduSpan) -> Place | None:
    """Find the flags of a science HDU; not those of which ESO says MASKZERO or MASKONE."""
    place = plane_of(view, science, "flags")
    if place is None or str(view.header(place.hdu).get("HDUCLAS3", "")).startswith("MASK"):
        return None
    return place


def companion_names(name: str) -> set[str]:
    """Names that files of noise and flags beside an image of this name may have.

    >>> sorted(companion_names("m31.fits") & {"m31_rms.fits", "m31.mask.fits", "m31_sci.fits"})
    ['m31.mask.fits', 'm31_rms.fits']
    """
    endings = (*_NOISE_ENDINGS, *_FLAG_ENDINGS)
    return {other for ending in endings for other in _names_beside(name, ending)} - {name}


def _siblings(view: FitsView, ending: str) -> list[FitsView]:
    """Files beside this one whose name says that they belong to it."""
    views = [view.sibling(other) for other in _names_beside(view.path.name, ending)]
    return [other for other in views if other is not None]


def _names_beside(name: str, ending: str) -> list[str]:
    """Names that a file of some sort may have beside an image of this name, likely ones first."""
    found = re.match(r"(.+?)((?:\.(?:fits?|fts))?(?:\.(?:fz|gz|bz2|xz))?)$", name, re.IGNORECASE)
    stem, suffix = found.groups() if found else (name, "")
    bare = _SCIENCE_ENDING.sub("", stem)
    names = [f"{part}{mark}{ending}{suffix}" for part in (bare, stem) for mark in "_.-"]
    # Bricks of the Legacy Surveys, exposures and atlases of WISE.
    names += [name.replace(ours, f"-{ending}-") for ours in ("-image-", "-int-") if ours in name]
    names += [
        other.removesuffix(".gz") if suffix.endswith(".gz") else f"{other}.gz" for other in names
    ]
    return list(dict.fromkeys(names))
