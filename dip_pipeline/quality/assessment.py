"""All figures of one restored frame, as values, JSON and a table."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dip_pipeline.quality.evidence import Evidence, Truth
from dip_pipeline.quality.photometry import FluxBias, flux_bias
from dip_pipeline.quality.residuals import (
    Coverage,
    ResidualNoise,
    chi_square,
    coverage,
    residual_noise,
)
from dip_pipeline.quality.seams import PASS_AT, SeamReport, seam_test


@dataclass(frozen=True, slots=True)
class TruthFigures:
    """Figures that need the truth; noise in units of the true sigma.

    restored : residual noise over all unsaturated pixels
    input_rms : the same of the observed frame, over pixels that are not masked
    flux : change of flux of stars by signal-to-noise ratio
    covered, on_source, off_source : coverage of the error plane, where there is one
    """

    restored: ResidualNoise
    input_rms: float
    flux: tuple[FluxBias, ...] = ()
    covered: Coverage | None = None
    on_source: Coverage | None = None
    off_source: Coverage | None = None

    @property
    def fraction(self) -> float:
        """Residual noise as a fraction of the input's."""
        return self.restored.rms / self.input_rms if self.input_rms > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything measured of one restored frame.

    chi_square : mean square of (observed - restored) / sigma over pixels that are not masked
    estimated_noise : what the restoration itself says its residual noise is, without the truth
    truth : figures against the truth, where it is known
    seams : tile borders against the interior, where borders were given
    """

    chi_square: float
    estimated_noise: float | None = None
    truth: TruthFigures | None = None
    seams: SeamReport | None = None

    def to_json(self) -> str:
        """Return one JSON document; numbers that are not finite become null."""
        document = asdict(self)
        if self.truth is not None:
            document["truth"]["fraction"] = self.truth.fraction
        if self.seams is not None:
            document["seams"]["passed"] = self.seams.passed
        return json.dumps(_plain(document), indent=2, allow_nan=False)

    def table(self) -> str:
        """Lines of text for a person, without markup."""
        rows: list[tuple[str, str]] = []
        if self.truth is not None:
            rows += _noise_rows(self.truth)
        if self.estimated_noise is not None:
            rows.append(("  as estimated without the truth", f"{self.estimated_noise:.3f}"))
        rows.append(("chi-square of the residual", f"{self.chi_square:.3f}"))
        if self.truth is not None:
            rows += _flux_rows(self.truth.flux) + _coverage_rows(self.truth)
        if self.seams is not None:
            rows += _seam_rows(self.seams)
        width = max(len(label) for label, _ in rows) + 2
        return "\n".join(f"{label:<{width}}{value}".rstrip() for label, value in rows)


def assess(
    evidence: Evidence,
    *,
    borders: tuple[Sequence[int], Sequence[int]] | None = None,
    estimated_noise: float | None = None,
) -> Assessment:
    """Measure a restored frame.

    borders : row and column indices of tile borders, for the seam test
    estimated_noise : the restoration's own estimate of its residual noise, to be shown beside
    """
    residual = evidence.residual
    return Assessment(
        chi_square=chi_square(residual),
        estimated_noise=estimated_noise,
        truth=None if evidence.truth is None else _against_truth(evidence, evidence.truth),
        seams=None if borders is None else seam_test(residual, *borders),
    )


def _against_truth(evidence: Evidence, truth: Truth) -> TruthFigures:
    restored, level = evidence.restored, truth.level
    noise = residual_noise(
        restored, level, truth.sigma, saturated=evidence.saturated, masked=evidence.masked
    )
    before = residual_noise(evidence.observed, level, truth.sigma, saturated=~evidence.usable)
    flux: tuple[FluxBias, ...] = ()
    if truth.stars is not None and truth.stars.size:
        flux = flux_bias(restored, level, truth.stars, truth.sigma, without=evidence.saturated)
    if evidence.error is None:
        return TruthFigures(noise, before.rms, flux)
    judged = np.isfinite(evidence.error)  # of what is filled nothing is claimed
    if evidence.saturated is not None:
        judged &= ~evidence.saturated
    covered, on_source, off_source = (
        coverage(restored, level, evidence.error, where=where)
        for where in (judged, judged & truth.on_source, judged & ~truth.on_source)
    )
    return TruthFigures(noise, before.rms, flux, covered, on_source, off_source)


def _noise_rows(figures: TruthFigures) -> list[tuple[str, str]]:
    noise = figures.restored
    return [
        ("residual noise / input's", f"{figures.fraction:.3f}"),
        (
            "  in units of the true sigma",
            f"{noise.rms:.3f}  ({noise.pixels} pixels, {noise.flagged_share:.1%} flagged)",
        ),
    ]


def _flux_rows(flux: tuple[FluxBias, ...]) -> list[tuple[str, str]]:
    rows = []
    for row in flux:
        value = "no stars"
        if row.stars:
            error = "" if math.isnan(row.error) else f" +- {row.error:.1%}"
            value = f"{row.median:+.1%}{error}  ({row.stars} stars)"
        rows.append((f"flux bias at S/N {row.snr_low:g}-{row.snr_high:g}", value))
    return rows


def _coverage_rows(figures: TruthFigures) -> list[tuple[str, str]]:
    places = (
        ("coverage of the error plane", figures.covered),
        ("  on source", figures.on_source),
        ("  off source", figures.off_source),
    )
    return [
        (label, f"{c.overall:.1%}  (tenths {c.range[0]:.1%} to {c.range[1]:.1%})")
        for label, c in places
        if c is not None
    ]


def _seam_rows(seams: SeamReport) -> list[tuple[str, str]]:
    if not seams.differences:
        return [("seams", "no tile border inside the frame to judge")]
    verdict = "none" if seams.passed else f"VISIBLE: a difference of {PASS_AT:g} or more"
    rows = [("seams", verdict)]
    rows += [
        (
            f"  between {d.along}, in standard errors",
            f"mean {d.mean:+.1f}, scatter {d.scatter:+.1f}, step {d.step:+.1f}",
        )
        for d in seams.differences
    ]
    return rows


def _plain(value: object) -> object:
    """Replace numbers that JSON does not know by None, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
