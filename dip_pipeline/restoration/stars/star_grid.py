"""Many stars of one shape on a grid of pixels: their light, and how it changes with them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dip_pipeline.restoration.stars.star_shape import Image, Mask

DRAWN_SIGMA = 0.02  # a star is drawn out to where it falls below this
_REACH_STEP_PX = 4.0
FARTHEST_PX = 120.0

Places = NDArray[np.float64]  # (stars, 3): height in sky sigma, row, col


class Shape(Protocol):
    """How the light of a star of unit height is spread over pixels."""

    def at(self, rows_px: Image, cols_px: Image) -> Image:
        """Brightness of pixels at offsets from the star; they broadcast."""

    def slopes(self, rows_px: Image, cols_px: Image) -> tuple[Image, Image, Image]:
        """Give `at`, and how it changes as the star moves down its rows and along its columns."""

    def radius_px(self, share: float) -> float:
        """Radius within which it is above a share of its height."""


@dataclass(frozen=True, slots=True)
class StarGrid:
    """Pixels that stars are drawn on.

    size : (rows, cols); shape : of all stars
    """

    size: tuple[int, ...]
    shape: Shape

    def drawn(self, stars: Places) -> Image:
        """Draw the light of all stars, each out to where it is next to nothing."""
        high, wide = self.size
        light = np.zeros(high * wide)
        heights = np.maximum(stars[:, 0], DRAWN_SIGMA)
        reaches = np.array([self.shape.radius_px(DRAWN_SIGMA / height) for height in heights])
        reaches = np.minimum(np.ceil(reaches / _REACH_STEP_PX) * _REACH_STEP_PX, FARTHEST_PX)
        for reach_px in np.unique(reaches):
            alike = stars[reaches == reach_px]
            pixels, down, across, inside = self.windows(alike, float(reach_px))
            values = np.maximum(alike[:, :1, None], 0.0) * self.shape.at(down, across)
            light += np.bincount(pixels[inside], values[inside], light.size)
        return light.reshape(self.size)

    def changes(self, stars: Places, reach_px: float) -> sparse.csr_matrix:
        """Give the change of pixels with ln(height), row and col, (pixels, 3 stars), sparse."""
        pixels, down, across, inside = self.windows(stars, reach_px)
        parts = self.shape.slopes(down, across)
        changes = np.stack(parts, axis=-1) * stars[:, 0][:, None, None, None]
        numbers = np.broadcast_to(np.arange(stars.size).reshape(len(stars), 1, 1, 3), changes.shape)
        rows = np.broadcast_to(pixels[..., None], changes.shape)
        high, wide = self.size
        return sparse.csr_matrix(
            (changes[inside].ravel(), (rows[inside].ravel(), numbers[inside].ravel())),
            shape=(high * wide, stars.size),
        )

    def windows(
        self, stars: Places, reach_px: float
    ) -> tuple[NDArray[np.intp], Image, Image, Mask]:
        """Pixels around each star, offsets from it, and which lie within reach and the grid."""
        steps = np.arange(-int(reach_px), int(reach_px) + 1)
        middles = np.rint(stars[:, 1:]).astype(int)
        rows = middles[:, 0, None, None] + steps[None, :, None]
        cols = middles[:, 1, None, None] + steps[None, None, :]
        high, wide = self.size
        down = rows - stars[:, 1, None, None]
        across = cols - stars[:, 2, None, None]
        inside = (down**2 + across**2 <= reach_px**2) & (rows >= 0) & (rows < high)
        inside &= (cols >= 0) & (cols < wide)
        pixels = np.clip(rows, 0, high - 1) * wide + np.clip(cols, 0, wide - 1)
        return pixels, down, across, inside
