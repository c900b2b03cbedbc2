"""A problem's exposures in the light of the first, their skies taken off."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.noise import law_for
from dip_pipeline.restoration.optics import Exposure
from dip_pipeline.restoration.problem import Problem
from dip_pipeline.restoration.rejecting import Light


def as_exposure(problem: Problem) -> Exposure:
    """Take the problem's own pixels as the first exposure."""
    return Exposure(
        pixels=problem.pixels,
        masked=problem.masked,
        saturated=problem.saturated,
        noise=problem.noise,
        error=problem.error,
    )


def valid_of(exposure: Exposure) -> np.ndarray:
    """Pixels that carry information, (rows, cols)."""
    valid: np.ndarray = ~exposure.masked & ~exposure.saturated & np.isfinite(exposure.pixels)
    return valid


def sky_of(problem: Problem, exposures: Sequence[Exposure]) -> float:
    """Typical level of the window, in the unit of the first: solved for is what differs from it."""
    if problem.valid.any():
        return float(np.median(problem.pixels[problem.valid]))
    levels = [
        float(np.median(each.pixels[valid_of(each)] - each.level_offset)) / each.flux_scale
        for each in exposures
        if valid_of(each).any()
    ]
    return float(np.median(levels))


def in_common_light(exposure: Exposure, level: float) -> Light:
    """Bring an exposure to the light of the first; level : of the first's sky, its unit."""
    valid = plane_of(valid_of(exposure)).float()
    own_level = exposure.flux_scale * level + exposure.level_offset
    known = np.where(valid_of(exposure), exposure.pixels, own_level).astype(np.float64)
    error = None
    if exposure.error is not None:
        # An error plane is known where it is finite and positive; noise is drawn nowhere else.
        usable = np.isfinite(exposure.error) & (exposure.error > 0)
        fallback = float(np.median(exposure.error[usable])) if usable.any() else 1.0
        error = plane_of(np.where(usable, exposure.error, fallback).astype(np.float64))
    return Light(
        pixels=plane_of((known - own_level) / exposure.flux_scale).float(),
        valid=valid,
        law=law_for(exposure.noise, error),
        flux_scale=exposure.flux_scale,
        level=own_level,
        matrix=exposure.matrix,
        shift_px=exposure.shift_px,
    )


def dark_variance(light: Light, used: Tensor) -> float:
    """Variance of its dark pixels: by it alone, stars of every brightness keep one shape."""
    variance = light.variance(torch.zeros_like(light.pixels))
    return float(variance[used > 0].median().clamp(min=1e-30))


def plane_of(values: np.ndarray) -> Tensor:
    """Lay an array out as (1, 1, rows, cols)."""
    return torch.from_numpy(np.ascontiguousarray(values))[None, None]
