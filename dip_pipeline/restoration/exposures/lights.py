"""A problem's exposures in the light of the first, their skies taken off."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dip_pipeline.restoration.exposures.rejecting import Light
from dip_pipeline.restoration.forward.optics import Exposure
from dip_pipeline.restoration.forward.seeing import blurs_px, seeing_of
from dip_pipeline.restoration.noise.correlation import root_of
from dip_pipeline.restoration.noise.laws import NoiseLaw, law_for
from dip_pipeline.restoration.problem import Problem
from dip_pipeline.sensor.smooth_level import level_for_noise


def as_exposure(problem: Problem) -> Exposure:
    """Take the problem's own pixels as the first exposure."""
    return Exposure(
        pixels=problem.pixels,
        masked=problem.masked,
        saturated=problem.saturated,
        noise=problem.noise,
        error=problem.error,
        seeing=() if problem.optics is None else problem.optics.seeing,
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
        float(np.median((each.pixels - each.level_offset)[valid_of(each)])) / each.flux_scale
        for each in exposures
        if valid_of(each).any()
    ]
    return float(np.median(levels))


def unit_of(exposures: Sequence[Exposure], level: float) -> float:
    """Noise of a dark pixel of the first exposure that shows anything, in the first one's unit.

    Lights are told in this unit: in those of a file their variances may be 1e-40.
    """
    for exposure in exposures:
        valid = valid_of(exposure)
        if valid.any():
            dark = _own_level(exposure, level)
            variance = law_of(exposure).variance(plane_of(dark))[plane_of(valid)].median()
            noise = float(variance) ** 0.5 / exposure.flux_scale
            return noise if np.isfinite(noise) and noise > 0 else 1.0
    return 1.0


def in_common_light(exposures: Sequence[Exposure], level: float, unit: float) -> list[Light]:
    """Bring exposures to the light of the first.

    level : of the first's sky, its unit; unit : see `unit_of`
    """
    blurs = blurs_px(exposures)
    return [_in_light(*pair, level, unit) for pair in zip(exposures, blurs, strict=True)]


def _in_light(exposure: Exposure, blur_px: float, level: float, unit: float) -> Light:
    valid = valid_of(exposure)
    own_level, scale = _own_level(exposure, level), exposure.flux_scale * unit
    known = np.where(valid, exposure.pixels, own_level).astype(np.float64)
    return Light(
        pixels=plane_of((known - own_level) / scale).float(),
        valid=plane_of(valid).float(),
        law=law_of(exposure),
        flux_scale=scale,
        level=plane_of(own_level),
        matrix=exposure.matrix,
        shift_px=exposure.shift_px,
        blur_px=blur_px,
        seeing=seeing_of(exposure, blur_px),
        root=root_of(exposure.noise.correlation),
    )


def _own_level(exposure: Exposure, level: float) -> NDArray[np.float64]:
    """Level of its pixels where the first has that level, (rows, cols)."""
    offset = np.broadcast_to(exposure.level_offset, exposure.pixels.shape)
    return exposure.flux_scale * level + offset


def law_of(exposure: Exposure) -> NoiseLaw:
    """Give the noise law of its pixels, its own unit."""
    if exposure.error is None:
        return law_for(exposure.noise, None)
    # An error plane is known where it is finite and positive; noise is drawn nowhere else.
    usable = np.isfinite(exposure.error) & (exposure.error > 0)
    fallback = float(np.median(exposure.error[usable])) if usable.any() else 1.0
    known = np.where(usable, exposure.error, fallback)
    return law_for(exposure.noise, plane_of(known.astype(np.float64)))


def variance_of(light: Light, used: Tensor) -> Tensor:
    """Variance of each pixel at the level of its neighbours, see `level_for_noise`.

    used : pixels whose light counts, not 0
    """

    def at(level: NDArray[np.float64]) -> Tensor:
        return light.variance(plane_of(level).to(light.pixels.dtype)).clamp(min=0.0)

    def sigma_of(level: NDArray[np.float64]) -> NDArray[np.float64]:
        sigma: NDArray[np.float64] = np.sqrt(at(level)[0, 0].double().numpy())
        return sigma

    pixels, good = light.pixels[0, 0].numpy(), (used > 0)[0, 0].numpy()
    return at(level_for_noise(pixels, good, (slice(None), slice(None)), sigma_of))


def dark_variance(light: Light, used: Tensor) -> float:
    """Variance of its dark pixels: by it alone, stars of every brightness keep one shape."""
    variance = light.variance(torch.zeros_like(light.pixels))
    return float(variance[used > 0].median().clamp(min=1e-30))


def least_weight(lights: Sequence[Light], exposures: Sequence[Exposure]) -> float:
    """Weight of a pixel of the noisiest exposure that has any to use."""
    found = [
        1 / dark_variance(light, light.valid)
        for light, each in zip(lights, exposures, strict=True)
        if valid_of(each).any()
    ]
    return min(found)


def plane_of(values: np.ndarray) -> Tensor:
    """Lay an array out as (1, 1, rows, cols)."""
    return torch.from_numpy(np.ascontiguousarray(values))[None, None]
