"""Stars of known places and fluxes, drawn into rehearsed scenes.

Whatever a sky holds, every point of it is seen through one PSF: a star drawn with it is a scene
that is known to the last pixel, and no image but the frame's own had to be asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.stars.star_shape import FittedStar, StarShape
from dip_pipeline.restoration.views.crops import turn

Image = NDArray[np.float64]

_PHASES = 8  # places of a star in a fine pixel, along each axis
_REACH_PX = 12  # coarse pixels; fainter wings are left out
_NODES = 5  # of Gauss and Legendre, over a pixel and axis
_STARS_A_PIXEL = (1 / 1500, 1 / 80)  # of the observation, sparse skies to crowded ones
_FAINTEST_SIGMA = 1.0  # height of its brightest pixel
_BRIGHTEST = 1.5  # in heights of the frame's own brightest pixel
_SURE_HEIGHT_SIGMA = 40.0  # of a star whose shape is believed without others
_ALIKE = 1.15
_CLUMPED_SHARE = 0.5
_CLUMP_STARS = 40
_CLUMP_PX = (0.5, 6.0)  # scatter of a clump's stars, in coarse pixels


@dataclass(frozen=True, slots=True, eq=False)
class StarStamps:
    """A star on the scene's grid, at any place in a pixel.

    table : (side, side), brightness by offset from the star, _PHASES offsets a fine pixel, the
        star in the middle; the brightest pixel of the observation is about 1
    reach_px : fine pixels to each side
    """

    table: Tensor
    reach_px: int
    factor: int
    brightest_sigma: float

    def turned(self, quarter_turns: int, *, flip: bool) -> "StarStamps":
        """Flip left to right if asked, then turn."""
        table = turn(self.table, quarter_turns, flip=flip).contiguous()
        return StarStamps(table, self.reach_px, self.factor, self.brightest_sigma)

    def draw(self, scene: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw stars, alone and in clumps, onto an empty sky of the shape of a batch of scenes."""
        sky = torch.zeros(scene.shape)
        rows, cols = scene.shape[-2:]
        low, high = np.log(_STARS_A_PIXEL)
        for plane in sky[:, 0]:
            density = np.exp(rng.uniform(low, high)) / self.factor**2
            for _ in range(rng.poisson(rows * cols * density)):
                self._add(plane, rng.uniform(0, (rows, cols)), self._height(rng))
            if rng.random() < _CLUMPED_SHARE:
                self._add_clump(plane, rng)
        return sky.to(scene.device, scene.dtype)

    def _height(self, rng: np.random.Generator) -> float:
        low, high = np.log(_FAINTEST_SIGMA), np.log(self.brightest_sigma)
        return float(np.exp(rng.uniform(low, high)))

    def _add_clump(self, plane: Tensor, rng: np.random.Generator) -> None:
        """Add many stars close together: a cluster, or light that has an extent."""
        centre = rng.uniform(0, plane.shape)
        low, high = np.log(_CLUMP_PX)
        axes = np.exp(rng.uniform(low, high, 2)) * self.factor
        angle = rng.uniform(0, np.pi)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        places = centre + rng.laplace(size=(_CLUMP_STARS, 2)) * axes @ rotation
        height = self._height(rng) ** 0.7 * 3 / _CLUMP_STARS
        for place, share in zip(places, rng.exponential(size=_CLUMP_STARS), strict=True):
            self._add(plane, place, height * float(share))

    def _add(self, plane: Tensor, place: NDArray[np.float64], height: float) -> None:
        """Add a star at (row, col), fine pixels; what lies outside the plane is lost."""
        steps = np.round(place * _PHASES).astype(int)
        windows, parts = [], []
        for step, length in zip(steps, plane.shape, strict=True):
            middle, phase = divmod(int(step), _PHASES)
            first, last = max(0, middle - self.reach_px), min(length, middle + self.reach_px + 1)
            if first >= last:
                return
            offset = _PHASES * (self.reach_px + 1 - middle + first) - phase
            windows.append(slice(first, last))
            parts.append(slice(offset, offset + _PHASES * (last - first - 1) + 1, _PHASES))
        plane[windows[0], windows[1]] += height * self.table[parts[0], parts[1]]


def sharpest_shape(fitted: Sequence[FittedStar]) -> StarShape | None:
    """Find what stars look like where too few agree for `measure_shape`.

    Nothing in a sky is sharper than its stars: the median of all that are about as narrow as the
    narrowest. None where nothing is bright enough.
    """
    bright = [star.shape for star in fitted if star.height > _SURE_HEIGHT_SIGMA]
    if not bright:
        return None
    narrowest = min(shape.fwhm_px for shape in bright)
    alike = [shape for shape in bright if shape.fwhm_px < _ALIKE * narrowest]
    terms = np.median([[one.a, one.b, one.d, one.beta] for one in alike], axis=0)
    return StarShape(*(float(term) for term in terms))


def star_stamps(
    optics: Optics, shape: StarShape | None, brightest_sigma: float
) -> StarStamps | None:
    """Build the star of a scene; None where nobody knows what a star looks like in it.

    shape : of the observation's stars, in its pixels; not needed where a PSF is undone
    brightest_sigma : brightest pixel of the frame above its sky
    """
    factor = optics.factor
    reach_px = _REACH_PX * factor if optics.psf is None else int(np.ceil(6 * TARGET_SIGMA_PX))
    side = _PHASES * (reach_px + 1)
    offsets_px = np.arange(-side, side + 1) / _PHASES  # fine pixels
    if optics.psf is not None:
        profile = np.exp(-0.5 * (offsets_px / TARGET_SIGMA_PX) ** 2)
        rows, cols = (length // factor * factor for length in optics.psf.shape)
        blocks = optics.psf[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor)
        peak = max(float(blocks.mean(axis=(1, 3)).max()), 1e-9)
        table = np.outer(profile, profile) / (2 * np.pi * TARGET_SIGMA_PX**2) / peak
    elif shape is not None:
        table = pixel_means(shape, offsets_px / factor, offsets_px / factor, 1 / factor)
        table /= pixel_means(shape, np.zeros(1), np.zeros(1), 1.0)[0, 0]
    else:
        return None
    brightest = max(_BRIGHTEST * brightest_sigma, 10 * _FAINTEST_SIGMA)
    return StarStamps(torch.from_numpy(table).float(), reach_px, factor, brightest)


def pixel_means(shape: StarShape, rows_px: Image, cols_px: Image, side_px: float) -> Image:
    """Mean brightness over pixels of a side, by their offsets from the star, (rows, cols)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = nodes * side_px / 2, weights / 2
    total = np.zeros((len(rows_px), len(cols_px)))
    for down, row_weight in zip(nodes, weights, strict=True):
        for across, col_weight in zip(nodes, weights, strict=True):
            light = shape.profile(rows_px[:, None] + down, cols_px[None, :] + across)
            total += row_weight * col_weight * light
    return total
