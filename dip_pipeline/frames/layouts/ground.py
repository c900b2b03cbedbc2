"""Cameras on the ground: Rubin/LSST, the Community Pipeline of DECam, Gemini, MUSE."""

import re

from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.flag_rules import FlagRule, rule_for, rule_of_planes
from dip_pipeline.frames.layouts.chip import (
    Chip,
    FitsView,
    Place,
    flag_plane,
    noise_plane,
    plane_in,
)
from dip_pipeline.frames.noise_form import NoiseForm


class Lsst:
    """Image, mask and variance, in this order or by name; MP_ cards give the index of each bit."""

    name = "LSST"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read the one image."""
        images = view.images()
        masks = [hdu for hdu in images if _mask_planes(view, hdu)]
        if len(masks) != 1:
            return ()
        mask = masks[0]
        alike = [hdu for hdu in images if hdu is not mask and hdu.plane_shape == mask.plane_shape]
        named = {hdu.name: hdu for hdu in alike}
        science = (view.chosen(["IMAGE"]) or alike[:1])[:1]
        if not science:
            return ()
        variance = named.get("VARIANCE", alike[-1] if len(alike) > 1 else None)
        rule = rule_of_planes(_mask_planes(view, mask), view.bad_bits)
        place = None if variance is None or variance is science[0] else Place(variance)
        return (
            Chip(
                science[0],
                noise_plane(NoiseForm.VARIANCE, place),
                flag_plane(rule, Place(mask)),
            ),
        )


def _mask_planes(view: FitsView, hdu: HduSpan) -> dict[str, int]:
    """Bit index of every mask plane by name; written as MP_NAME or HIERARCH MP_NAME."""
    return {
        keyword[3:]: value
        for keyword, value in view.header(hdu).items()
        if keyword.startswith("MP_")
        and isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value < 64
    }


class DecamPipeline:
    """Image (ooi), data quality (ood) and weight (oow) in three files, one extension a CCD.

    Until version 3.5 of the pipeline the quality holds bits, then codes.
    """

    name = "DECam Community Pipeline"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Every CCD of an ooi file."""
        if "_ooi_" not in view.path.name or not view.text("PLVER"):
            return ()
        quality, weight = (view.sibling(name) for name in self.beside(view.path.name))
        rule = self.rule(view)
        return tuple(
            Chip(
                science,
                noise_plane(NoiseForm.INVERSE_VARIANCE, plane_in(weight, science)),
                flag_plane(rule, plane_in(quality, science)),
            )
            for science in (view.science or view.images())
        )

    @staticmethod
    def beside(name: str) -> tuple[str, str]:
        """Names of the quality and of the weight of an image."""
        return name.replace("_ooi_", "_ood_"), name.replace("_ooi_", "_oow_")

    @staticmethod
    def rule(view: FitsView) -> FlagRule:
        """Codes or bits, by the version of the pipeline."""
        found = re.search(r"(\d+)\.(\d+)", view.text("PLVER"))
        version = (0, 0) if found is None else (int(found.group(1)), int(found.group(2)))
        return rule_for("DECAM" if version >= (3, 5) else "DECAM_BITS", view.bad_bits)


class Gemini:
    """SCI, VAR, DQ, a version a chip or an amplifier."""

    name = "Gemini"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """SCI of every version."""
        if "GEMINI" not in f"{view.text('TELESCOP')} {view.text('OBSERVAT')}":
            return ()
        rule = rule_for("GEMINI", view.bad_bits)
        return tuple(
            Chip(
                science,
                noise_plane(NoiseForm.VARIANCE, view.beside(science, "VAR")),
                flag_plane(rule, view.beside(science, "DQ")),
            )
            for science in view.chosen(["SCI"])
        )


class Muse:
    """DATA, STAT (a variance), DQ: images and cubes of MUSE and of other ESO spectrographs."""

    name = "MUSE"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read DATA of every version."""
        if not (view.images("DATA") and view.images("STAT", "DQ")):
            return ()
        rule = rule_for("MUSE" if view.text("INSTRUME") == "MUSE" else "", view.bad_bits)
        return tuple(
            Chip(
                science,
                noise_plane(NoiseForm.VARIANCE, view.beside(science, "STAT")),
                flag_plane(rule, view.beside(science, "DQ")),
            )
            for science in view.chosen(["DATA"])
        )
