"""Light of saturated pixels around them, where a PSF is undone: it belongs into them.

How much they send is not known, for they are clipped; so what is around them keeps it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.restoration.problem import Problem

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_SHARE = 0.01  # of what a PSF brings to a pixel: with more from saturated ones it is not known


@dataclass(frozen=True, slots=True)
class SaturatedLight:
    """What saturated pixels send to the pixels of a scene, (rows, cols).

    light : at least, in the frame's unit of brightness; too_much : where nothing can be claimed
    """

    light: Image
    too_much: Mask

    @classmethod
    def around(cls, problem: Problem, level: float) -> Self | None:
        """Find it for a problem whose sky is at a level; None where no PSF brings any."""
        optics = problem.optics
        clipped = problem.saturated & np.isfinite(problem.pixels)
        if optics is None or optics.psf is None or not clipped.any():
            return None
        from scipy.signal import fftconvolve  # takes half a second to load, and is seldom needed

        above = np.where(clipped, np.maximum(problem.pixels - level, 0.0), 0.0)
        share, light = (
            fftconvolve(_in_blocks(plane, optics.factor), optics.psf.astype(np.float64), "same")
            for plane in (clipped, above)
        )
        return cls(np.maximum(light, 0.0), share > MOST_SHARE)


def _in_blocks(plane: NDArray[np.generic], factor: int) -> Image:
    return plane.astype(np.float64).repeat(factor, axis=0).repeat(factor, axis=1)
