"""Light of saturated pixels around them, where a PSF is undone: it belongs into them.

How much they send is not known, for they are clipped; so what is around them keeps it. That tells
how much it is: the PSF says how it falls off, and the pixels from where it falls off.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.forward.optics import in_blocks
from dip_pipeline.restoration.problem import Problem

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_SHARE = 0.01  # of what a PSF brings to a pixel: with more from saturated ones it is not known
_LEAST_SHARE = 0.001  # of it, where the pixels around still tell how much it is
_FEWEST_PIXELS = 8
_SIGNIFICANCE = 3.0  # standard errors
_OF_A_MEDIAN = 1.86  # its standard error of n values, over their median deviation / n^(1/2)


@dataclass(frozen=True, slots=True)
class SaturatedLight:
    """What saturated pixels send to the pixels of a scene, (rows, cols).

    light : in the frame's unit of brightness, at least what the clipped values bring
    too_much : where nothing can be claimed
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
            fftconvolve(in_blocks(plane, optics.factor), optics.psf.astype(np.float64), "same")
            for plane in (clipped.astype(np.float64), above.astype(np.float64))
        )
        light = np.maximum(light, 0.0)
        return cls(_scaled(light, share, problem, level), share > MOST_SHARE)


def _scaled(light: Image, share: Image, problem: Problem, level: float) -> Image:
    """Scale the light to what the pixels around each group of saturated ones show of it.

    share : of what the PSF brings, from saturated pixels
    By the median over the pixels next to where too much is theirs, above that of those farther out:
    of other light around them. Never less than before.
    """
    factor = light.shape[0] // problem.pixels.shape[0]
    brought, part = (_block_means(plane, factor) for plane in (light, share))
    groups, count = ndimage.label(problem.saturated, np.ones((3, 3)))
    nearest = ndimage.distance_transform_edt(
        groups == 0, return_distances=False, return_indices=True
    )
    owner = groups[tuple(nearest)]
    telling = problem.valid & (part <= MOST_SHARE) & (part > _LEAST_SHARE)
    owners, seen, expected = owner[telling], problem.pixels[telling] - level, brought[telling]
    ratios: Image = np.ones(count + 1)
    for number in np.unique(owners):
        of_it = owners == number
        ratios[number] = _ratio(seen[of_it].astype(np.float64), expected[of_it])
    scaled: Image = light * in_blocks(ratios[owner], factor)
    return scaled


def _ratio(seen: Image, expected: Image) -> float:
    """Give how many times as much as expected is seen at some pixels, (pixels,); 1 at least."""
    near = expected >= np.median(expected)
    parts = [seen[near], seen[~near]]
    if min(len(part) for part in parts) < _FEWEST_PIXELS:
        return 1.0
    medians = [float(np.median(part)) for part in parts]
    scatters = [
        float(np.median(np.abs(part - median))) for part, median in zip(parts, medians, strict=True)
    ]
    error = _OF_A_MEDIAN * np.hypot(*(scatter / len(seen) ** 0.5 for scatter in scatters))
    more = medians[0] - medians[1]
    wanted = float(np.median(expected[near]) - np.median(expected[~near]))
    return max(1.0, more / wanted) if wanted > 0 and more > _SIGNIFICANCE * error else 1.0


def _block_means(plane: Image, factor: int) -> Image:
    rows, cols = (side // factor for side in plane.shape)
    means: Image = plane.reshape(rows, factor, cols, factor).mean(axis=(1, 3))
    return means
