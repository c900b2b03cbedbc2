"""The figures of one restored field, against its truth; noise in units of the true sigma."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmarks.fields import Field, FieldKind, Mask, Plane
from benchmarks.restored import Restored, RiskEstimate
from dip_pipeline.quality import (
    Coverage,
    FluxOffsets,
    bin_offsets,
    coverage,
    flux_offsets,
    residual_noise,
)
from dip_pipeline.quality.photometry import FluxBias

FLUX_BINS = ((5.0, 10.0), (10.0, 30.0))
PEAK_SIGMA = 5.0
_SAME_PEAK_PX = 3
_KERNEL_RADIUS_PX = 12


@dataclass(frozen=True, slots=True)
class Covered:
    """Share of pixels within the error plane: over all that have one, and by tenth of it.

    unclaimed : share of unsaturated pixels without an error; they are left out
    """

    overall: float
    tenths: tuple[float, ...]
    on_source: tuple[float, ...]
    off_source: tuple[float, ...]
    unclaimed: float


@dataclass(frozen=True, slots=True)
class RiskCheck:
    """The restoration's own estimate of its mean square error, against the true one.

    allowed : 3 sqrt(2 / N) and the stated uncertainty
    """

    estimated: float
    stated_error: float
    true: float
    allowed: float

    @property
    def share(self) -> float:
        """Distance from the truth as a share of what is allowed: up to 1 is honest."""
        return abs(self.estimated - self.true) / self.allowed


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one restored field.

    residual : rms of (restored - truth) / sigma over all unsaturated pixels, flagged ones counted
    flagged_share : of the pixels counted
    unflagged : the same over pixels that were not flagged
    on_source : the same where the noiseless signal is above one sigma
    new_peaks : peaks of a field of pure noise that its input does not have

    Noise that the truth itself holds is taken off in quadrature.
    """

    residual: float
    flagged_share: float
    unflagged: float
    on_source: float
    flux: tuple[FluxBias, ...]
    covered: Covered | None = None
    risk: RiskCheck | None = None
    new_peaks: int | None = None


def judge(field: Field, restored: Restored) -> Figures:
    """Measure a restored field."""
    counted = ~field.saturated
    return Figures(
        residual=residual_of(field, restored.science, counted),
        flagged_share=float(field.masked[counted].mean()),
        unflagged=residual_of(field, restored.science, field.usable),
        on_source=residual_of(field, restored.science, counted & field.truth.on_source),
        flux=bin_offsets(star_offsets(field, restored.science), FLUX_BINS),
        covered=None
        if restored.error is None
        else _covered(field, restored.science, restored.error),
        risk=None if restored.risk is None else _risk_check(field, restored.science, restored.risk),
        new_peaks=new_peaks(field, restored.science) if field.kind is FieldKind.NOISE else None,
    )


def residual_of(field: Field, science: Plane, where: Mask) -> float:
    """Rms of (restored - truth) / sigma over some pixels, the truth's own noise taken off."""
    truth = field.truth
    rms = residual_noise(science, truth.level, truth.sigma, saturated=~where).rms
    if field.own_sigma is None or not where.any():
        return rms
    own = float(np.mean((field.own_sigma[where] / truth.sigma[where]) ** 2))
    return math.sqrt(max(rms**2 - own, 0.0))


def star_offsets(field: Field, science: Plane) -> FluxOffsets:
    """Measure what restoration did to the flux of each star of a field."""
    truth = field.truth
    if truth.stars is None or truth.stars.size == 0:
        return FluxOffsets(np.zeros(0), np.zeros(0))
    return flux_offsets(science, truth.level, truth.stars, truth.sigma, without=field.saturated)


def new_peaks(field: Field, science: Plane) -> int:
    """Count peaks above 5 times the input's matched-filter noise that the input does not have.

    Both are convolved with the PSF; a peak within 3 px of one of the input is the same one.
    """
    sky, sigma = float(np.median(field.truth.level)), float(np.median(field.truth.sigma))
    side = np.arange(-_KERNEL_RADIUS_PX, _KERNEL_RADIUS_PX + 1.0)
    kernel = field.psf.density(side[:, None], side[None, :])
    limit = PEAK_SIGMA * sigma * np.sqrt(np.sum(kernel**2))
    before, after = (
        _peaks(ndimage.convolve(image - sky, kernel, mode="mirror"), limit)
        for image in (field.observed.astype(np.float64), science.astype(np.float64))
    )
    known = ndimage.binary_dilation(before, iterations=_SAME_PEAK_PX)
    return int(np.count_nonzero(after & ~known))


def _peaks(filtered: np.ndarray, limit: float) -> Mask:
    highest = ndimage.maximum_filter(filtered, size=3)
    peaks: Mask = (filtered == highest) & (filtered > limit)
    return peaks


def _covered(field: Field, science: Plane, error: Plane) -> Covered:
    claimed = ~field.saturated & np.isfinite(error)
    on_source = field.truth.on_source
    everywhere, on, off = (
        coverage(science, field.truth.level, error, where=where)
        for where in (claimed, claimed & on_source, claimed & ~on_source)
    )
    return Covered(
        overall=everywhere.overall,
        tenths=_shares(everywhere),
        on_source=_shares(on),
        off_source=_shares(off),
        unclaimed=1 - float(claimed.sum() / (~field.saturated).sum()),
    )


def _shares(covered: Coverage) -> tuple[float, ...]:
    return tuple(tenth.share for tenth in covered.tenths if tenth.pixels)


def _risk_check(field: Field, science: Plane, estimate: RiskEstimate) -> RiskCheck:
    truth = field.truth
    found = residual_noise(science, truth.level, truth.sigma, saturated=~field.usable)
    return RiskCheck(
        estimated=estimate.mean_square,
        stated_error=estimate.error,
        true=found.rms**2,
        allowed=3 * math.sqrt(2 / found.pixels) + estimate.error,
    )
