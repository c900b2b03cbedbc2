"""Light of an exposure that is drawn towards what the others show: its errors hold that.

Where a pixel alone does not tell the two apart a network sees their mean, and rehearsals know
nothing of it: they draw frame and twin from one scene. So the two are compared over a few pixels,
and where they differ beyond chance what the result lacks of the exposure's light, or has too much,
is added to its error. Planes are (1, 1, rows, cols), in the frame's unit.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.exposures.lights import as_exposure, law_of, plane_of, valid_of
from dip_pipeline.restoration.forward.optics import Plane
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import root_of, scatter_left
from dip_pipeline.restoration.problem import Problem, Restored
from dip_pipeline.sensor import NoiseKind

_OVER_PX = (1.0, 1.5)  # over which the two are compared: about a star
_BEYOND_CHANCE = 3.0  # standard deviations of what is smoothed
_OF_SMOOTHED = 1.5  # a star's light over what a mean over about its width has of it
_BESIDE_PX = 3
_MOST = 5.0  # sigma, that one pixel counts for at most: a cosmic ray of the frame is no lack of it


def with_leaning(problem: Problem, restored: Restored) -> Restored:
    """Widen the errors of a problem with a twin by what its result was drawn towards that."""
    twin = problem.twin
    known = np.isfinite(restored.science)
    if twin is None or problem.noise.kind is NoiseKind.NONE or not known.any():
        return restored
    both = valid_of(as_exposure(problem)) & np.isfinite(twin.pixels) & (twin.error > 0)
    sigma = _sigma_of(problem, restored.science)
    noise = np.hypot(sigma, np.where(both, twin.error, 1.0))
    apart = np.where(both, problem.pixels, 0.0) - np.where(both, twin.pixels, 0.0)
    inner = problem.inner
    lacking = np.where(both[inner] & known, problem.pixels[inner] - restored.science, 0.0)
    most = _MOST * sigma[inner]
    lacking = np.clip(lacking, -most, most)
    root = root_of(problem.noise.correlation)
    leaning = _leaning(plane_of((apart / noise)[inner]), plane_of(lacking), root)
    error = np.hypot(restored.error, leaning[0, 0].numpy()).astype(np.float32)
    return replace(restored, error=error)


def _sigma_of(problem: Problem, science: Plane) -> np.ndarray:
    """Noise of each pixel, (rows, cols), by light that holds none of its own.

    science : of the inner rows and columns
    """
    exposure = as_exposure(problem)
    level = np.full(problem.pixels.shape, np.median(science[np.isfinite(science)]), np.float64)
    level[problem.inner] = np.where(np.isfinite(science), science, level[problem.inner])
    variance = law_of(exposure).variance(plane_of(level)).clamp(min=0.0)
    sigma: np.ndarray = variance.sqrt().expand(1, 1, *level.shape)[0, 0].numpy()
    return sigma


def _leaning(apart: Tensor, lacking: Tensor, root: Tensor | None) -> Tensor:
    """Give what the result lacks of the frame where that and its twin differ.

    apart : frame less twin, in standard deviations; lacking : frame less result
    """
    most = torch.zeros_like(lacking)
    for over_px in _OVER_PX:
        far = smooth(apart, over_px) / scatter_left(over_px, root)
        lack = smooth(lacking, over_px)
        drawn = (far.abs() > _BEYOND_CHANCE) & (far * lack > 0)
        most = torch.maximum(most, torch.where(drawn, lack.abs(), 0.0))
    return _OF_SMOOTHED * nnf.max_pool2d(most, _BESIDE_PX, stride=1, padding=_BESIDE_PX // 2)
