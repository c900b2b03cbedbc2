"""What a run leaves on record: what decides its pixels, what happened, the cards that tell."""

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from dip_pipeline import __version__
from dip_pipeline.config import RunConfig
from dip_pipeline.exposure_tallies import agreements
from dip_pipeline.frames import Card
from dip_pipeline.frames.prov_json import Document
from dip_pipeline.sensor import FROM_SCATTER, NoiseModel, Sourced
from dip_pipeline.stop_reason import StopReason

# Raised whenever the same configuration would give other pixels than before: finished tiles and
# products of another version are never taken for this one's.
ALGORITHM_VERSION = 45
_IMPOSSIBLE = 4.0  # standard errors of a mean square below zero
# Standard error of a sigma that is taken from the frame, relative; 0.6 to 1.2 % at 256 x 256 px.
_SIGMA_ERROR = 0.01
_MOST_NAMED = 998  # exposures beside the input, by a number of three digits


@dataclass(frozen=True, slots=True)
class FrameRisk:
    """Risk of a whole frame, pooled over its tiles.

    rms : estimated rms of (delivered - truth) / sigma; an upper bound where `bound`
    error : standard error of rms
    below_zero : how far a mean square is below what any error can be; the noise law is refuted
    """

    rms: float
    error: float
    bound: bool
    below_zero: float = 0.0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What happened in a run, for its record.

    input : name and place of the input file; companions : (role, where) of its other planes used
    moved_cards : cards that are not true of restored pixels; digests : sha256 by plane
    step : in which science is stored; None: exactly
    earlier : provenance of an input that was restored before
    planes : of several planes of one file, where each is, and what happened to it
    left : planes left as they are, and why
    optics : factor and PSF of a task that restores a scene of its own; left_out : what of the
        input cannot stand beside finer pixels
    exposures : what was combined with the input, and how it compares
    filters : of a raw mosaic, each restored by itself; None of no mosaic
    """

    run_id: str
    key: Mapping[str, object]
    config: RunConfig
    noise: NoiseModel
    network: str
    device: str
    tiles: Sequence[Mapping[str, object]]
    command_line: Sequence[str]
    prior: Mapping[str, object]
    seconds: float
    frame_pixels: int
    input: Mapping[str, object] = field(default_factory=dict)
    companions: Sequence[tuple[str, str]] = ()
    moved_cards: Sequence[Card] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    step: float | None = None
    earlier: Document | None = None
    planes: Sequence[tuple[str, "RunFacts"]] = ()
    left: Sequence[tuple[str, str]] = ()
    optics: Mapping[str, object] | None = None
    left_out: Sequence[str] = ()
    exposures: Sequence[Mapping[str, object]] = ()
    filters: str | None = None

    @property
    def scope(self) -> str:
        """What one network was fitted to: a tile, a frame, or a stack of planes."""
        return str(self.prior.get("scope", self.config.scope_in_force))

    @property
    def failed_tiles(self) -> int:
        """Tiles that were copied through."""
        return sum(bool(tile["failed"]) for tile in self.tiles)

    @property
    def flux_change(self) -> float:
        """Mean change a pixel times the pixels judged once: sum over the frame, its unit."""
        judged = _numbers(self.tiles, "judged_pixels").sum()
        change = float(_numbers(self.tiles, "flux_change").sum())
        return float(change * min(1.0, self.frame_pixels / judged)) if judged > 0 else 0.0


def run_key(
    config: RunConfig,
    input_digest: str,
    selector: str | None,
    *,
    prior_digest: str | None = None,
    companions: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """All that decides the pixels of a product.

    prior_digest : sha256 of the prior file that is applied
    companions : sha256 of other files that are read with the input, by name
    """
    beside = {"companions": dict(companions)} if companions else {}
    return {
        **beside,
        "algorithm": ALGORITHM_VERSION,
        "input": input_digest,
        "plane": selector or "",
        "prior": prior_digest or "",
        "configuration": config.pixel_key(),
    }


def risk_of(facts: RunFacts) -> FrameRisk:
    """Give the risk of a frame, what is not known of its noise included."""
    noise = facts.noise
    of_frame = noise.rung.startswith("estimated") or "scaled by" in noise.rung
    pedestal = noise.sensor.pedestal_dn
    of_frame |= pedestal is not None and pedestal.source == FROM_SCATTER
    doubt = 2 * _SIGMA_ERROR if of_frame else 0.0
    return pooled_risk(facts.tiles, facts.frame_pixels, noise_doubt=doubt)


def pooled_risk(
    tiles: Sequence[Mapping[str, object]], frame_pixels: int, *, noise_doubt: float = 0.0
) -> FrameRisk:
    """Pool the risks of the tiles; overlaps are counted once in the error.

    noise_doubt : standard error of the noise's variance, relative: a mean square is off by as much
    """
    risks, errors = _numbers(tiles, "risk"), _numbers(tiles, "risk_error")
    counts = _numbers(tiles, "judged_pixels")
    good = np.isfinite(risks) & np.isfinite(errors) & (counts > 0)
    total = float(counts[good].sum())
    if total == 0:
        return FrameRisk(math.nan, math.nan, bound=False)
    mean = float((counts * risks)[good].sum() / total)
    overlap = math.sqrt(max(1.0, total / frame_pixels))
    error = overlap * math.sqrt(float(((counts * errors)[good] ** 2).sum())) / total
    error = math.hypot(error, noise_doubt)
    if mean < -_IMPOSSIBLE * error:
        return FrameRisk(math.nan, math.nan, bound=False, below_zero=-mean)
    if mean <= error:  # the estimate scatters: all that can be said is how large it may be
        return FrameRisk(math.sqrt(max(mean, 0.0) + 2 * error), math.nan, bound=True)
    rms = math.sqrt(mean)
    return FrameRisk(rms, error / (2 * rms), bound=False)


def run_cards(facts: RunFacts) -> tuple[Card, ...]:
    """Cards of the science header that tell of a run."""
    config, sensor = facts.config, facts.noise.sensor
    risk = risk_of(facts)
    steps = [int(str(tile["steps"])) for tile in facts.tiles]
    risk_comment = "upper bound: " if risk.bound else "estimated "
    return (
        ("DIPVER", __version__, "dip-pipeline version"),
        ("DIPTASK", _task_words(config), "restoration task"),
        *_optics_cards(facts),
        *_exposure_cards(facts),
        ("DIPCFA", facts.filters, "filters of the mosaic, restored one by one"),
        ("DIPNOISE", str(facts.noise.kind), "noise law"),
        ("DIPNSRC", facts.noise.rung, "where it came from"),
        ("DIPSIGMA", _value(facts.noise.sigma), "noise sigma given or estimated, BUNIT"),
        ("DIPGAIN", _value(sensor.gain_e_per_dn), "gain used, e/DN"),
        ("DIPRDN", _value(sensor.read_noise_e), "read noise used, e"),
        ("DIPPED", _value(sensor.pedestal_dn), "pedestal used, DN"),
        ("DIPSKY", _value(sensor.subtracted_sky_dn), "sky taken away before, DN"),
        ("DIPNCOR", _neighbour_correlation(facts.noise), "correlation of noise, pixels 1 px apart"),
        ("DIPINPUT", config.fit.input, "network input"),
        ("DIPSCOPE", facts.scope, "what one network was fitted to"),
        ("DIPNET", facts.network, "network"),
        ("DIPSTEPS", max(steps, default=0), "steps of the longest fit"),
        ("DIPSTOP", usual_stop(facts.tiles), "most frequent stop reason"),
        ("DIPSEED", config.fit.seed, "run seed"),
        ("DIPTILE", config.tile_px, "largest side of a tile, px"),
        ("DIPOVLAP", config.tiles.overlap_px, "tile overlap, px"),
        ("DIPNTILE", len(facts.tiles), "tiles"),
        ("DIPNFAIL", facts.failed_tiles, "tiles copied through unrestored"),
        ("DIPRISK", finite_or_none(risk.rms), f"{risk_comment}rms of (delivered-truth)/sigma"),
        ("DIPRISKE", finite_or_none(risk.error), "standard error of DIPRISK"),
        ("DIPFLUX", config.fit.flux_scale_px, "flux closure scale, px; 0 is off"),
        ("DIPQSTEP", facts.step, "step of compressed pixels, BUNIT"),
        ("DIPDEV", facts.device, "device"),
        ("DIPRUN", facts.run_id, "run id"),
        ("DIPPRIOR", str(facts.key["prior"]) or None, "sha256 of the prior file applied"),
        ("DIPIN", str(facts.key["input"]), "sha256 of the input file"),
        ("DIPCFG", config.digest(), "sha256 of the configuration"),
    )


def is_lost(tile: Mapping[str, object]) -> bool:
    """Whether a tile was copied because its workers died, which another run may not see again."""
    return tile["stop_reason"] == StopReason.WORKER_LOST.name


def usual_failure(tiles: Sequence[Mapping[str, object]]) -> str:
    """Say why most of the tiles that failed did, in words; "" where none did."""
    reason = usual_stop([tile for tile in tiles if tile["failed"]])
    known = StopReason.__members__.get(reason)
    return "" if known is None else known.partition("; tile written")[0]


def usual_stop(tiles: Sequence[Mapping[str, object]]) -> str:
    """Why most tiles stopped; "" where there is none."""
    reasons = Counter(str(tile["stop_reason"]) for tile in tiles)
    return reasons.most_common(1)[0][0] if reasons else ""


def _optics_cards(facts: RunFacts) -> tuple[Card, ...]:
    """Cards that tell of the way from the scene to the pixels."""
    if facts.optics is None:
        return ()
    return (
        ("DIPFACT", facts.optics["factor"], "pixels for one of the input, each axis"),
        ("DIPPSF", facts.optics["psf"], "PSF that was undone"),
    )


def _task_words(config: RunConfig) -> str:
    return f"{config.task.name} each" if config.task.each else str(config.task.name)


def _exposure_cards(facts: RunFacts) -> tuple[Card, ...]:
    """Say how many exposures are in a product, or how many images guided it."""
    if guides := len(facts.config.task.guides):
        return (("DIPNGUID", guides, "other images that guided this one"),)
    if not facts.exposures:
        return ()
    if facts.config.task.each:
        return (("DIPNGUID", len(facts.exposures), "other exposures that guided this one"),)
    count = ("DIPNEXP", 1 + len(facts.exposures), "exposures combined, the input among them")
    names = exposure_names(facts)[: 1 + _MOST_NAMED]
    shares = {each.number: each.share for each in agreements(facts.tiles)}
    return (
        count,
        *(
            (f"DIPEX{number:03d}", name, "exposure combined")
            for number, name in enumerate(names, start=1)
        ),
        *(
            (f"DIPLO{number:03d}", round(shares[number - 1], 6), f"left out of DIPEX{number:03d}")
            for number in range(1, 1 + len(names))
            if number - 1 in shares
        ),
    )


def exposure_names(facts: RunFacts) -> list[str]:
    """Names of the files that were combined, the input's first."""
    own = PurePath(str(facts.input.get("file", ""))).name
    return [own, *(str(exposure["file"]) for exposure in facts.exposures)]


def software_versions() -> dict[str, object]:
    """Versions of all that may change a result."""
    from importlib.metadata import version

    return {
        "dip-pipeline": __version__,
        "algorithm": ALGORITHM_VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "astropy", "zarr")},
    }


def _numbers(tiles: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    values = [tile[name] for tile in tiles]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _neighbour_correlation(noise: NoiseModel) -> float:
    """Mean of both axes."""
    return round(sum(noise.correlation.neighbours) / 2, 4)


def _value(number: Sourced | None) -> float | None:
    return None if number is None else number.value


def finite_or_none(number: float) -> float | None:
    """Round a number for the record; None where it is none."""
    return round(number, 6) if math.isfinite(number) else None
