"""What a run leaves on record: header cards, the provenance document, the tile table."""

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from dip_pipeline import __version__
from dip_pipeline.config import RunConfig
from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames import Card, Provenance
from dip_pipeline.sensor import NoiseModel, Sourced

# Raised whenever the same configuration would give other pixels than before: finished tiles and
# products of another version are never taken for this one's.
ALGORITHM_VERSION = 3

_HISTORY = "Denoised by dip-pipeline {version} (deep image prior): see DIP_PROV."


@dataclass(frozen=True, slots=True)
class FrameRisk:
    """Risk of a whole frame, pooled over its tiles.

    rms : estimated rms of (delivered - truth) / sigma; an upper bound where `bound`
    error : standard error of rms
    """

    rms: float
    error: float
    bound: bool


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What happened in a run, for its record.

    planes : of several planes of one file, where each is, and what happened to it
    left : planes left as they are, and why
    """

    run_id: str
    source: str
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
    planes: Sequence[tuple[str, "RunFacts"]] = ()
    left: Sequence[tuple[str, str]] = ()

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


def pooled_risk(tiles: Sequence[Mapping[str, object]], frame_pixels: int) -> FrameRisk:
    """Pool the risks of the tiles; overlaps are counted once in the error."""
    risks, errors = _numbers(tiles, "risk"), _numbers(tiles, "risk_error")
    counts = _numbers(tiles, "judged_pixels")
    good = np.isfinite(risks) & np.isfinite(errors) & (counts > 0)
    total = float(counts[good].sum())
    if total == 0:
        return FrameRisk(math.nan, math.nan, bound=False)
    mean = float((counts * risks)[good].sum() / total)
    overlap = math.sqrt(max(1.0, total / frame_pixels))
    error = overlap * math.sqrt(float(((counts * errors)[good] ** 2).sum())) / total
    if mean <= error:  # the estimate scatters: all that can be said is how large it may be
        return FrameRisk(math.sqrt(max(mean, 0.0) + 2 * error), math.nan, bound=True)
    rms = math.sqrt(mean)
    return FrameRisk(rms, error / (2 * rms), bound=False)


def describe_run(facts: RunFacts) -> Provenance:
    """Put a run on record."""
    return Provenance(
        cards=_cards(facts),
        history=_HISTORY.format(version=__version__),
        document=_document(facts),
        tiles=[dict(tile) for tile in sorted(facts.tiles, key=lambda t: int(str(t["tile"])))],
    )


def _cards(facts: RunFacts) -> tuple[Card, ...]:
    config, sensor = facts.config, facts.noise.sensor
    risk = pooled_risk(facts.tiles, facts.frame_pixels)
    reasons = Counter(str(tile["stop_reason"]) for tile in facts.tiles)
    steps = [int(str(tile["steps"])) for tile in facts.tiles]
    risk_comment = "upper bound: " if risk.bound else "estimated "
    return (
        ("DIPVER", __version__, "dip-pipeline version"),
        ("DIPTASK", "denoise", "restoration task"),
        ("DIPNOISE", str(facts.noise.kind), "noise law"),
        ("DIPSIGMA", _value(facts.noise.sigma), "noise sigma given or estimated, BUNIT"),
        ("DIPGAIN", _value(sensor.gain_e_per_dn), "gain used, e/DN"),
        ("DIPRDN", _value(sensor.read_noise_e), "read noise used, e"),
        ("DIPPED", _value(sensor.pedestal_dn), "pedestal used, DN"),
        ("DIPNCOR", _neighbour_correlation(facts.noise), "correlation of noise, pixels 1 px apart"),
        ("DIPINPUT", config.fit.input, "network input"),
        ("DIPSCOPE", config.fit.scope, "what one network was fitted to"),
        ("DIPNET", facts.network, "network"),
        ("DIPSTEPS", max(steps, default=0), "steps of the longest fit"),
        ("DIPSTOP", reasons.most_common(1)[0][0] if reasons else "", "most frequent stop reason"),
        ("DIPSEED", config.fit.seed, "run seed"),
        ("DIPTILE", config.tiles.size_px, "tile side, px"),
        ("DIPOVLAP", config.tiles.overlap_px, "tile overlap, px"),
        ("DIPNTILE", len(facts.tiles), "tiles"),
        ("DIPNFAIL", facts.failed_tiles, "tiles copied through unrestored"),
        ("DIPRISK", _finite(risk.rms), f"{risk_comment}rms of (delivered-truth)/sigma"),
        ("DIPRISKE", _finite(risk.error), "standard error of DIPRISK"),
        ("DIPFLUX", config.fit.flux_scale_px, "flux closure scale, px; 0 is off"),
        ("DIPDEV", facts.device, "device"),
        ("DIPRUN", facts.run_id, "run id"),
        ("DIPPRIOR", str(facts.key["prior"]) or None, "sha256 of the prior file applied"),
        ("DIPIN", str(facts.key["input"]), "sha256 of the input file"),
        ("DIPCFG", config.digest(), "sha256 of the configuration"),
    )


def _document(facts: RunFacts) -> dict[str, object]:
    risk = pooled_risk(facts.tiles, facts.frame_pixels)
    return {
        "software": software_versions(),
        "run": facts.run_id,
        "key": dict(facts.key),
        "command_line": list(facts.command_line),
        "configuration": facts.config.pixel_key(),
        "input": {"file": facts.source, "sha256": str(facts.key["input"])},
        "noise": _noise_facts(facts.noise),
        "prior": dict(facts.prior),
        **({"planes": [_plane_facts(*plane) for plane in facts.planes]} if facts.planes else {}),
        **({"left_as_they_are": [list(item) for item in facts.left]} if facts.left else {}),
        "risk": {
            "rms": _finite(risk.rms),
            "standard_error": _finite(risk.error),
            "upper_bound": risk.bound,
            "judge": _judge(facts),
        },
        "flux_change": facts.flux_change,
        "flags": {str(int(flag)): meaning for flag, meaning in FLAG_MEANINGS.items()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(facts.seconds, 2),
        "note": "Pixels are inferred, correlated, and not independent measurements: "
        "photometric errors come from the input frame.",
    }


def _plane_facts(where: str, facts: RunFacts) -> dict[str, object]:
    """Tell of one plane of several."""
    risk = pooled_risk(facts.tiles, facts.frame_pixels)
    return {
        "plane": where,
        "first_tile": min((int(str(tile["tile"])) for tile in facts.tiles), default=None),
        "tiles": len(facts.tiles),
        "noise": _noise_facts(facts.noise),
        "prior": dict(facts.prior),
        "risk": {
            "rms": _finite(risk.rms),
            "standard_error": _finite(risk.error),
            "upper_bound": risk.bound,
        },
        "flux_change": facts.flux_change,
    }


def _noise_facts(noise: NoiseModel) -> dict[str, object]:
    """Law, rung, and each number with its unit and source."""
    sensor = noise.sensor
    numbers = {
        "gain": sensor.gain_e_per_dn,
        "read_noise": sensor.read_noise_e,
        "pedestal": sensor.pedestal_dn,
        "saturation": sensor.saturation_dn,
        "subtracted_sky": sensor.subtracted_sky_dn,
        "n_combined": sensor.n_combined,
        "sigma": noise.sigma,
        "quantum": noise.quantum,
    }
    return {
        "law": str(noise.kind),
        "rung": noise.rung,
        "numbers": {
            name: {"value": item.value, "unit": item.unit, "source": item.source}
            for name, item in numbers.items()
            if item is not None
        },
        "correlation": {
            "neighbours": list(noise.correlation.neighbours),
            "root": [list(row) for row in noise.correlation.root],
            "source": noise.correlation.source,
        },
    }


def _judge(facts: RunFacts) -> str:
    """Say by what the risk was estimated."""
    if facts.noise.kind == "none":
        return "nothing: the noise is not known"
    if facts.config.fit.input == "code":
        return "fixed outer split"
    unseen = facts.prior.get("fitted_on_this_frame") is False
    networks = "networks of other frames" if unseen else "cross-fitted networks"
    return f"{networks}, Stein's estimate"


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


def _finite(number: float) -> float | None:
    return round(number, 6) if math.isfinite(number) else None
