"""What there is to say of the restoration of one frame, now or when it was done."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dip_pipeline.account.record import usual_failure
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import read_provenance
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.sensor import NoiseKind

log = logging.getLogger(__name__)

_SURE = 3.0  # standard errors


@dataclass(frozen=True, slots=True)
class RunReport:
    """How the restoration of one frame went.

    risk : estimated rms of (delivered - truth) / sigma, with its standard error
    failure : why most tiles that failed did, in words
    below_zero : how far the estimated mean square error is below what any can be; see `FrameRisk`
    flux_change : sum of (delivered - observed) over unmasked pixels, the frame's unit
    counts : whether its law is that of counts without read noise: of few no risk can be told
    combined : exposures that were combined into one; 1 where there are no others
    missing_tiles : of a part done: tiles that no shard has made yet
    """

    source: str
    target: Path
    status: Literal["restored", "already done", "part done"]
    tiles: int
    found_done: int
    failed_tiles: int
    risk: float
    risk_error: float
    noise: str
    flux_change: float
    seconds: float
    notes: tuple[str, ...] = ()
    failure: str = ""
    below_zero: float = 0.0
    counts: bool = False
    combined: int = 1
    missing_tiles: int = 0

    @property
    def judged_noise(self) -> str:
        """The noise that its risk is a share of, in words."""
        if self.combined == 1:
            return "the input's noise"
        return f"the noise of {self.combined} exposures combined"

    @property
    def ok(self) -> bool:
        """Whether every tile was restored."""
        return self.failed_tiles == 0


def with_failures_heard(report: RunReport) -> RunReport:
    """Log what nobody should miss; returns the report.

    Tiles that failed as an error, for an exit code of 1 is never silent; and as a warning an error
    that is larger than the input's noise.
    """
    if report.risk - _SURE * report.risk_error > 1:  # False where either is NaN
        log.warning(
            "%s: the estimated error is %.2f times %s, more than observed pixels have: are noise, "
            "sampling and PSF the frame's own?",
            *(report.source, report.risk, report.judged_noise),
        )
    warn_of_refuted_law(report)
    if report.failed_tiles:
        log.error(
            "%s: %d of %d tiles failed%s: copied from the input, flag %d",
            *(report.source, report.failed_tiles, report.tiles),
            *(report.failure and f" ({report.failure})", PixelFlag.TILE_FAILED),
        )
    return report


def warn_of_refuted_law(report: RunReport) -> RunReport:
    """Warn where the estimated error shows that the noise is not what its law says."""
    if report.below_zero and report.counts:
        log.warning(
            "%s: the estimated mean square error is -%.2g, which none can be: its counts are too "
            "few for it, or not of photons alone; no risk can be told",
            *(report.source, report.below_zero),
        )
    elif report.below_zero:
        log.warning(
            "%s: the estimated mean square error is -%.2g, which none can be: the pixels have less "
            "noise than their law says, or of another kind (resampled, outliers); no risk can be "
            "told, and noise may come back inverted; check gain, read noise, NCOMBINE, and what "
            "was done to the pixels",
            report.source,
            report.below_zero,
        )
    return report


def kept_words(tiles: Sequence[Mapping[str, object]]) -> str:
    """Say how many pixels are sharper than light, "" where none is; tiles : as on record."""
    told = (tile.get("kept_pixels") for tile in tiles)
    kept = sum(number for number in told if isinstance(number, int))
    if not kept:
        return ""
    return (
        f"{kept} pixels are sharper than light (hot pixels, cosmic rays): left as they were "
        "observed; --find-cosmics takes such as masked"
    )


def warn_of_doubted(tiles: Sequence[Mapping[str, object]], source: str) -> None:
    """Warn of pixels that no light explains through the PSF; tiles : as on record."""
    told = (tile.get("doubted_pixels") for tile in tiles)
    if doubted := sum(number for number in told if isinstance(number, int)):
        log.warning(
            "%s: around %d pixels the scene is darker than the sky can be: no light looks like the "
            "frame there through this PSF (bad pixels that no mask names, wings that the PSF "
            "lacks, a PSF too wide); they have no error and flag %d; look at them, and name "
            "what is bad by --dq",
            *(source, doubted, PixelFlag.LOW_CONFIDENCE),
        )


def already_done(source: str, target: Path) -> RunReport:
    """Report on a finished product from its own record."""
    found = read_provenance(target)
    tiles = [] if found is None else found.tiles
    cards = {} if found is None else {card[0]: card[1] for card in found.cards}
    # Of all planes together: cards are those of the first.
    made = {} if found is None else facts_of(found.document, "product")
    risk, error = (made.get(name) for name in ("risk_rms", "risk_standard_error"))
    below_zero, combined = made.get("mean_square_below_zero"), cards.get("DIPNEXP")
    return RunReport(
        source=source,
        target=target,
        status="already done",
        tiles=len(tiles),
        found_done=len(tiles),
        failed_tiles=sum(bool(tile["failed"]) for tile in tiles),
        failure=usual_failure(tiles),
        risk=risk if isinstance(risk, float) else float("nan"),
        risk_error=error if isinstance(error, float) else float("nan"),
        noise=str(cards.get("DIPNOISE", "")),
        flux_change=0.0,
        seconds=0.0,
        below_zero=below_zero if isinstance(below_zero, float) else 0.0,
        counts=cards.get("DIPNOISE") == NoiseKind.POISSON,
        combined=combined if isinstance(combined, int) else 1,
    )
