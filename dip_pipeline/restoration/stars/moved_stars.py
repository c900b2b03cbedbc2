"""Stars of a field moved to other places of it, with other neighbours: for rehearsals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.stars.star_shape import Image, Mask

_ALONE_PX = 6  # a star is the brightest so far around, and nothing there is masked
_SMOOTHED_PX = 1.0
_TRIES = 40  # of places for a star
_SEED = 5


@dataclass(frozen=True, slots=True, eq=False)
class DrawnStar:
    """A star as it is drawn: light around `at`, its brightest pixel, in a square of odd side."""

    at: tuple[int, int]
    light: Image


@dataclass(frozen=True, slots=True, eq=False)
class MovedStars:
    """A field whose stars were moved; light and sigma (rows, cols), and where they are now."""

    light: Image
    sigma: Image
    places: tuple[tuple[int, int], ...]


def move_stars(light: Image, sigma: Image, trusted: Mask, stars: Sequence[DrawnStar]) -> MovedStars:
    """Take stars off a field and put each at another place, where it is alone as it was.

    light, sigma, trusted : (rows, cols), sky at zero
    Each is moved by whole pixels, and takes the noise of its light along. One that finds no place
    in some tries is left out.
    """
    rng = np.random.default_rng(_SEED)
    bare, noise = light.copy(), sigma.copy()
    usual = float(np.median(sigma[trusted])) if trusted.any() else 0.0
    for star in stars:
        inside, part = _overlap(star.at, star.light.shape, light.shape)
        bare[inside] -= star.light[part]
    free = ~ndimage.binary_dilation(~trusted, iterations=_ALONE_PX)
    free[:_ALONE_PX], free[-_ALONE_PX:] = False, False
    free[:, :_ALONE_PX], free[:, -_ALONE_PX:] = False, False
    choices = np.argwhere(free)
    places = []
    for star in stars:
        place = _place_for(star, bare, choices, rng)
        if place is None:
            continue
        places.append(place)
        inside, part = _overlap(place, star.light.shape, light.shape)
        own = _own_variance(star, sigma, usual)[part]
        bare[inside] += star.light[part] + np.sqrt(own) * rng.standard_normal(own.shape)
        noise[inside] = np.sqrt(noise[inside] ** 2 + own)
    return MovedStars(bare, noise, tuple(places))


def _place_for(
    star: DrawnStar, field: Image, choices: NDArray[np.integer], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Choose a place at which nothing around is as bright as the star."""
    reach = star.light.shape[0] // 2
    middle = slice(max(0, reach - _ALONE_PX), reach + _ALONE_PX + 1)
    for index in rng.integers(0, max(1, len(choices)), _TRIES if len(choices) else 0):
        row, col = (int(at) for at in choices[index])
        around = field[row - _ALONE_PX : row + _ALONE_PX + 1, col - _ALONE_PX : col + _ALONE_PX + 1]
        own = star.light[middle, middle]
        if own.shape != around.shape:  # of a PSF that reaches less far
            own = np.pad(own, (around.shape[0] - own.shape[0]) // 2)
        seen = ndimage.gaussian_filter(around + own, _SMOOTHED_PX)
        if seen[_ALONE_PX, _ALONE_PX] == seen.max():
            return row, col
    return None


def _own_variance(star: DrawnStar, sigma: Image, usual: float) -> Image:
    """Variance that a star's own light adds, at its old place; nothing beyond the frame."""
    variance = np.zeros(star.light.shape)
    inside, part = _overlap(star.at, star.light.shape, sigma.shape)
    variance[part] = np.maximum(sigma[inside] ** 2 - usual**2, 0.0)
    return variance


def _overlap(
    place: tuple[int, int], stamp: tuple[int, ...], field: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a stamp lies in a field, and which part of the stamp that is."""
    inside, part = [], []
    for at, width, side in zip(place, stamp, field, strict=True):
        first = at - width // 2
        start, stop = max(first, 0), min(first + width, side)
        inside.append(slice(start, stop))
        part.append(slice(start - first, stop - first))
    return (inside[0], inside[1]), (part[0], part[1])
