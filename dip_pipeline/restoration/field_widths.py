"""Widths of stars over the field of a frame: whether one PSF can be that of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from dip_pipeline.restoration.star_shape import FittedStar, Image

_ALIKE = 0.1  # of ln(FWHM), between stars whose number tells stars from galaxies
_NEAR_COMMON = 0.35  # of ln(FWHM): what is farther from theirs is no star, wherever it lies
_FEWEST = 9  # stars that tell of a surface with four terms
_MOST_OFF = 0.4  # of all stars, from a surface through the others
_PLANE, _BOWL = 3, 4  # terms
_SCATTER, _OUTLYING = 0.03, 3.0  # of ln(FWHM), at least; and how many of it are too many
_BY_CHANCE = 1e-4  # that stars of one width look so


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
    if len(fitted) < _FEWEST:
        return None
    widths = np.log([star.shape.fwhm_px for star in fitted])
    places = np.array([star.at for star in fitted], dtype=np.float64)
    groups = np.abs(widths[:, None] - widths) < _ALIKE
    common = np.median(widths[groups[np.argmax(groups.sum(axis=1))]])
    stars = np.abs(widths - common) < _NEAR_COMMON
    if np.count_nonzero(stars) < _FEWEST:
        return None
    surfaces = [_surface(widths[stars], places[stars], terms) for terms in (_PLANE, _BOWL)]
    best = min(surfaces, key=lambda surface: surface.chance)
    if best.chance > _BY_CHANCE:
        return None
    least, most = (int(find(best.widths)) for find in (np.argmin, np.argmax))
    return WidthsOverField(
        stars=len(best.widths),
        narrowest_px=float(np.exp(best.widths[least])),
        widest_px=float(np.exp(best.widths[most])),
        narrowest_at=(int(best.places[least, 0]), int(best.places[least, 1])),
        widest_at=(int(best.places[most, 0]), int(best.places[most, 1])),
    )


class _Surface(NamedTuple):
    """A surface through the widths of stars.

    widths : of the surface at the stars that are on it, logarithms; places : of these, (stars, 2)
    chance : that stars of one width look so
    """

    widths: Image
    places: Image
    chance: float


def _surface(widths: Image, places: Image, count: int) -> _Surface:
    """Fit a surface of so many terms; galaxies and blends, which are off it, do not count."""
    terms = _terms(places)[:, :count]
    left = widths - terms @ _robust(terms, widths)
    usual = max(_SCATTER, _OUTLYING * 1.4826 * float(np.median(np.abs(left))))
    kept = np.abs(left) < usual
    if np.count_nonzero(kept) < max(_FEWEST, (1 - _MOST_OFF) * kept.size):
        return _Surface(widths, places, 1.0)
    widths, terms = widths[kept], terms[kept]
    surface = terms @ np.linalg.lstsq(terms, widths, rcond=None)[0]
    return _Surface(surface, places[kept], _chance(widths, surface, count))


def _terms(places: Image) -> Image:
    """Give a level, a plane and a bowl at places, (stars, 4)."""
    middle = places.mean(axis=0)
    down, across = ((places - middle) / max(float(np.ptp(places, axis=0).max()), 1.0)).T
    return np.stack([np.ones_like(down), down, across, down**2 + across**2], axis=1)


def _robust(terms: Image, widths: Image) -> Image:
    """Find the terms of a surface that galaxies and blends do not lift."""
    start = np.zeros(terms.shape[1])
    start[0] = np.median(widths)
    fit = optimize.least_squares(
        lambda weights: terms @ weights - widths,
        start,
        jac=lambda _: terms,
        loss="soft_l1",
        f_scale=_SCATTER,
    )
    weights: Image = fit.x
    return weights


def _chance(widths: Image, surface: Image, terms: int) -> float:
    """Probability that widths which only scatter follow a surface as well: Fisher's F."""
    free = len(widths) - terms
    within = float(((widths - surface) ** 2).sum()) / free
    between = float(((surface - widths.mean()) ** 2).sum()) / (terms - 1)
    return float(stats.f.sf(between / max(within, 1e-12), terms - 1, free))
