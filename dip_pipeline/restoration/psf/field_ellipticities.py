"""Ellipticities of stars over the field of a frame: whether one PSF can be that of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dip_pipeline.restoration.psf.field_surface import (
    BY_CHANCE,
    FEWEST,
    PLANE,
    QUADRATIC,
    surface_through,
)
from dip_pipeline.restoration.psf.field_widths import stars_as_wide
from dip_pipeline.restoration.stars.star_shape import FittedStar, StarShape

_SCATTER = 0.03  # of an ellipticity, at least
_FOR_QUADRATIC = 16  # stars


@dataclass(frozen=True, slots=True)
class EllipticitiesOverField:
    """Where the ellipticities of stars differ most, by a surface through all.

    stars : how many tell; apart : size of the difference of (a - d, 2 b) / (a + d)
    places : of both, (row, col) of stars, px
    """

    stars: int
    apart: float
    places: tuple[tuple[int, int], tuple[int, int]]


def ellipticities_over_field(fitted: Sequence[FittedStar]) -> EllipticitiesOverField | None:
    """Fit a plane, and a quadratic surface, to the ellipticities of stars.

    None where too few stars tell, or where one ellipticity is that of all of them.
    """
    stars = [star for star, near in zip(fitted, stars_as_wide(fitted), strict=True) if near]
    if len(stars) < FEWEST:
        return None
    said = np.array([_ellipticity(star.shape) for star in stars])
    places = np.array([star.at for star in stars], dtype=np.float64)
    counts = (PLANE, QUADRATIC) if len(stars) >= _FOR_QUADRATIC else (PLANE,)
    surfaces = [surface_through(said, places, terms, scatter=_SCATTER) for terms in counts]
    best = min(surfaces, key=lambda surface: surface.chance)
    if best.chance > BY_CHANCE:
        return None
    apart = np.hypot.reduce(best.values[:, None] - best.values[None], axis=2)
    one, other = (int(index) for index in np.unravel_index(np.argmax(apart), apart.shape))
    ends = [(int(best.places[end, 0]), int(best.places[end, 1])) for end in (one, other)]
    return EllipticitiesOverField(len(best.values), float(apart[one, other]), (ends[0], ends[1]))


def _ellipticity(shape: StarShape) -> tuple[float, float]:
    total = shape.a + shape.d
    return (shape.a - shape.d) / total, 2 * shape.b / total
