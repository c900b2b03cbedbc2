"""What lies between the stars of two exposures: several Gaussians, for their profiles are none.

The light of the same stars is summed in rings, of one exposure as it is, of the other smoothed by
Gaussians of several widths. The mixture of these that gives the rings of the first is the kernel;
neighbours of a star go through it as the star does, so that crowded stars tell as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.stars import Image, are_whole, bright_ones

Mixture = tuple[tuple[float, float], ...]
"""Gaussians, each with its share of the light, all of which sum to 1, and its sigma in pixels."""

# Of the width of the reference's stars. Between Moffat profiles 3 % of the light lies farther out
# than any one Gaussian puts it.
_GAUSSIANS = (0.0, 0.35, 0.5, 0.7, 1.0, 1.5, 2.2, 3.3)
_RINGS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.75, 3.5, 4.5, 5.75, 7.0, 9.0)  # their edges, the same
_FEWEST, _MOST = 4, 60  # stars
_MISFIT = 0.003  # of a star's light in a ring: no kernel is known better
_OUTLYING = 2.0  # sigma, from where on a ring counts less
_REFITS = 6
_LEAST_SHARE = 0.002  # of the light; less is none
_MOST_BEYOND = 0.03  # of the light
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class StarRings:
    """Light of an exposure's stars in rings around them, smoothed by each of the Gaussians.

    numbers : (stars,), of these among the reference's
    light : (stars, Gaussians, rings); noise : (rings,), of the light as it is
    sigmas_px : of the Gaussians, pixels of the reference
    """

    numbers: NDArray[np.int64]
    light: Image
    noise: Image
    sigmas_px: tuple[float, ...]


def star_rings(
    seen: Seen, own: NDArray[np.int64], numbers: NDArray[np.int64], width_px: float, scale: float
) -> StarRings:
    """Sum the light of stars that are bright and whole.

    own : (stars,), which of the exposure's; numbers : of the same stars among the reference's
    width_px : of the reference's stars; scale : pixels of the reference to one of the exposure
    """
    sigmas = tuple(width_px * each for each in _GAUSSIANS)
    edges = np.array(_RINGS) * width_px / scale
    margin = int(np.ceil(edges[-1])) + 1
    good = bright_ones(seen.stars, own)
    good &= are_whole(seen.cleaned, seen.stars.places[own], seen.stars.width_px)
    places = seen.stars.places[own]
    far = np.array(seen.cleaned.light.shape) - 1 - margin
    good &= ((places >= margin) & (places <= far)).all(axis=1)
    chosen = np.flatnonzero(good)[np.argsort(own[good], kind="stable")][:_MOST]
    light = [
        _of_star(seen, places[star], edges, [each / scale for each in sigmas]) for star in chosen
    ]
    areas = np.pi * np.diff(edges**2)
    return StarRings(
        numbers=numbers[chosen],
        light=np.array(light).reshape(len(chosen), len(sigmas), len(areas)),
        noise=seen.cleaned.noise * np.sqrt(areas),
        sigmas_px=sigmas,
    )


def _of_star(seen: Seen, place: Image, edges: Image, sigmas: Sequence[float]) -> Image:
    """Light of a star, (Gaussians, rings); only what is around it is smoothed."""
    margin = int(np.ceil(edges[-1] + 3 * sigmas[-1])) + 1
    middle = np.rint(place).astype(int)
    first = np.maximum(middle - margin, 0)
    last = middle + margin + 1
    stamp = np.ascontiguousarray(seen.cleaned.light[first[0] : last[0], first[1] : last[1]])
    row, col = place - first
    found = []
    for sigma in sigmas:
        plane = gaussian_filter(stamp, sigma) if sigma > 0 else stamp
        within, _, _ = sep.sum_circle(
            plane, np.full(len(edges) - 1, col), np.full(len(edges) - 1, row), edges[1:], subpix=0
        )
        found.append(np.diff(within, prepend=0.0))
    return np.array(found)


@dataclass(frozen=True, slots=True)
class Between:
    """What lies between the stars of an exposure and the reference's.

    mixture : that the sharper of the two goes through, sigmas in pixels of the reference; () where
        they are alike
    is_wider : whether the exposure is the wider one
    scale : pixels of the reference to one of the exposure
    """

    mixture: Mixture = ()
    is_wider: bool = False
    scale: float = 1.0

    @classmethod
    def of(cls, mixture: Mixture, wider_px2: float, scale: float) -> Self:
        """Take what was found; one Gaussian where no mixture is known.

        wider_px2 : variance of the exposure's stars above the reference's
        """
        if not mixture and wider_px2 != 0:
            mixture = ((1.0, abs(wider_px2) ** 0.5),)
        return cls(mixture, is_wider=wider_px2 > 0, scale=scale)

    @property
    def reach_px(self) -> int:
        """How far light goes that matters, in the pixels of the sharper one."""
        return math.ceil(3 * max((sigma for _, sigma in self._own_pixels), default=0.0))

    def through(self, light: Image, known: NDArray[np.bool_]) -> Image:
        """Show light of the sharper one as the other sees it; NaN where it is not known."""
        if not self.mixture:
            return np.where(known, light, np.nan)
        filled, found = np.where(known, light, 0.0), np.zeros(light.shape)
        for share, sigma_px in self._own_pixels:
            weight = gaussian_filter(known.astype(np.float64), sigma_px)
            found += share * gaussian_filter(filled, sigma_px) / np.where(known, weight, np.inf)
        return np.where(known, found / sum(share for share, _ in self.mixture), np.nan)

    @property
    def _own_pixels(self) -> Mixture:
        scale = 1.0 if self.is_wider else self.scale
        return tuple((share, sigma / scale) for share, sigma in self.mixture)


def light_kept(mixture: Mixture, sharp: StarRings, radius_px: float) -> float:
    """Share of the light of an aperture that stays there when stars go through a mixture.

    radius_px : pixels of the reference
    """
    if not mixture or not len(sharp.numbers):
        return 1.0
    edges = np.array(_RINGS[1:]) * sharp.sigmas_px[-1] / _GAUSSIANS[-1]
    last = int(np.argmin(np.abs(edges - radius_px)))
    within = sharp.light[:, :, : last + 1].sum(axis=(0, 2))
    shares = dict(zip(sharp.sigmas_px, within.tolist(), strict=True))
    passed = sum(share * shares[sigma_px] for share, sigma_px in mixture)
    return float(passed / within[0]) if passed > 0 and within[0] > 0 else 1.0


def mixture_between(sharp: StarRings, broad: StarRings, flux_ratio: float | None = None) -> Mixture:
    """Gaussians that make the stars of one exposure those of another; () of too few stars.

    flux_ratio : light of the broad one's stars for that of the sharp one's, if it is known: what
        rings lack of it lies beyond them and was taken for sky, and the shares sum to less than 1
    """
    from scipy.optimize import nnls  # slow to load, and few commands need it

    _, one, other = np.intersect1d(sharp.numbers, broad.numbers, return_indices=True)
    if len(one) < _FEWEST:
        return ()
    smoothed, wanted = sharp.light[one], broad.light[other][:, 0]
    # Light of the broad for one of the sharp: their noises are compared in one unit.
    flux = float(np.median(wanted.sum(axis=1) / smoothed[:, 0].sum(axis=1)))
    if not flux > 0:
        return ()
    doubt = np.hypot(broad.noise, flux * sharp.noise)[None, :]
    doubt = np.hypot(doubt, _MISFIT * np.abs(wanted).sum(axis=1, keepdims=True)).ravel()
    columns = np.moveaxis(smoothed, 1, -1).reshape(-1, smoothed.shape[1]) / doubt[:, None]
    aim = wanted.ravel() / doubt
    root = np.ones_like(aim)
    for _ in range(_REFITS):
        shares, _ = nnls(columns * root[:, None], aim * root)
        left = np.abs(columns @ shares - aim)
        root = np.sqrt(np.minimum(1.0, _OUTLYING / np.maximum(left, 1e-9)))
    total = float(shares.sum())
    if not total > 0:
        return ()
    kept = shares / total >= _LEAST_SHARE
    whole = total if flux_ratio is None else flux_ratio
    if abs(total / whole - 1) > _MOST_BEYOND:
        whole = total
    rounded = np.round(shares[kept] / shares[kept].sum() * total / whole, _DIGITS)
    return tuple(zip(rounded.tolist(), np.array(sharp.sigmas_px)[kept].tolist(), strict=True))
