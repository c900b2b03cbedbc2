"""Guides: other images of the same sky, on the frame's pixels, with less noise than the frame.

A guide is laid out as planes (batch, 2 * guides, rows, cols): first the values of all guides above
their sky, in units of their own noise, then where each is known. Sources that the frame misses are
taken off it, and their places filled from around: the guide shows nothing there, as the frame does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.forward.optics import Plane
from dip_pipeline.restoration.images.lone_sources import (
    Image,
    Peaks,
    at_places,
    find_peaks,
    missed_by_frame,
    usual_ratio,
    without_peaks,
)
from dip_pipeline.restoration.images.smoothing import fill_unknown
from dip_pipeline.restoration.problem import Problem
from dip_pipeline.restoration.stars.star_grid import Places
from dip_pipeline.sensor import estimate_sigma

_LEAST_NOISE = 0.01  # of the scatter of its pixels: drawn pictures have none
_SOURCE_PX = 1.5
_MIDDLE = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
_CROSS = ndimage.generate_binary_structure(2, 1).astype(np.float64)
_CROSS_NOISE = 1.25**0.5  # of a pixel less the mean of its four neighbours, in sigma
_DARK_SIGMA = 3.0
_MOST_SIGMA = 5.0  # of a guide's differences
_FEWEST_DARK = 500  # pixels
_SHARED_NOISE = 0.6  # of its variance, at least, stays where a guide has none of it

NO_STARS: Places = np.zeros((0, 3))

# Light of a problem's frame above the sky, and its sigma, (rows, cols), sky-sigma units.
Seen = Callable[[Problem], tuple[Image, Image]]


@dataclass(frozen=True, slots=True)
class GuideScale:
    """Level of a guide's sky and its noise, in the guide's unit.

    ratio : what the light of its sources usually is in the frame, in sigma of the sky for one of
        the guide's; 0 where it is not known
    """

    level: float
    sigma: float
    ratio: float = 0.0


def measure_guides(problems: Sequence[Problem], seen: Seen) -> tuple[GuideScale, ...]:
    """Level, noise and ratio of each guide over some regions of a frame; robust.

    Raises RestorationError for a guide that has the frame's own noise.
    """
    for number in range(len(problems[0].guides)):
        _check_noise(number, problems, seen)
    return tuple(
        _measured(problems, [problem.guides[number] for problem in problems], seen)
        for number in range(len(problems[0].guides))
    )


class GuidePlanes(NamedTuple):
    """Planes of a problem's guides, (1, 2 * guides, rows, cols).

    starless : without the light of stars that were taken off the frame
    starry : with it; the same planes where there are no such stars
    """

    starless: Tensor
    starry: Tensor


def lay_out_guides(
    problem: Problem, scales: Sequence[GuideScale], seen: Seen, shown: Places = NO_STARS
) -> GuidePlanes | None:
    """Lay out a problem's guides; None without guides.

    shown : stars that were taken off the frame
    """
    if not scales:
        return None
    starless, starry, known = [], [], []
    for plane, scale in zip(problem.guides, scales, strict=True):
        light = _light(plane, scale)
        told = _plane(np.isfinite(light))
        known.append(told)
        if not (scale.ratio or len(shown)):
            starry.append(told * _filled(light))  # no source of it can be told
            continue
        peaks = _peaks(light, problem, seen)
        missed = missed_by_frame(peaks, scale.ratio)
        starry.append(told * _filled(without_peaks(light, peaks, missed)))
        if len(shown):
            missed |= at_places(peaks, shown[:, 1], shown[:, 2])
            starless.append(told * _filled(without_peaks(light, peaks, missed)))
    every = torch.cat([*starry, *known], dim=1)
    return GuidePlanes(torch.cat([*starless, *known], dim=1) if len(shown) else every, every)


def _filled(light: Image) -> Tensor:
    """Fill what is NaN from around."""
    told = np.isfinite(light)
    return fill_unknown(_plane(np.where(told, light, 0.0)), _plane(told))


def _check_noise(number: int, problems: Sequence[Problem], seen: Seen) -> None:
    """Refuse a guide that holds the frame itself: alone, or in a stack of few.

    Whatever a guide of other light shows, the frame's noise stays where the two are compared. What
    is left of it between neighbouring pixels, of dark ones, is held against the noise law, and
    against the frame's own differences, which are smaller where its noise hangs together.
    """
    pairs = [_differences(problem, problem.guides[number], seen) for problem in problems]
    own, guide = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    # A cosmic ray of the guide must not decide how the two compare.
    limit = _MOST_SIGMA * _variance(guide) ** 0.5 if guide.size else 0.0
    guide = np.clip(guide, -limit, limit)
    power = float(guide @ guide)
    if own.size < _FEWEST_DARK or power == 0:
        return
    left = own - float(own @ guide) / power * guide
    if _variance(left) < _SHARED_NOISE * min(1.0, _variance(own)):
        raise RestorationError(
            f"guide {number + 1}: has the noise of the frame itself, so it is the frame, or a "
            "stack of few with it; give an image that was made without the frame"
        )


def _differences(problem: Problem, plane: Plane, seen: Seen) -> tuple[Image, Image]:
    """Differences of dark pixels from the mean of their neighbours: frame's (in sigma), guide's."""
    light, doubt = seen(problem)
    both = [light / doubt, plane.astype(np.float64)]
    dark = problem.valid & np.isfinite(plane) & (np.abs(both[0]) < _DARK_SIGMA)
    dark = ndimage.binary_erosion(dark, _CROSS)
    found = []
    for values in both:
        around = ndimage.convolve(np.nan_to_num(values), _CROSS / 4 * (1 - _MIDDLE))
        found.append(((values - around) / _CROSS_NOISE)[dark])
    return found[0], found[1]


def _variance(values: Image) -> float:
    return float((1.4826 * np.median(np.abs(values))) ** 2)


def without_guides(guides: Tensor) -> Tensor:
    """Lay out the same guides as if nothing were known of them."""
    return torch.zeros_like(guides)


def _measured(problems: Sequence[Problem], planes: Sequence[Plane], seen: Seen) -> GuideScale:
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes]).astype(np.float64)
    if values.size == 0:
        return GuideScale(0.0, 1.0)
    level = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - level)))
    noises = np.array([estimate_sigma(plane) for plane in planes])
    noise = float(np.median(noises[np.isfinite(noises)])) if np.isfinite(noises).any() else 0.0
    sigma = max(noise, _LEAST_NOISE * scatter) or float(np.std(values)) or 1.0
    scale = GuideScale(level, sigma)
    peaks = [
        _peaks(_light(plane, scale), problem, seen)
        for plane, problem in zip(planes, problems, strict=True)
    ]
    ratios, errors = (
        np.concatenate([getattr(one, name) for one in peaks]) for name in ("ratios", "errors")
    )
    return GuideScale(level, sigma, usual_ratio(ratios, errors))


def _peaks(light: Image, problem: Problem, seen: Seen) -> Peaks:
    frame, doubt = seen(problem)
    # A mean over a source averages noise less well where neighbours share it.
    widened = problem.noise.correlation.passed(_taps()) ** 0.5
    return find_peaks(light, frame, widened * doubt, problem.valid)


def _light(plane: Plane, scale: GuideScale) -> Image:
    light: Image = (plane.astype(np.float64) - scale.level) / scale.sigma
    return np.where(np.isfinite(light), light, np.nan)


def _taps() -> Image:
    """Give the profile of a source, as far as the correlation of noise is concerned."""
    impulse = np.zeros((13, 13))
    impulse[6, 6] = 1.0
    taps: Image = ndimage.gaussian_filter(impulse, _SOURCE_PX)
    return taps


def _plane(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[None, None]
