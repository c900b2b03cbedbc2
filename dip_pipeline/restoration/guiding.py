"""Guides: other images of the same sky, on the frame's pixels, with less noise than the frame.

Flash and no-flash of Petschnigg et al. 2004 (ACM Trans. Graph. 23, 664); on the sky a broad band
for a narrow one, a stack for one exposure. A guide is laid out as planes (batch, 2 * guides, rows,
cols): first the values of all guides above their sky, in units of their own noise, then where each
is known. What only the guide shows must not enter the image, so the light of the image comes from
the frame alone: a guide says over which pixels to average, and how the average is to be shaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.problem import Problem
from dip_pipeline.restoration.smoothing import fill_unknown, smooth
from dip_pipeline.sensor import estimate_sigma

_SCALES_PX = (1.0, 2.0, 4.0)  # standard deviations of the smoothed copies of a guide
# Windows over which the frame is regressed on a guide, and on how many copies of it.
_WINDOWS_PX = ((1.5, 1), (3.0, 1), (2.0, 2))
CHANNELS = 2 + len(_SCALES_PX) + len(_WINDOWS_PX)  # features a guide adds
GAINS = len(_WINDOWS_PX)  # details a guide adds
_REGULAR = 1.0  # variance added to a guide's in a regression: that of its noise
_DOUBTED = 4.0  # chi-square, a regressor, that counts for nothing
_LEAST_NOISE = 0.01  # of the scatter of its pixels: drawn pictures have none


@dataclass(frozen=True, slots=True)
class GuideScale:
    """Level of a guide's sky and its noise, in the guide's unit."""

    level: float
    sigma: float


def measure_guides(problems: Sequence[Problem]) -> tuple[GuideScale, ...]:
    """Level and noise of each guide over some regions of a frame; robust."""
    return tuple(
        _measured([problem.guides[number] for problem in problems])
        for number in range(len(problems[0].guides))
    )


def _measured(planes: Sequence[np.ndarray]) -> GuideScale:
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes]).astype(np.float64)
    if values.size == 0:
        return GuideScale(0.0, 1.0)
    level = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - level)))
    noises = np.array([estimate_sigma(plane) for plane in planes])
    noise = float(np.median(noises[np.isfinite(noises)])) if np.isfinite(noises).any() else 0.0
    sigma = max(noise, _LEAST_NOISE * scatter) or float(np.std(values)) or 1.0
    return GuideScale(level, sigma)


def lay_out_guides(problem: Problem, scales: Sequence[GuideScale]) -> Tensor | None:
    """Planes of a problem's guides, (1, 2 * guides, rows, cols); None without guides."""
    if not scales:
        return None
    values, known = [], []
    for plane, scale in zip(problem.guides, scales, strict=True):
        seen = np.isfinite(plane)
        light = np.where(seen, (plane - scale.level) / scale.sigma, 0.0).astype(np.float32)
        shown = torch.from_numpy(seen.astype(np.float32))[None, None]
        values.append(fill_unknown(torch.from_numpy(light)[None, None], shown))
        known.append(shown)
    return torch.cat([*values, *known], dim=1)


def without_guides(guides: Tensor) -> Tensor:
    """Lay out the same guides as if nothing were known of them."""
    return torch.zeros_like(guides)


def guide_features(
    guides: Tensor, copies: Sequence[Tensor], sigma: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Features of the guides, and the details that they add to the image.

    copies : the frame and its smoothed copies; sigma : its noise
    Details are what a guide, fitted to the frame around each pixel, shows beyond the mean of the
    frame: nothing where the frame does not go along with it.
    """
    features, details = [], []
    values, known = guides.chunk(2, dim=1)
    for number in range(values.shape[1]):
        guide, shown = values[:, number : number + 1], known[:, number : number + 1]
        levels = [guide, *(smooth(guide, scale_px) for scale_px in _SCALES_PX)]
        features += [shown * torch.asinh(levels[-1] / 3), 1 - shown]
        for fine, coarse in pairwise(levels):
            features.append(shown * torch.asinh(fine - coarse))
        for window_px, regressors in _WINDOWS_PX:
            detail = shown * _regressed(copies[0], levels[:regressors], sigma, window_px)
            features.append(torch.asinh(detail / sigma))
            details.append(detail)
    return features, details


def _regressed(
    observed: Tensor, regressors: Sequence[Tensor], sigma: Tensor, window_px: float
) -> Tensor:
    """Give the guided filter's image less the mean of the frame around each pixel.

    Around each pixel the frame is a g + c h + b of the guide g and its smoothed copy h, which
    makes up for another point spread function. Where noise alone could do it a and c are shrunk, in
    the positive part manner of James and Stein; then they are averaged over the windows that hold
    the pixel. He et al. 2013, IEEE Trans. Pattern Anal. Mach. Intell. 35(6), 1397, equations 5 to
    8 and 19, with Gaussian windows.
    """
    weight = 1 / sigma**2
    total = smooth(weight, window_px)

    def mean(plane: Tensor) -> Tensor:
        return smooth(weight * plane, window_px) / total

    light, levels = mean(observed), [mean(one) for one in regressors]
    with_frame = [
        mean(observed * one) - light * level for one, level in zip(regressors, levels, strict=True)
    ]
    slopes = _solved(regressors, levels, with_frame, mean)
    # Chi-square of what is explained, for as many degrees of freedom as there are regressors.
    explained = torch.zeros_like(light)
    for slope, one in zip(slopes, with_frame, strict=True):
        explained = explained + slope * one
    explained = explained * total * (2 * torch.pi * window_px**2)
    belief = (1 - _DOUBTED * len(slopes) / explained.clamp(min=1e-6)).clamp(min=0.0)
    slopes = [belief * slope for slope in slopes]
    offset = light - sum(slope * level for slope, level in zip(slopes, levels, strict=True))
    image = smooth(offset, window_px) - smooth(observed, window_px)
    for slope, one in zip(slopes, regressors, strict=True):
        image = image + smooth(slope, window_px) * one
    return image


def _solved(
    regressors: Sequence[Tensor],
    levels: Sequence[Tensor],
    with_frame: Sequence[Tensor],
    mean: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Solve the normal equations of one or two regressors at every pixel."""
    first = mean(regressors[0] ** 2) - levels[0] ** 2 + _REGULAR
    if len(regressors) == 1:
        return [with_frame[0] / first]
    second = mean(regressors[1] ** 2) - levels[1] ** 2 + _REGULAR
    both = mean(regressors[0] * regressors[1]) - levels[0] * levels[1]
    determinant = (first * second - both**2).clamp(min=_REGULAR**2)
    return [
        (second * with_frame[0] - both * with_frame[1]) / determinant,
        (first * with_frame[1] - both * with_frame[0]) / determinant,
    ]
