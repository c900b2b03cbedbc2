"""What lies between the scene and its observations: plain picklable values, no torch."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import RestorationError
from dip_pipeline.sensor import NoiseModel

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)
Mixture = tuple[tuple[float, float], ...]
"""Gaussians, each with its share of the light, all of which sum to 1, and its sigma in pixels."""

_SUM_TOLERANCE = 0.01


class DecimationKind(StrEnum):
    """How fine pixels become a coarse one."""

    AREA = "area"  # the integral over the coarse pixel: what a detector does
    LANCZOS = "lanczos"  # low pass of the deep image prior's paper: lanczos2, phase 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Optics:
    """What lies between the scene and the observation.

    factor : pixels of the scene for one of the observation, along each axis; 1 for the same grid
    psf : (rows, cols), odd sides, sum 1, on the scene's grid; what is to be undone. None: nothing
    support_px : standard deviation, pixels of the scene, of a Gaussian that the scene is at least
        as smooth as: the telescope made it so; 0: not known
    summed : a pixel holds the flux of its area (the scene's are smaller by factor^2), else a
        brightness
    solving : pixels for one of the scene while it is solved for from several exposures, along each
        axis: stars that are narrower than its pixels show need finer ones to be moved about on
    seeing : what lies between the scene and the observation where further exposures are sharper,
        sigmas in pixels of the observation; () for nothing, or the Gaussian of `Exposure.wider_px2`
    """

    factor: int = 1
    psf: Plane | None = None
    decimation: DecimationKind = DecimationKind.AREA
    summed: bool = True
    support_px: float = 0.0
    solving: int = 1
    seeing: Mixture = ()

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise RestorationError(f"factor {self.factor}: need a whole number from 1")
        if self.psf is None:
            return
        if self.psf.ndim != 2 or not all(side % 2 for side in self.psf.shape):
            raise RestorationError(f"PSF of shape {self.psf.shape}: need two axes of odd length")
        total = float(self.psf.sum())
        if not abs(total - 1) < _SUM_TOLERANCE:
            raise RestorationError(f"PSF sums to {total:g}: need 1; divide it by its sum")

    @property
    def share(self) -> float:
        """What a pixel of the scene has of the number in its pixel, if the light is even."""
        return 1 / self.factor**2 if self.summed else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """What other exposures show of a frame's light, on its pixels and in its unit.

    pixels : (rows, cols), NaN where they show nothing; error : (rows, cols), sigma of them
    """

    pixels: Plane
    error: Plane


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """One more exposure of the scene, on its own grid, cut to what a region of it needs.

    pixels, masked, saturated, error : as those of a Problem
    matrix, shift_px : pixel p = (row, col) of `pixels` lies at matrix @ p + shift_px, in pixels of
        the observation of the problem it belongs to (its own first pixel being (0, 0))
    flux_scale, level_offset : light x of the problem's observation is flux_scale x + level_offset
        here: transparency, exposure time, and another sky; of an uneven one the offset is a plane,
        (rows, cols)
    wider_px2 : by how much the variance of its stars is above that of the problem's own, squares of
        the pixels of those: another seeing; below 0 where it is the sharper one
    seeing : what lies between the sharpest of all and it, pixels of the problem's own; () for
        nothing, or the Gaussian that `wider_px2` tells of
    number : of it among the run's further exposures, from 1; 0 the problem's own
    """

    pixels: Plane
    masked: Mask
    saturated: Mask
    noise: NoiseModel
    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    shift_px: tuple[float, float] = (0.0, 0.0)
    flux_scale: float = 1.0
    level_offset: float | NDArray[np.float64] = 0.0
    error: Plane | None = None
    wider_px2: float = 0.0
    seeing: Mixture = ()
    number: int = 0


def in_blocks(plane: NDArray[Number], factor: int) -> NDArray[Number]:
    """Give each pixel of the scene the number of the observation's pixel that it lies in."""
    return plane.repeat(factor, axis=0).repeat(factor, axis=1)


def fine_window(
    inner: tuple[slice, slice], shape: tuple[int, int], factor: int
) -> tuple[slice, slice]:
    """Give the rows and columns of the scene that lie in those of the observation."""
    spans = [part.indices(length) for part, length in zip(inner, shape, strict=True)]
    rows, cols = (slice(first * factor, last * factor) for first, last, _ in spans)
    return rows, cols
