"""Further exposures as they were registered, and how sharp each is beside the others."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dip_pipeline.exposures.skies import SkyDifference
from dip_pipeline.frames import Frame
from dip_pipeline.preparing.cutting import ExposureSource
from dip_pipeline.registration import (
    FWHM_OF_SIGMA,
    Mixture,
    Registered,
    Seen,
    StarRings,
    mixture_between,
    star_rings,
)

log = logging.getLogger(__name__)

_MOST_WIDER = 1.7  # stars, than those of the sharpest exposure
_FIRST_WIDER = 1.15  # from where on another should be given first


@dataclass(frozen=True, slots=True)
class Registration:
    """One further exposure: how to cut it, and how it compares with the reference."""

    source: ExposureSource
    found: Registered
    facts: dict[str, object]
    sky: SkyDifference

    @property
    def words(self) -> str:
        """Tell it in one line."""
        found = self.found
        row, col = found.geometry.shift_px
        return (
            f"{self.source.frame.path.name}: at {row:+.2f} rows, {col:+.2f} columns ({found.how}); "
            f"light {self.source.flux_scale:.4g} ({found.how_flux}){found.seeing_words}"
            f"{self.sky.words(self.source.frame.unit)}"
        )


def with_seeing(
    reference: Seen, found: Sequence[Registration]
) -> tuple[Mixture, list[Registration]]:
    """Measure what lies between the stars of the sharpest and all others; first the reference's.

    () where it is one Gaussian, or nothing.
    """
    stars = np.arange(len(reference.stars))
    rings: list[StarRings | None] = [
        star_rings(reference, stars, stars, reference.stars.width_px, 1.0)
    ]
    rings += [each.found.rings for each in found]
    wider = [0.0, *(each.source.wider_px2 for each in found)]
    # Of all pixels of a star, not of one: larger pixels are fewer.
    fluxes = [1.0, *(each.found.flux_scale / each.found.geometry.scale**2 for each in found)]
    first = int(np.argmin(wider))
    sharpest = rings[first]
    mixtures = [
        mixture_between(sharpest, own, flux / fluxes[first])
        if sharpest is not None and own is not None and px2 > wider[first]
        else ()
        for own, px2, flux in zip(rings, wider, fluxes, strict=True)
    ]
    told = [
        replace(
            each,
            source=replace(each.source, seeing=mixture),
            facts={**each.facts, "seeing": [list(pair) for pair in mixture]},
        )
        for each, mixture in zip(found, mixtures[1:], strict=True)
    ]
    return mixtures[0], told


def warn_of_seeing(
    reference: Frame, found: Sequence[Registration], sharpest_fwhm_px: float
) -> None:
    """Say which exposures are much wider than the sharpest: alone they cannot be made as sharp."""
    spread = [(reference.path, 0.0)]
    spread += [(each.source.frame.path, each.source.wider_px2) for each in found]
    least = min(wider_px2 for _, wider_px2 in spread)
    for path, wider_px2 in spread:
        fwhm_px = np.hypot(sharpest_fwhm_px, FWHM_OF_SIGMA * np.sqrt(wider_px2 - least))
        if fwhm_px > _MOST_WIDER * sharpest_fwhm_px:
            log.warning(
                "%s: its stars are %.1f times as wide as those of the sharpest exposure; where "
                "that does not reach, their light is off by some percent; leave it out, or combine "
                "it with others of its seeing",
                path,
                fwhm_px / sharpest_fwhm_px,
            )


def better_first(found: Sequence[Registration], sharpest_fwhm_px: float) -> str:
    """Say which exposure should be given first, where one is sharper; else "".

    The scene has the pixels of the first: the finest of another falls between them.
    """
    sharpest = min(found, key=lambda each: each.source.wider_px2)
    by_px2 = -sharpest.source.wider_px2
    ratio = np.hypot(sharpest_fwhm_px, FWHM_OF_SIGMA * np.sqrt(max(by_px2, 0.0))) / sharpest_fwhm_px
    if ratio < _FIRST_WIDER:
        return ""
    return (
        f"its stars are {ratio:.1f} times as wide as those of {sharpest.source.frame.path.name}: "
        "give that one first, and the result has its pixels, which hold the sharpest light whole"
    )
