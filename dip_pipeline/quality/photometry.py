"""Whether fluxes survive: aperture sums of known stars, before and after."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from photutils.aperture import CircularAperture

from dip_pipeline.quality.evidence import Image, Mask

RADIUS_PX = 4.0
SNR_BINS = ((5.0, 10.0), (10.0, 30.0), (30.0, 100.0), (100.0, 1000.0))
RESAMPLES = 400


@dataclass(frozen=True, slots=True, eq=False)
class FluxOffsets:
    """One element a star: its signal-to-noise ratio, and what restoration did to its flux.

    offset : (aperture sum restored - aperture sum truth) / flux of the star
    """

    snr: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FluxBias:
    """Median relative change of flux of the stars in one bin of signal-to-noise ratio.

    error : standard error of the median, from bootstrap resamples; NaN below two stars
    """

    snr_low: float
    snr_high: float
    median: float
    error: float
    stars: int


def flux_offsets(
    restored: Image,
    truth: Image,
    stars: NDArray[np.void],
    sigma_true: Image,
    *,
    radius_px: float = RADIUS_PX,
    without: Mask | None = None,
) -> FluxOffsets:
    """Measure each star in the restored frame and in the truth, in the same circle.

    stars : structured, with fields row, col, flux_dn. Stars whose circle leaves the frame or
    touches a pixel of `without` (saturated ones) are left out.
    """
    row_limit, col_limit = truth.shape[0] - 0.5 - radius_px, truth.shape[1] - 0.5 - radius_px
    inside = (
        (stars["row"] >= radius_px - 0.5)
        & (stars["row"] <= row_limit)
        & (stars["col"] >= radius_px - 0.5)
        & (stars["col"] <= col_limit)
    )
    found = stars[inside]
    if found.size == 0:
        return FluxOffsets(np.zeros(0), np.zeros(0))
    circles = CircularAperture(np.column_stack([found["col"], found["row"]]), r=radius_px)
    change = _sums(circles, restored.astype(np.float64) - truth)
    noise = np.sqrt(_sums(circles, sigma_true.astype(np.float64) ** 2))
    clean = np.ones(found.size, bool)
    if without is not None:
        clean = _sums(circles, without.astype(np.float64)) == 0
    flux = found["flux_dn"]
    return FluxOffsets((flux / noise)[clean], (change / flux)[clean])


def bin_offsets(
    offsets: FluxOffsets,
    bins: tuple[tuple[float, float], ...] = SNR_BINS,
    *,
    seed: int = 0,
) -> tuple[FluxBias, ...]:
    """Median and bootstrap error of the offsets in each bin; low end included, high end not."""
    rng = np.random.default_rng(seed)
    rows = []
    for low, high in bins:
        values = offsets.offset[(offsets.snr >= low) & (offsets.snr < high)]
        median = float(np.median(values)) if values.size else float("nan")
        error = float("nan")
        if values.size > 1:
            picks = rng.integers(0, values.size, (RESAMPLES, values.size))
            error = float(np.std(np.median(values[picks], axis=1), ddof=1))
        rows.append(FluxBias(low, high, median, error, int(values.size)))
    return tuple(rows)


def join_offsets(fields: list[FluxOffsets]) -> FluxOffsets:
    """Put the stars of several fields together, so that each bin has enough of them."""
    if not fields:
        return FluxOffsets(np.zeros(0), np.zeros(0))
    return FluxOffsets(
        np.concatenate([field.snr for field in fields]),
        np.concatenate([field.offset for field in fields]),
    )


def flux_bias(
    restored: Image,
    truth: Image,
    stars: NDArray[np.void],
    sigma_true: Image,
    *,
    bins: tuple[tuple[float, float], ...] = SNR_BINS,
    without: Mask | None = None,
) -> tuple[FluxBias, ...]:
    """Median of (aperture sum restored - truth) / flux in bins of signal-to-noise ratio.

    The circle has a radius of 4 pixels; the ratio is the star's flux over the square root of the
    sum of sigma_true^2 in it.
    """
    return bin_offsets(flux_offsets(restored, truth, stars, sigma_true, without=without), bins)


def _sums(circles: CircularAperture, image: NDArray[np.float64]) -> NDArray[np.float64]:
    sums, _ = circles.do_photometry(image, method="exact")
    return np.asarray(sums, np.float64)
