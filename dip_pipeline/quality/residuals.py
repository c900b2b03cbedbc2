"""How far a restored frame is from its truth, and from its input."""

from dataclasses import dataclass

import numpy as np

from dip_pipeline.quality.evidence import Image, Mask


@dataclass(frozen=True, slots=True)
class ResidualNoise:
    """Root mean square of (restored - truth) / sigma_true, and what it was taken over.

    flagged_share : share of the counted pixels that were masked in the input
    """

    rms: float
    pixels: int
    flagged_share: float


@dataclass(frozen=True, slots=True)
class CoverageBin:
    """Share of pixels with |restored - truth| < error, among those with errors in a range."""

    error_low: float
    error_high: float
    share: float
    pixels: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage over all pixels and in each tenth of the error plane's own values."""

    overall: float
    tenths: tuple[CoverageBin, ...]

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest share of the tenths."""
        shares = [tenth.share for tenth in self.tenths if tenth.pixels]
        return (min(shares), max(shares)) if shares else (float("nan"), float("nan"))


def residual_noise(
    restored: Image,
    truth: Image,
    sigma_true: Image,
    *,
    saturated: Mask | None = None,
    masked: Mask | None = None,
) -> ResidualNoise:
    """Root mean square of (restored - truth) / sigma_true over all unsaturated pixels.

    Masked pixels are counted, since someone will look at them too; their share is given.
    A restored pixel that is not finite makes the result NaN: it is not passed over.
    """
    counted = np.ones(truth.shape, bool) if saturated is None else ~saturated
    pixels = int(counted.sum())
    if pixels == 0:
        return ResidualNoise(float("nan"), 0, float("nan"))
    ratio = (restored[counted].astype(np.float64) - truth[counted]) / sigma_true[counted]
    flagged = 0.0 if masked is None else float(masked[counted].mean())
    return ResidualNoise(float(np.sqrt(np.mean(ratio**2))), pixels, flagged)


def chi_square(residual: Image) -> float:
    """Mean square of a normalised residual over its finite pixels: 1 where only noise was taken.

    Far below 1 the restoration kept noise; above 1 it lost signal.
    """
    finite = residual[np.isfinite(residual)].astype(np.float64)
    return float(np.mean(finite**2)) if finite.size else float("nan")


def coverage(restored: Image, truth: Image, error: Image, *, where: Mask | None = None) -> Coverage:
    """Share of pixels whose restored value lies within its error of the truth.

    where : pixels to judge (on source, off source, unsaturated); None takes all. Exact Gaussian
    errors give 0.683 overall and in each tenth; infinite errors always cover.
    """
    chosen = np.ones(truth.shape, bool) if where is None else where
    errors = error[chosen].astype(np.float64)
    covered = np.abs(restored[chosen].astype(np.float64) - truth[chosen]) < errors
    order = np.argsort(errors, kind="stable")
    tenths = []
    for part in np.array_split(order, 10):
        low, high = (errors[part[0]], errors[part[-1]]) if part.size else (np.nan, np.nan)
        share = float(covered[part].mean()) if part.size else float("nan")
        tenths.append(CoverageBin(float(low), float(high), share, int(part.size)))
    overall = float(covered.mean()) if covered.size else float("nan")
    return Coverage(overall, tuple(tenths))
