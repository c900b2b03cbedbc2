"""Widths of stars over the field of a frame: whether one PSF can be that of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dip_pipeline.restoration.psf.field_surface import (
    BOWL,
    BY_CHANCE,
    FEWEST,
    PLANE,
    surface_through,
)
from dip_pipeline.restoration.stars.star_shape import FittedStar, Image, Mask

_ALIKE = 0.1  # of ln(FWHM), between stars whose number tells stars from galaxies
_NEAR_COMMON = 0.35  # of ln(FWHM): what is farther from theirs is no star, wherever it lies
_SCATTER = 0.03  # of ln(FWHM), at least


@dataclass(frozen=True, slots=True)
class WidthsOverField:
    """Widths (FWHM) of stars where they are narrowest and widest, by a surface through all.

    stars : how many tell; places are (row, col) of stars, px
    """

    stars: int
    narrowest_px: float
    widest_px: float
    narrowest_at: tuple[int, int]
    widest_at: tuple[int, int]


def widths_over_field(fitted: Sequence[FittedStar]) -> WidthsOverField | None:
    """Fit a plane, and a bowl upon it, to the logarithms of the widths of stars.

    None where too few stars tell, or where one width is that of all of them.
    """
    stars = stars_as_wide(fitted)
    if np.count_nonzero(stars) < FEWEST:
        return None
    widths = np.log([star.shape.fwhm_px for star in fitted])[stars]
    places = np.array([star.at for star in fitted], dtype=np.float64)[stars]
    surfaces = [
        surface_through(widths[:, None], places, terms, scatter=_SCATTER) for terms in (PLANE, BOWL)
    ]
    best = min(surfaces, key=lambda surface: surface.chance)
    if best.chance > BY_CHANCE:
        return None
    on_surface = best.values[:, 0]
    least, most = (int(find(on_surface)) for find in (np.argmin, np.argmax))
    return WidthsOverField(
        stars=len(on_surface),
        narrowest_px=float(np.exp(on_surface[least])),
        widest_px=float(np.exp(on_surface[most])),
        narrowest_at=(int(best.places[least, 0]), int(best.places[least, 1])),
        widest_at=(int(best.places[most, 0]), int(best.places[most, 1])),
    )


def stars_as_wide(fitted: Sequence[FittedStar]) -> Mask:
    """Tell which objects are about as wide as most, wherever they lie, (objects,)."""
    if not fitted:
        return np.zeros(0, dtype=bool)
    widths: Image = np.log([star.shape.fwhm_px for star in fitted])
    groups = np.abs(widths[:, None] - widths) < _ALIKE
    common = np.median(widths[groups[np.argmax(groups.sum(axis=1))]])
    near: Mask = np.abs(widths - common) < _NEAR_COMMON
    return near
