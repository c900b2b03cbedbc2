"""Neighbours of some stars taken off a field, so that the wings of these are seen alone.

All stars around are fitted at once with the shape that is known so far, as DAOPHOT takes neighbours
off before it measures its profile again (Stetson 1987, PASP 99, 191).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.interpolate import RectBivariateSpline
from scipy.sparse.linalg import lsqr

from dip_pipeline.restoration.stars.star_shape import Image, Mask, StarShape

Draw = Callable[[Image, Image], Image]

_ROUNDS = 4  # of looking for what is left, and fitting all again
_MORE_ROUNDS = 1  # once these are known, with a better shape
_SIGMA = 5.0  # smoothed, of what is taken for a star
_UNEXPLAINED = 0.15  # of the light drawn at a place: fainter peaks are what a shape misses
_MISFIT = 0.01  # of the light that is drawn: no shape is known better
_FAINTEST_SIGMA = 0.05  # a star is drawn out to where it is as faint
_MOST_STARS = 4000  # that are fitted at once, the brightest
_MOST_SHIFT_PX = 0.3
_FARTHEST_PX = 2.0  # from where a star was found
_MOST_TIMES = 3.0  # that a height may change in a step
_FINE = 5  # places in a pixel, along an axis, that a star is tabulated at
_LEVEL_PX = 32  # side of the squares whose medians are the level between stars
_ITERATIONS = 40
_HALF = 0.5
_SIGMA_OF_FWHM = 1 / 2.3548


class StarPicture:
    """How a star of unit height looks, on the pixels of a field, at any place in one."""

    def __init__(self, shape: StarShape, draw: Draw, reach_px: int) -> None:
        """Tabulate it.

        shape : about how it falls; reach_px : farther out it is not known
        draw : mean light of pixels at offsets of rows, (rows,), and columns, (cols,), from it
        """
        self.shape, self.reach_px = shape, reach_px
        offsets = np.arange(-_FINE * (reach_px + 1), _FINE * (reach_px + 1) + 1) / _FINE
        self._light = RectBivariateSpline(offsets, offsets, draw(offsets, offsets))

    def light(self, rows_px: Image, cols_px: Image) -> Image:
        """Light at offsets of rows and columns from it."""
        plane: Image = self._light(rows_px, cols_px)
        return plane

    def columns(self, rows_px: Image, cols_px: Image) -> tuple[Image, Image, Image]:
        """Light, and how it changes as the star moves down its rows and along its columns."""
        down, across = (self._light(rows_px, cols_px, dx=1 - n, dy=n) for n in (0, 1))
        return self.light(rows_px, cols_px), -down, -across

    def smoothed_height(self, width_px: float) -> float:
        """Its height, when it is smoothed by a Gaussian."""
        offsets = np.arange(-self.reach_px, self.reach_px + 1, dtype=np.float64)
        return float(ndimage.gaussian_filter(self.light(offsets, offsets), width_px).max())


class Crowd:
    """Some stars of a field and what shines around them, as far as it looks like stars."""

    def __init__(
        self, light: Image, sigma: Image, trusted: Mask, stars: Sequence[Image], reach_px: int
    ) -> None:
        """Begin with some stars alone.

        light, sigma, trusted : (rows, cols), sky near zero
        stars : height, row and col of each, its place in pixels of the field
        reach_px : how far around them their light is looked at
        """
        self.light, self.sigma, self.trusted = light, sigma, trusted
        self.own, self.terms = len(stars), np.asarray(stars, np.float64)
        self.places = self.terms[:, 1:].copy()
        self.usual = float(np.median(sigma[trusted])) if trusted.any() else 1.0
        self.level = np.zeros(light.shape)
        self.near = np.zeros(light.shape, dtype=bool)
        for _, row, col in self.terms:
            spans = (slice(max(0, round(at) - 2 * reach_px), None) for at in (row, col))
            self.near[tuple(spans)][: 4 * reach_px + 1, : 4 * reach_px + 1] = True

    def without_neighbours(self, stars: Sequence[Image], picture: "StarPicture") -> Image:
        """Take off what shines around the stars, by what is known of them and of a star now."""
        self.picture = picture
        self.terms[: self.own] = stars
        self.places[: self.own] = self.terms[: self.own, 1:]
        rounds = _ROUNDS if len(self.terms) == self.own else _MORE_ROUNDS
        for _ in range(rounds):
            self._find()
            self._fit()
        neighbours: Image = self.light - self._drawn(self.terms[self.own :])
        return neighbours

    def _drawn(self, terms: Image) -> Image:
        """Draw stars onto an empty field."""
        field = np.zeros(self.light.shape)
        for height, row, col in terms:
            inside, rows, cols = self._around(height, row, col)
            field[inside] += height * self.picture.light(rows, cols)
        return field

    def _find(self) -> None:
        """Find what is left, and add it."""
        drawn = self._drawn(self.terms)
        left = self.light - drawn
        self.level = _level(left, self.trusted)
        width = self.picture.shape.fwhm_px * _SIGMA_OF_FWHM
        smoothed, explained = (
            ndimage.gaussian_filter(np.where(self.trusted, plane, 0.0), width, mode="constant")
            for plane in (left - self.level, drawn)
        )
        shown = np.where(self.trusted, smoothed, -np.inf)
        noise = self.sigma / np.sqrt(max(1.0, 4 * np.pi * width**2))
        side = 2 * int(np.ceil(self.picture.shape.fwhm_px / 2)) + 1
        peaks = (shown == ndimage.maximum_filter(shown, side)) & self.near & self.trusted
        peaks &= smoothed > _SIGMA * noise
        peaks &= smoothed > _UNEXPLAINED * explained
        places = np.argwhere(peaks)
        heights = smoothed[peaks] / self.picture.smoothed_height(width)
        brightest = np.argsort(-heights, kind="stable")[: max(0, _MOST_STARS - len(self.terms))]
        found = np.column_stack([heights, places])[brightest]
        self.terms = np.concatenate([self.terms, found])
        self.places = np.concatenate([self.places, found[:, 1:]])

    def _fit(self) -> None:
        """Take one step of Gauss and Newton in all heights and places."""
        drawn = self._drawn(self.terms)
        doubt = np.hypot(self.sigma, _MISFIT * drawn)
        root = np.where(self.trusted, 1 / doubt, 0.0)
        columns = self._columns()
        weighted = sparse.diags(root.ravel()) @ columns
        scale = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel()) + 1e-9
        wanted = (root * (self.light - self.level - drawn)).ravel()
        found = lsqr(weighted @ sparse.diags(1 / scale), wanted, damp=0.1, iter_lim=_ITERATIONS)
        step = (found[0] / scale).reshape(-1, 3)
        heights = self.terms[:, 0]
        self.terms[:, 0] = np.clip(
            heights + step[:, 0], heights / _MOST_TIMES, heights * _MOST_TIMES
        )
        self.terms[:, 1:] += np.clip(step[:, 1:], -_MOST_SHIFT_PX, _MOST_SHIFT_PX)
        # Beyond an edge as under a mask: a star may go out, but not far.
        self.terms[:, 1:] = np.clip(
            self.terms[:, 1:], self.places - _FARTHEST_PX, self.places + _FARTHEST_PX
        )

    def _columns(self) -> sparse.csc_matrix:
        """Give changes of all pixels with heights, rows and columns of the stars."""
        values, places, ends = [], [], [0]
        numbers = np.arange(self.light.size).reshape(self.light.shape)
        for height, row, col in self.terms:
            inside, rows, cols = self._around(height, row, col)
            light, by_row, by_col = self.picture.columns(rows, cols)
            for column in (light, height * by_row, height * by_col):
                values.append(column.ravel())
                places.append(numbers[inside].ravel())
                ends.append(ends[-1] + column.size)
        shape = (self.light.size, 3 * len(self.terms))
        return sparse.csc_matrix((np.concatenate(values), np.concatenate(places), ends), shape)

    def _around(
        self, height: float, row: float, col: float
    ) -> tuple[tuple[slice, slice], Image, Image]:
        """Where a star is drawn, and offsets of rows and columns from it."""
        share = _FAINTEST_SIGMA * self.usual / max(height, 1e-9)
        falls_px = self.picture.shape.radius_px(min(share, _HALF))
        reach = int(np.clip(np.ceil(falls_px), 2, self.picture.reach_px))
        spans = [
            np.arange(max(0, round(at) - reach), min(side, round(at) + reach + 1))
            for at, side in zip((row, col), self.light.shape, strict=True)
        ]
        rows, cols = (span - at for span, at in zip(spans, (row, col), strict=True))
        return (
            (slice(spans[0][0], spans[0][-1] + 1), slice(spans[1][0], spans[1][-1] + 1)),
            rows,
            cols,
        )


def _level(left: Image, trusted: Mask) -> Image:
    """Level between stars: medians of squares, and straight lines between their middles.

    Squares that are hardly seen have the level of the nearest other.
    """
    seen = np.where(trusted, left, np.nan)
    starts = [np.arange(0, side, _LEVEL_PX) for side in left.shape]
    medians = np.array(
        [
            [_median_of(seen[row : row + _LEVEL_PX, col : col + _LEVEL_PX]) for col in starts[1]]
            for row in starts[0]
        ]
    )
    unknown = np.isnan(medians)
    if unknown.all():
        return np.zeros(left.shape)
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    places = [(np.arange(side) + 0.5) / _LEVEL_PX - 0.5 for side in left.shape]
    level: Image = ndimage.map_coordinates(
        medians[tuple(nearest)], np.meshgrid(*places, indexing="ij"), order=1, mode="nearest"
    )
    return level


def _median_of(square: NDArray[np.floating]) -> float:
    known = square[np.isfinite(square)]
    return float(np.median(known)) if known.size > _LEVEL_PX**2 // 4 else float("nan")
