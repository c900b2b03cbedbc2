"""The noise law of a frame that does not say: sky scatter, gain and dark level from its pixels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dip_pipeline.blind.bright_pixels import with_bright_pixels
from dip_pipeline.blind.correlation import SkyNoise
from dip_pipeline.blind.scatter import DETAIL, ScatterLine, measure_scatter
from dip_pipeline.blind.sky import Window
from dip_pipeline.sensor import (
    NO_PEDESTAL,
    NoiseKind,
    NoiseModel,
    Sensor,
    Sourced,
    estimate_sigma,
    estimated_noise,
    unit_counts_electrons,
)
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.sensor.noise_sigma import exposures_combined

_AGREEING = 0.3  # a header's gain that is off by less is believed


def estimate_noise(
    windows: Sequence[Window],
    sky: SkyNoise,
    kernel: NoiseKernel,
    sensor: Sensor,
    unit: str,
    *,
    one_sigma: bool = False,
) -> NoiseModel | None:
    """Estimate the law from the frame itself; None where its pixels do not scatter.

    sky : its noise as measured where there are no sources; kernel : the correlation in force
    one_sigma : whether a gaussian law is wanted whatever the scatter

    Where scatter grows with light significantly (that of plain pixels, or of bright ones about what
    their neighbours make of them), or the header names a gain that the scatter does not gainsay,
    the law is poisson-gaussian with the darkest level as pedestal and the scatter there as read
    noise (photons of the sky included: the two cannot be told apart); else it is gaussian, one
    sigma.
    """
    line = measure_scatter(windows)
    if line is None:
        sigma = _plain_sigma(windows)
        return estimated_noise(sigma, sensor, unit) if sigma > 0 else None
    scale = _true_variance(sky, kernel, line)
    named = _named_slope(line, scale, sensor, unit)
    if named is None and not one_sigma and kernel.is_white:
        line = with_bright_pixels(line, windows)
    if one_sigma or (named is None and not line.rises):
        return estimated_noise(float(np.sqrt(scale * line.floor)), sensor, unit)
    slope = scale * line.slope if named is None else named
    sensor = replace(sensor, subtracted_sky_dn=None)
    if named is None:
        gain = Sourced(1 / slope, _per(unit), "estimated from scatter against level")
        sensor = replace(sensor, gain_e_per_dn=gain, n_combined=None)
    return _darkest(line, scale, slope, sensor, unit)


def slope_of_scatter(
    windows: Sequence[Window], sky: SkyNoise, kernel: NoiseKernel
) -> tuple[float, float]:
    """Measure how fast variance grows with light, a unit of level, and its standard error.

    sky, kernel : as of `estimate_noise`. The error is infinite where the frame does not tell.
    """
    line = measure_scatter(windows)
    if line is None:
        return 0.0, float("inf")
    scale = _true_variance(sky, kernel, line)
    return scale * line.slope, scale * line.slope_error


def _darkest(
    line: ScatterLine, scale: float, slope: float, sensor: Sensor, unit: str
) -> NoiseModel:
    """Anchor the law at the darkest level: below it nothing was measured."""
    variance = scale * line.floor + slope * (line.darkest_level - line.sky_level)
    variance = max(variance, 0.25 * scale * line.floor)
    gain = sensor.gain_e_per_dn
    assert gain is not None
    read_noise_e = float(np.sqrt(variance * exposures_combined(sensor))) * gain.value
    return NoiseModel(
        NoiseKind.POISSON_GAUSSIAN,
        "estimated from the frame",
        sensor=replace(
            sensor,
            guesses=tuple(guess for guess in sensor.guesses if not guess.startswith(NO_PEDESTAL)),
            read_noise_e=Sourced(
                read_noise_e, "e", "estimated: scatter of the darkest sky, its photons included"
            ),
            pedestal_dn=Sourced(
                line.darkest_level, unit or "DN", "estimated: level of the darkest sky"
            ),
        ),
    )


def _true_variance(sky: SkyNoise, kernel: NoiseKernel, line: ScatterLine) -> float:
    """Variance of a pixel over that of the detail: 1 for white noise, more for smooth noise."""
    if kernel.is_white:
        return 1.0
    if np.isfinite(sky.sigma) and not sky.kernel.is_white:
        return float(sky.sigma**2 / line.floor)
    return 1 / max(kernel.passed(DETAIL), 1e-3)


def _named_slope(line: ScatterLine, scale: float, sensor: Sensor, unit: str) -> float | None:
    """Variance a unit of level by the header's gain, where the frame does not gainsay it."""
    if sensor.gain_e_per_dn is None or not unit_counts_electrons(unit):
        return None
    named = 1 / (sensor.gain_e_per_dn.value * exposures_combined(sensor))
    measured, error = scale * line.slope, scale * line.slope_error
    off = abs(measured - named)
    return named if off < max(3 * error, _AGREEING * named) else None


def _plain_sigma(windows: Sequence[Window]) -> float:
    """Scatter by second differences: for frames too small for more."""
    scatters = [
        estimate_sigma(np.where(window.good, window.pixels, np.nan).astype(np.float32))
        for window in windows
    ]
    known = [scatter for scatter in scatters if np.isfinite(scatter)]
    return float(np.median(known)) if known else 0.0


def _per(unit: str) -> str:
    return "e/DN" if unit_counts_electrons(unit) else f"e per {unit}"
