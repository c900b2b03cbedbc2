"""A star tried at many places of a part of a frame: its height, and how well it explains it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.restoration.stars.star_shape import Image, StarShape

GOOD_MISFIT = 1.6  # chi-square a pixel up to which a fit is good as it is
_GAIN = 0.25  # a worse one must leave no more than this of the chi-square without the star
_NEARNESS = 0.1  # cost of a px squared from where a star was looked for
# Logarithm of how many stars there are by height: N(> f) ~ f^-0.65, so few are bright.
_COUNTS = 1.65
_MANY = 200  # places
_DECIMALS = 9  # of offsets in px that are the same but for rounding


@dataclass(slots=True)
class Star:
    """A star; px and sky sigma. shape : its own, where it is known to differ from the others'."""

    row: float
    col: float
    height: float
    error: float
    shape: StarShape | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """A star fitted at a place; chi-squares a pixel without and with it."""

    star: Star
    before: float
    after: float

    @property
    def believed(self) -> bool:
        """Whether what is seen looks like a star."""
        return self.after < GOOD_MISFIT or self.after < _GAIN * self.before


@dataclass(frozen=True, slots=True)
class Trial:
    """Pixels around a place: offsets from it, roots of their weights, and their weighted light.

    sky : orthonormal columns of a sloping sky, which the light is already free of
    """

    rows: Image
    cols: Image
    scale: Image
    sky: Image
    light: Image

    @property
    def before(self) -> float:
        """Chi-square without a star."""
        return float(self.light @ self.light)

    @property
    def freedom(self) -> int:
        """Degrees of freedom that a star leaves."""
        return max(1, self.light.size - int(self.sky.shape[1]) - 3)

    def tried(self, shape: StarShape, places: Image) -> tuple[Image, Image, Image]:
        """Heights of stars at (places, 2) offsets, inverse variances of these, and the costs.

        A cost is -2 times the logarithm of the likelihood and of what was believed before.
        """
        models = self.scale * self._shapes(shape, places)
        models -= (models @ self.sky) @ self.sky.T
        power = (models**2).sum(axis=1) + 1e-12
        heights = (models @ self.light) / power
        cost = self.before - np.maximum(heights, 0.0) ** 2 * power
        cost += 2 * _COUNTS * np.log(np.maximum(heights, 1.0))
        cost += _NEARNESS * (places**2).sum(axis=1)
        return heights, power, cost

    def _shapes(self, shape: StarShape, places: Image) -> Image:
        """Give the shape of a star at each of (places, 2) offsets, (places, pixels).

        Pixels and places lie on grids: of many places most pairs have the offset of another pair,
        and the shape is computed once for each offset that there is.
        """
        if len(places) < _MANY:
            return shape.at(self.rows - places[:, :1], self.cols - places[:, 1:])
        rows, at_row = _apart(self.rows, places[:, 0])
        cols, at_col = _apart(self.cols, places[:, 1])
        table = shape.at(rows[:, None], cols[None, :])
        shapes: Image = table[at_row, at_col]
        return shapes


def _apart(pixels: Image, places: Image) -> tuple[Image, NDArray[np.intp]]:
    """Give all offsets that there are on an axis, and which of them each pair has.

    pixels : (pixels,); places : (places,); pairs are (places, pixels)
    """
    pixel, of_pixel = np.unique(pixels, return_inverse=True)
    place, of_place = np.unique(places, return_inverse=True)
    offsets = np.round(pixel[None, :] - place[:, None], _DECIMALS)
    there, which = np.unique(offsets, return_inverse=True)
    return there, which.reshape(offsets.shape)[of_place[:, None], of_pixel[None, :]]


def grid_px(half_width: float, step: float) -> Image:
    """Give offsets on a square grid, (places, 2)."""
    line = np.arange(-half_width, half_width + step / 2, step)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    return np.stack([rows.ravel(), cols.ravel()], axis=1)
