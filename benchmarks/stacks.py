"""Peers of the combination: drizzle and a mean stack, and both put through our denoiser."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from drizzle.resample import Drizzle
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from benchmarks.dithers import FACTOR, Dithers, Plane
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.restore import restore
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_kernel import NoiseKernel

_DRAWS = 8
_REACH_PX = 8

Stack = Callable[[Sequence[Plane]], Plane]


def peers(drawn: Dithers) -> dict[str, Stack]:
    """Linear stacks of planes without a sky, DN a fine pixel."""
    return {
        "drizzle, pixfrac 1": lambda planes: _drizzled(drawn, planes, 1.0),
        "drizzle, pixfrac 0.6": lambda planes: _drizzled(drawn, planes, 0.6),
        "mean stack, spline": lambda planes: _mean(drawn, planes),
    }


def _drizzled(drawn: Dithers, planes: Sequence[Plane], pixfrac: float) -> Plane:
    """Fruchter & Hook 2002, by the package drizzle; struck pixels weigh nothing."""
    side = planes[0].shape[0]
    drizzle = Drizzle(out_shape=drawn.truth.shape, kernel="square", fillval="0")
    row, col = np.mgrid[0:side, 0:side].astype(np.float64)
    for plane, hit, shift in zip(planes, drawn.hit, drawn.shifts_px, strict=True):
        places = [(at + by + 0.5) * FACTOR - 0.5 for at, by in zip((row, col), shift, strict=True)]
        drizzle.add_image(
            plane.astype(np.float32),
            exptime=1.0,
            pixmap=np.stack(places[::-1], axis=-1),
            weight_map=(~hit).astype(np.float32),
            pixfrac=pixfrac,
            scale=1.0,
            in_units="cps",
        )
    return np.asarray(drizzle.out_img, np.float64) / FACTOR**2


def _mean(drawn: Dithers, planes: Sequence[Plane]) -> Plane:
    """Read every exposure at the fine pixels by a cubic spline; mean of those not struck there."""
    row, col = np.mgrid[0 : drawn.truth.shape[0], 0 : drawn.truth.shape[1]]
    total: Plane = np.zeros(drawn.truth.shape)
    weight: Plane = np.full(drawn.truth.shape, 1e-9)
    for plane, hit, shift in zip(planes, drawn.hit, drawn.shifts_px, strict=True):
        places = [(at + 0.5) / FACTOR - 0.5 - by for at, by in zip((row, col), shift, strict=True)]
        filled = np.where(hit, _around(plane, hit), plane)
        good = map_coordinates((~hit).astype(float), places, order=1, mode="nearest") > 0.99
        value = map_coordinates(filled, places, order=3, mode="nearest")
        total, weight = total + good * value, weight + good
    return total / weight / FACTOR**2


def _around(plane: Plane, hit: NDArray[np.bool_]) -> Plane:
    """Mean of the pixels around that are not hit."""
    seen, known = (
        torch.from_numpy(np.ascontiguousarray(each, np.float64))[None, None]
        for each in (np.where(hit, 0, plane), ~hit)
    )
    mean: Plane = (smooth(seen, 1.0) / smooth(known, 1.0).clamp(min=1e-6))[0, 0].numpy()
    return mean


def denoised(drawn: Dithers, stack: Stack, plain: Plane, steps: int | None) -> Plane:
    """Put a stack through our denoiser, told its error plane and correlation."""
    rng = np.random.default_rng([drawn.seed, 0xDA])
    draws = np.array(
        [stack([each * rng.standard_normal(each.shape) for each in drawn.sigma])]
        + [
            stack([each * rng.standard_normal(each.shape) for each in drawn.sigma])
            for _ in range(_DRAWS - 1)
        ]
    )
    error = np.sqrt(_smoothed((draws**2).mean(axis=0), 2.0))
    noise = NoiseModel(
        NoiseKind.GAUSSIAN, "draws", from_error_plane=True, correlation=_kernel(draws / error)
    )
    nothing = np.zeros(plain.shape, bool)
    problem = Problem(
        pixels=plain.astype(np.float32),
        error=error.astype(np.float32),
        masked=nothing,
        saturated=nothing,
        noise=noise,
        options=FitOptions(steps=steps, flux_scale_px=FitOptions().flux_scale_px * FACTOR),
        seed=drawn.seed,
    )
    prior = fit_prior([problem], plain.shape, seed=drawn.seed)
    return restore(problem, prior).science.astype(np.float64)


def _smoothed(plane: Plane, sigma_px: float) -> Plane:
    smoothed: Plane = smooth(torch.from_numpy(plane)[None, None], sigma_px)[0, 0].numpy()
    return smoothed


def _kernel(draws: Plane) -> NoiseKernel:
    """Correlation by lag of draws of unit variance."""
    size = [side + _REACH_PX for side in draws.shape[1:]]
    lags = np.arange(-_REACH_PX, _REACH_PX + 1)
    power = (np.abs(np.fft.rfft2(draws, size)) ** 2).mean(axis=0)
    pairs = np.abs(np.fft.rfft2(np.ones(draws.shape[1:]), size)) ** 2
    table = (np.fft.irfft2(power, size) / np.fft.irfft2(pairs, size).clip(1))[np.ix_(lags, lags)]
    return NoiseKernel.from_correlation(table / table[_REACH_PX, _REACH_PX], "draws")
