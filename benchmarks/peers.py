"""The rivals, each with the input it needs: unit noise, masked pixels interpolated first."""

import time
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import numpy as np
from bm3d import BM3DProfile, bm3d
from skimage.restoration import (
    cycle_spin,
    denoise_nl_means,
    denoise_wavelet,
    inpaint_biharmonic,
)

from benchmarks.fields import Field, Plane
from benchmarks.figures import residual_of
from benchmarks.restored import Restored, Settings, TracePoint
from benchmarks.stabilising import Values
from dip_pipeline.restoration.networks.published import Image, PublishedRecipe, fit_published

_LINEAR_SIGMA = 5.0  # up to here masked pixels are interpolated on a linear scale
_WINDOW_PERCENT = 99.99  # brighter pixels do not fit into the published network's 0 to 1


def with_bm3d(field: Field, settings: Settings) -> Restored:
    """BM3D between the transform to unit noise and its exact unbiased inverse.

    Told the power spectrum where the noise is correlated (Makinen, Azzari and Foi 2020, IEEE
    Trans. Image Process. 29, 8339).
    """
    spectrum: float | Values = 1.0
    if field.kernel is not None:
        transfer = np.fft.fft2(field.kernel, field.observed.shape)
        spectrum = np.abs(transfer) ** 2 * field.observed.size
    return _between_transforms(field, lambda values: _bm3d(values, spectrum, settings.threads))


def with_plain_bm3d(field: Field, settings: Settings) -> Restored:
    """BM3D that takes the noise for white, whatever it is."""
    return _between_transforms(field, lambda values: _bm3d(values, 1.0, settings.threads))


def with_non_local_means(field: Field, settings: Settings) -> Restored:
    """Non-local means of scikit-image; 5 x 5 patches and h = 0.8 were best on even seeds."""
    del settings  # it has one thread

    def denoise(values: Values) -> Values:
        restored: Values = denoise_nl_means(
            values, patch_size=5, patch_distance=6, h=0.8, sigma=1.0, fast_mode=True
        )
        return restored

    return _between_transforms(field, denoise)


def with_wavelets(field: Field, settings: Settings) -> Restored:
    """Hard thresholds on wavelets, averaged over shifts; the best of scikit-image on even seeds."""
    del settings  # it has one thread
    options = {
        "sigma": 1.0,
        "wavelet": "db2",
        "method": "VisuShrink",
        "mode": "hard",
        "wavelet_levels": max(1, min(4, int(np.log2(min(field.observed.shape) / 8)))),
    }

    def denoise(values: Values) -> Values:
        restored: Values = cycle_spin(
            values, func=denoise_wavelet, max_shifts=3, func_kw=options, workers=1
        )
        return restored

    return _between_transforms(field, denoise)


def with_published_network(field: Field, settings: Settings, *, skip_channels: int = 4) -> Restored:
    """Fit the network of the paper by its recipe; delivers the running average.

    Brightest pixels, beyond its range of 0 to 1, are kept as observed.
    """
    values = stabilised(field)
    low, high = float(values.min()), float(np.percentile(values, _WINDOW_PERCENT))

    def delivered(image: Image) -> Plane:
        means = np.where(values > high, values, low + (high - low) * image[0])
        return field.stabiliser.inverse(means).astype(np.float32)

    def judge(image: Image) -> float:
        return -residual_of(field, delivered(image), ~field.saturated)

    fit = fit_published(
        (values[None] - low) / (high - low),
        recipe_for(settings, skip_channels),
        seed=field.seed,
        device=settings.device,
        judge=judge,
    )
    trace = tuple(TracePoint(look.seconds, -max(look.last, look.averaged)) for look in fit.looks)
    return Restored(delivered(fit.averaged), fit.seconds, trace=trace)


def recipe_for(settings: Settings, skip_channels: int) -> PublishedRecipe:
    """Take the published recipe, at another number of steps where one is asked for."""
    recipe = PublishedRecipe(skip_channels=skip_channels)
    return recipe if settings.steps is None else replace(recipe, steps=settings.steps)


def stabilised(field: Field) -> Values:
    """Pixels as values of unit noise; masked ones interpolated from their surroundings.

    By a biharmonic surface on an asinh scale, where the wings of stars are nearly straight: the
    best of six ways on even seeds.
    """
    known = ~field.masked
    typical = float(np.median(field.observed[known]))
    pixels = np.where(known, field.observed, typical).astype(np.float64)
    values = field.stabiliser.forward(pixels)
    if known.all():
        return values
    level = float(np.median(values))
    scaled = np.arcsinh((values - level) / _LINEAR_SIGMA)
    filled: Values = inpaint_biharmonic(scaled, field.masked)
    return np.where(known, values, _LINEAR_SIGMA * np.sinh(filled) + level)


def _between_transforms(field: Field, denoise: Callable[[Values], Values]) -> Restored:
    started = time.monotonic()
    science = field.stabiliser.inverse(denoise(stabilised(field)))
    return Restored(science.astype(np.float32), time.monotonic() - started)


def _bm3d(values: Values, spectrum: float | Values, threads: int) -> Values:
    profile = BM3DProfile()
    profile.num_threads = threads
    # bm3d 4.0.3 calls np.trapz for correlated noise; numpy 2.4 has only its new name.
    with mock.patch.object(np, "trapz", np.trapezoid, create=True):
        restored: Values = bm3d(values, spectrum, profile)
    return restored
