"""What no light can look like through a PSF: pixels that are sharper than it allows.

Light is nowhere negative. So wherever the stars of a scene lie, a pixel between two others is at
most so many times their mean, what lies around them apart, as it is at most of one star:

    o_p <= c (o_q + o_r) / 2,   c = max over places of a star of 2 k_p / (k_q + k_r)

On a star a wrong pixel hides behind the sharpness that pairs allow the star itself; there it is
held against what all pixels around it make expected, of which less is left open (`expected_pixel`).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.psf.expected_pixel import ExpectedPixel

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to one of the two, in rows and cols; other: opposite
_LEAST_PAIRS = 2  # that must say so: beside a dead pixel one does
_SIGMA = 6.0
# A PSF may be known so badly: a factor c becomes c^narrower + more, as if it were a fifth narrower
# (of Gaussians the logarithm of c goes with the square of the width), and rounder.
_NARROWER, _MORE = 1.6, 0.1
_MUCH_NARROWER = 2.8  # as if it were two fifths narrower: what is sharper still is no star at all
_NARROWER_SHARE, _MUCH_NARROWER_SHARE = 0.87, 0.6  # of its width: from all pixels around
_ROUGH = 0.02  # of the brightest pixel near by: what is not known of a PSF from pixel to pixel
_FAINTER = 0.01  # of the brightest pixel near by: what is not known of a PSF's rings and spikes
_NEAR_PX = 7  # side of the square that counts as near by
_LEAST_SHARE, _LEAST_AT_EDGE = 1e-3, 0.02  # of a PSF's peak: fainter pixels do not count
_FARTHEST_PX = 24  # from a PSF's middle, of the frame: farther out it is not looked at
_MOST_TIMES = 30.0  # of a narrower PSF every pixel may be a star
_LEVEL_PX = 1.5  # over which levels are smoothed
_MEDIAN_PX = 5  # side of the square whose median has no dead column
_AROUND_PX = 21  # side of the square whose darkest place is what a pixel stands above
MARGIN_PX = 24  # how far around a pixel is looked


@dataclass(frozen=True, slots=True)
class TooSharp:
    """Pixels that are sharper than a PSF allows, (rows, cols).

    found : by more than the PSF's own error; peaks : the brightest pixel of what shines
    sharpest : of the found ones, those that a much narrower PSF would not allow either
    dark : darker than the darkest sky around, and no hole that the PSF allows: dead
    """

    found: Mask
    sharpest: Mask
    peaks: Mask
    dark: Mask

    def cut(self, inner: tuple[slice, slice]) -> Self:
        """Take a part of what was looked at."""
        planes = (self.found, self.sharpest, self.peaks, self.dark)
        return type(self)(*(plane[inner] for plane in planes))


@dataclass(frozen=True, slots=True)
class PsfLimit:
    """How many times as bright as the mean of two pixels one between them can be.

    times : for each pair, along rows, along cols, and along both diagonals
    expected : what a pixel is expected to be by those around it
    over : how far from that a pixel of a star is, as share of the brightest one, at most; and if
        the PSF were as much narrower as `TooSharp.sharpest` says
    """

    times: tuple[float, ...]
    expected: ExpectedPixel
    over: tuple[float, float]

    @classmethod
    def of(cls, psf: NDArray[np.floating], factor: int) -> Self:
        """Find it for a PSF, (rows, cols), on pixels of which factor^2 make one of the frame."""
        views = seen_at_places(psf.astype(np.float64), factor)
        expected = ExpectedPixel.of([view for view, _ in views])
        usual, much = (
            expected.farthest([view for view, _ in seen_at_places(_narrowed(psf, share), factor)])
            for share in (_NARROWER_SHARE, _MUCH_NARROWER_SHARE)
        )
        return cls(
            tuple(max(_times(view, pair) for view in views) for pair in _PAIRS),
            expected,
            (usual, much),
        )

    def too_sharp(self, light: Image, sigma: Image, known: Mask) -> TooSharp:
        """Find pixels above what two pairs of their neighbours, or all around them, allow.

        light, sigma : (rows, cols), the same unit; known : neither masked nor saturated
        """
        dark = self._too_dark(light, sigma, known)
        known = known & ~dark  # or what shines beside a dead column would be too sharp
        floor = _floor(light, known)
        above = np.where(known, light - floor, np.nan)
        near = ndimage.maximum_filter(np.where(known, above, 0.0), _NEAR_PX)
        doubt = np.where(known, sigma, np.nan)
        usual, much = np.zeros(light.shape, dtype=int), np.zeros(light.shape, dtype=int)
        with np.errstate(invalid="ignore"):
            for pair, times in zip(_PAIRS, self.times, strict=True):
                if times > _MOST_TIMES:
                    continue
                mean = np.maximum(_mean_of(above, pair), 0.0)
                spread = np.sqrt(_mean_of(doubt**2, pair) / 2)
                left = above - _FAINTER * near - _SIGMA * np.hypot(doubt, times * spread)
                usual += left > (times**_NARROWER + _MORE) * mean
                much += left > (times**_MUCH_NARROWER + _MORE) * mean
            shining = np.where(known, above, -np.inf)
            peaks = known & (shining >= ndimage.maximum_filter(shining, 5))
        rays = _with_rest(usual)
        excess = self.expected.excess(above, doubt**2, known & ~rays, _SIGMA)
        odd, very_odd = (excess > (over + _ROUGH) * near for over in self.over)
        return TooSharp(rays | odd, (rays & _with_rest(much)) | very_odd, peaks, dark)

    def _too_dark(self, light: Image, sigma: Image, known: Mask) -> Mask:
        """Find pixels that lie below all sky around, by more than two pairs beside them do.

        A hole in the sky is seen through the PSF, too: it is no sharper than a star.
        """
        # Without dead columns; and without small holes of the sky, whose flanks then count.
        level = ndimage.median_filter(np.where(known, light, 0.0), _MEDIAN_PX)
        below = np.where(known, _floor(level, known) - light, np.nan)
        # A dead pixel has no photons and so, by its law, little noise: the darkest sky's tells.
        doubt = ndimage.median_filter(np.where(known, sigma, np.inf), _MEDIAN_PX)
        doubt = ndimage.minimum_filter(doubt, _AROUND_PX)
        pairs = np.zeros(light.shape, dtype=int)
        with np.errstate(invalid="ignore"):
            for pair, times in zip(_PAIRS, self.times, strict=True):
                if times <= _MOST_TIMES:
                    left = below - _SIGMA * doubt * np.hypot(1.0, times / 2)
                    mean = np.maximum(_mean_of(below, pair), 0.0)
                    pairs += left > (times**_NARROWER + _MORE) * mean
        dark: Mask = pairs >= _LEAST_PAIRS
        return dark


def _with_rest(pairs: NDArray[np.int_]) -> Mask:
    """Find pixels that two pairs call too sharp, and those beside them that one does: of a track.

    pairs : (rows, cols), how many do
    """
    found = pairs >= _LEAST_PAIRS
    whole: Mask = ndimage.binary_propagation(
        found, structure=np.ones((3, 3), dtype=bool), mask=pairs > 0
    )
    return whole


def _mean_of(plane: Image, pair: tuple[int, int]) -> Image:
    """Mean of the two pixels beside each one; NaN beyond the edges."""
    rows, cols = plane.shape
    padded = np.pad(plane, 1, constant_values=np.nan)
    one, other = (
        padded[1 + down : 1 + down + rows, 1 + across : 1 + across + cols]
        for down, across in (pair, (-pair[0], -pair[1]))
    )
    mean: Image = (one + other) / 2
    return mean


def _floor(light: Image, known: Mask) -> Image:
    """Level that the darkest place near a pixel has: all light is above it."""
    weight = ndimage.gaussian_filter(known.astype(np.float64), _LEVEL_PX)
    level = ndimage.gaussian_filter(np.where(known, light, 0.0), _LEVEL_PX)
    level = np.where(weight > 0.1, level / np.maximum(weight, 0.1), np.inf)
    darkest: Image = ndimage.minimum_filter(level, _AROUND_PX)
    return darkest


def seen_at_places(psf: Image, factor: int) -> list[tuple[Image, Mask]]:
    """Show a star of a PSF on the frame's pixels, at every place that it may have in one.

    In the middle of a pixel it is at its sharpest. Each with what is well inside of the PSF's
    image, beyond which its light was cut off.
    """
    light = np.pad(_middle_of(psf, _FARTHEST_PX * factor), 2 * factor)
    inside = np.zeros_like(light)
    inside[2 * factor : -2 * factor, 2 * factor : -2 * factor] = 1.0
    views = []
    for first in np.ndindex(factor, factor):
        whole = _binned(inside, factor, first) >= factor**2
        views.append((_binned(light, factor, first), ndimage.binary_erosion(whole)))
    return views


def _narrowed(psf: NDArray[np.floating], share: float) -> Image:
    """Draw a PSF at that share of its width."""
    middle = np.array(psf.shape) // 2
    offset = middle - middle / share
    drawn = ndimage.affine_transform(psf.astype(np.float64), np.eye(2) / share, offset, order=3)
    narrowed: Image = np.maximum(drawn, 0.0)
    return narrowed


def _middle_of(psf: Image, reach_px: int) -> Image:
    """Cut what is farther from a PSF's middle."""
    rows, cols = (
        slice(max(0, side // 2 - reach_px), side // 2 + reach_px + 1) for side in psf.shape
    )
    return psf[rows, cols]


def _binned(light: Image, factor: int, first: tuple[int, ...]) -> Image:
    """Sum pixels over blocks, the first of which lacks so many rows and columns."""
    padded = np.pad(
        light,
        [(lacks, -(side + lacks) % factor) for side, lacks in zip(light.shape, first, strict=True)],
    )
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    binned: Image = blocks.sum(axis=(1, 3))
    return binned


def _times(view: tuple[Image, Mask], pair: tuple[int, int]) -> float:
    """How many times the mean of a pair one star's light between them is, at most."""
    light, inside = view
    peak = light.max()
    mean = np.nan_to_num(_mean_of(light, pair))
    over = light - _FAINTER * ndimage.maximum_filter(light, _NEAR_PX)
    # At the edge of a PSF its faint wings end as those of stars do not.
    counts = (light > np.where(inside, _LEAST_SHARE, _LEAST_AT_EDGE) * peak) & (over > 0)
    return max(1.0, float((over[counts] / np.maximum(mean[counts], 1e-9 * peak)).max()))
