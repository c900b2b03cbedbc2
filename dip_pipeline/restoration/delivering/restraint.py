"""Restraint: where the networks know less than the pixel itself, keep (part of) the pixel.

A network smooths best where light is faint; in the cores of bright stars the observation is the
better estimate. Light that the networks lost is put back first. How much of each to take is then
measured, not assumed: in bins of brightness, the mixture of least estimated risk. And where the
observation contradicts the networks outright (the halo of a star brighter than any they were
fitted on), the observation is right.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.images.spectral import (
    NO_STARLIGHT,
    NOTHING_LOST,
    LostLight,
    StarLight,
)
from dip_pipeline.restoration.noise.correlation import scatter_left

_EDGES_SIGMA = (3.0, 10.0, 30.0, 100.0, 300.0)  # brightness above the sky, in local sigma
_FEWEST_PIXELS = 20
_SCALE_PX = 1.0  # over which a contradiction is looked for
_LEAST_SHARE = 0.1  # of the weight of the pixels around
_DOUBT, _DISBELIEF = 5.0, 8.0  # standard deviations of the smoothed residual
_GUIDE_DOUBT, _GUIDE_DISBELIEF = 3.0, 5.0  # the same, of an image that a guide had a part in


@dataclass(frozen=True, slots=True)
class Restraint:
    """Share of the network's correction that is taken, by brightness.

    knots : brightness in sigma, rising; shares : 0 (keep the pixel) to 1 (take the network's)
    lost : what is put back first
    """

    knots: tuple[float, ...] = (0.0,)
    shares: tuple[float, ...] = (1.0,)
    lost: LostLight = NOTHING_LOST

    def apply(
        self,
        estimate: Tensor,
        observed: Tensor,
        sigma: Tensor,
        trusted: Tensor,
        stars: StarLight = NO_STARLIGHT,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Mix estimate and observation where the pixel is trusted; planes (1, 1, rows, cols).

        noise : root of the noise's correlation; None for white noise
        """
        estimate = self.lost.put_back(estimate, observed, sigma, trusted, stars=stars, noise=noise)
        if min(self.shares) == 1.0:
            return estimate
        brightness = np.log1p(((estimate + stars.off) / sigma).clamp(min=0).cpu().numpy())
        share = np.interp(brightness, np.log1p(self.knots), self.shares).astype(np.float32)
        mixed = observed + torch.from_numpy(share).to(observed.device) * (estimate - observed)
        return torch.where(trusted > 0, mixed, estimate)


NO_RESTRAINT = Restraint()


def believable(
    estimate: Tensor, observed: Tensor, sigma: Tensor, trusted: Tensor, noise: Tensor | None
) -> Tensor:
    """Go back to the observation where the smoothed residual cannot be noise.

    All planes (1, 1, rows, cols), sky-sigma units; noise : the root of its correlation, None for
    white noise. From 5 to 8 standard deviations of the smoothed residual the observation takes
    over; pixels that are not trusted keep the estimate.
    """
    residual = trusted * (observed - estimate)
    share = _belief(residual / sigma, trusted, noise, (_DOUBT, _DISBELIEF))
    return estimate + (1 - share) * residual


def borne_out(
    guided: Tensor, observed: Tensor, sigma: Tensor, trusted: Tensor, noise: Tensor | None
) -> Tensor:
    """1 where the frame may bear out a guided image, 0 where it contradicts it; as `believable`.

    From 3 to 5 standard deviations of the smoothed residual: what is only in a guide ends there.
    """
    residual = trusted * (observed - guided)
    return _belief(residual / sigma, trusted, noise, (_GUIDE_DOUBT, _GUIDE_DISBELIEF))


def _belief(
    residual: Tensor, trusted: Tensor, noise: Tensor | None, limits: tuple[float, float]
) -> Tensor:
    """1 where the smoothed residual, in sigma, may be noise, 0 where it cannot be."""
    doubt, disbelief = limits
    # Next to a hole fewer pixels add up; the square of a Gaussian is one of half the variance.
    share_there = smooth(trusted, _SCALE_PX / 2**0.5).clamp(min=_LEAST_SHARE)
    scatter = scatter_left(_SCALE_PX, noise) * torch.sqrt(share_there)
    seen = smooth(residual, _SCALE_PX).abs() / scatter
    return ((disbelief - seen) / (disbelief - doubt)).clamp(0.0, 1.0)


def least_risk(brightness: np.ndarray, squares: np.ndarray, responses: np.ndarray) -> Restraint:
    """Find the share of least estimated risk in each bin of brightness.

    brightness : (pixels,) in sigma
    squares : ((estimate - observed) / sigma)^2; responses : unbiased estimates of the
        derivative of the estimate by its own pixel
    With x_c = y + c (x - y), Stein's estimate of the risk is c^2 A - 1 + 2 (1 - c + c D), A and
    D the means of squares and responses; its minimum is at c = (1 - D) / A.
    """
    bins = np.digitize(brightness, _EDGES_SIGMA)
    knots, shares = [], []
    for index in range(len(_EDGES_SIGMA) + 1):
        members = bins == index
        if members.sum() < _FEWEST_PIXELS:
            continue
        best = (1 - responses[members].mean()) / max(float(squares[members].mean()), 1e-6)
        faint = index == 0  # up to its upper edge: few brighter ones say nothing of faint light
        knots.append(_EDGES_SIGMA[0] if faint else float(np.median(brightness[members])))
        shares.append(1.0 if faint else float(np.clip(best, 0.0, 1.0)))
    return Restraint(tuple(knots), tuple(shares)) if knots else NO_RESTRAINT
