"""The account of a run: one W3C PROV-JSON document, from which alone it can be done again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dip_pipeline import __version__
from dip_pipeline.account.record import (
    RunFacts,
    exposure_names,
    finite_or_none,
    risk_of,
    run_cards,
    software_versions,
    usual_stop,
)
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, FrameError
from dip_pipeline.exposure_tallies import agreements
from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames import Frame, Provenance, mosaic_of, read_provenance
from dip_pipeline.frames.prov_json import (
    Document,
    ProvBuilder,
    facts_of,
    flatten,
    names_of,
    unflatten,
)
from dip_pipeline.frames.provenance import digest_tiles
from dip_pipeline.frames.stale_cards import moved_cards
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.task import Task

_HISTORY = "{deed} by dip-pipeline {version} (deep image prior): see DIP_PROV."
_DEEDS = {
    Task.DENOISE: "Denoised",
    Task.INPAINT: "Inpainted",
    Task.SUPER_RESOLVE: "Super-resolved",
    Task.DECONVOLVE: "Deconvolved",
    Task.COMBINE: "Combined with further exposures",
}
_GUIDED = ", guided by other images,"
_EACH = "Restored with other exposures beside it"
_COMPANIONS = {
    "error": "error_plane",
    "variance": "error_plane",
    "weight": "error_plane",
    "flags": "mask",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that it takes to do a run again.

    source : input file with its HDU, as it lay then; sha256 : of that file
    prior_sha256 : of the prior file that the configuration names; "" without one
    beside : sha256 of further files that were read, by name or role
    versions : of all that may change a result
    """

    source: str
    sha256: str
    prior_sha256: str
    beside: Mapping[str, str]
    config: RunConfig
    versions: dict[str, Any]


def describe_run(facts: RunFacts) -> Provenance:
    """Put a run on record."""
    task = facts.config.task
    tiles = [dict(tile) for tile in sorted(facts.tiles, key=lambda t: int(str(t["tile"])))]
    deed = _EACH if task.each else _DEEDS.get(task.name, "Restored")
    deed += _GUIDED if task.guides else ""
    return Provenance(
        cards=run_cards(facts),
        history=_HISTORY.format(deed=deed, version=__version__),
        document=_document(facts, tiles),
        tiles=tiles,
    )


def _document(facts: RunFacts, tiles: Sequence[Mapping[str, object]]) -> Document:
    """Say as PROV-JSON what was made of what, by what, and how: enough to do it again."""
    run = f"run-{facts.run_id}"
    builder = ProvBuilder()
    key = facts.key
    builder.entity("input", "Frame", {**facts.input, "sha256": key["input"], "plane": key["plane"]})
    builder.relate("used", run, "input", "science")
    seen: Counter[str] = Counter()
    for role, where in facts.companions:
        seen[role] += 1  # every chip of a mosaic has its own
        name = role if seen[role] == 1 else f"{role}-{seen[role]}"
        builder.entity(name, "Plane", {"sha256": key["input"], "plane": where})
        builder.relate("used", run, name, role)
        builder.relate("hadMember", "input", name)
    _add_files(builder, run, facts)
    builder.entity("prior", "Prior", facts.prior)
    builder.relate("used", run, "prior", "prior")
    builder.entity("configuration", "Configuration", _settled(facts.config))
    builder.relate("used", run, "configuration", "configuration")
    builder.entity("noise", "NoiseLaw", _noise_facts(facts.noise))
    builder.relate("used", run, "noise", "noise")
    if facts.optics is not None:
        builder.entity("optics", "Optics", facts.optics)
        builder.relate("used", run, "optics", "optics")
    made = {**_product_facts(facts), "sha256_tiles": digest_tiles(tiles)}
    builder.entity("product", "RestoredFrame", made)
    builder.relate("wasDerivedFrom", "product", "input")
    for number, (where, own) in enumerate(facts.planes, start=1):
        first = min(int(str(tile["tile"])) for tile in own.tiles)
        plane = {"plane": where, "first_tile": first, **_plane_facts(own), "prior": own.prior}
        builder.entity(f"plane-{number}", "RestoredPlane", {**plane, **_noise_facts(own.noise)})
        builder.relate("hadMember", "product", f"plane-{number}")
    ended = datetime.now(UTC)
    times = [
        t.isoformat(timespec="seconds") for t in (ended - timedelta(seconds=facts.seconds), ended)
    ]
    did = {
        "run": facts.run_id,
        "version": __version__,
        "task": str(facts.config.task.name),
        "key": dict(key),
        "command_line": list(facts.command_line),
        "device": facts.device,
        "seconds": round(facts.seconds, 2),
        "repeatable": "same pixels: the same versions, threads_per_fit and kind of processor",
    }
    builder.activity(run, "Restoration", (times[0], times[1]), did)
    builder.relate("wasGeneratedBy", "product", run)
    builder.agent("dip-pipeline", software_versions())
    builder.relate("wasAssociatedWith", run, "dip-pipeline")
    if facts.earlier is not None:
        builder.bundle("earlier-" + "".join(names_of(facts.earlier, "Restoration")), facts.earlier)
    return builder.build()


def _add_files(builder: ProvBuilder, run: str, facts: RunFacts) -> None:
    """Say what was read with the input; of exposures where they lay, and how light compared."""
    beside = facts.key.get("companions")
    files = dict(beside) if isinstance(beside, Mapping) else {}
    for number, (name, sha256) in enumerate(files.items(), start=1):
        builder.entity(f"companion-{number}", "Frame", {"file": name, "sha256": sha256})
        builder.relate("used", run, f"companion-{number}", _role_of(name))
    for number, exposure in enumerate(facts.exposures, start=1):
        builder.entity(f"exposure-{number}", "Exposure", exposure)
        role = "guide" if facts.config.task.each else "exposure"
        builder.relate("used", run, f"exposure-{number}", role)


def _role_of(name: str) -> str:
    """Say what a file beside the input is there for."""
    return "guide" if name.startswith("guide-") and ": " not in name else "companion"


def _settled(config: RunConfig) -> dict[str, object]:
    """Tell the configuration, with what this machine decided, and its digest."""
    prior = config.fit.prior
    settled = config.with_overrides(
        **{
            "workers.threads_per_fit": config.threads_per_fit,
            "fit.prior": None if prior is None else str(Path(prior).absolute()),
        }
    )
    tables = settled.model_dump(mode="json", exclude_none=True)
    return {**flatten(tables), "sha256": config.digest()}


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
            name: {"value": finite_or_none(item.value), "unit": item.unit, "source": item.source}
            for name, item in numbers.items()
            if item is not None
        },
        "correlation": {
            "neighbours": list(noise.correlation.neighbours),
            "root": [list(row) for row in noise.correlation.root],
            "source": noise.correlation.source,
        },
    }


def _product_facts(facts: RunFacts) -> dict[str, object]:
    """Tell what came out, of all planes together."""
    return {
        **_plane_facts(facts),
        "left_as_they_are": [list(item) for item in facts.left] or None,
        "left_out": list(facts.left_out) or None,
    }


def _plane_facts(facts: RunFacts) -> dict[str, object]:
    """Tell what came out: risk, network, change of flux, digests of planes, cards moved here."""
    risk = risk_of(facts)
    return {
        "risk_rms": finite_or_none(risk.rms),
        "risk_standard_error": finite_or_none(risk.error),
        "risk_is_upper_bound": risk.bound,
        "mean_square_below_zero": risk.below_zero or None,
        "risk_judge": _judge(facts),
        "network": facts.network,
        "stop_reason": usual_stop(facts.tiles),
        "flux_change": facts.flux_change,
        "tiles": len(facts.tiles),
        "failed_tiles": facts.failed_tiles,
        "exposures": _agreement_facts(facts),
        **facts.digests,
        "quantisation_step": facts.step,
        "moved_cards": [
            {"keyword": keyword, "value": value, "comment": comment}
            for keyword, value, comment in facts.moved_cards
        ]
        or None,
        "flags": {str(int(flag)): meaning for flag, meaning in FLAG_MEANINGS.items()},
        "note": "Pixels are inferred, correlated, and not independent measurements: "
        "photometric errors come from the input frame.",
    }


def _agreement_facts(facts: RunFacts) -> list[dict[str, object]] | None:
    """Tell how each of several exposures agrees with the others; None of one alone."""
    names = exposure_names(facts)
    return [each.facts(names[each.number]) for each in agreements(facts.tiles)] or None


def _judge(facts: RunFacts) -> str:
    """Say by what the risk was estimated."""
    if facts.noise.kind == "none":
        return "nothing: the noise is not known"
    if facts.config.fit.input == "code":
        return "fixed outer split"
    crossed = facts.prior.get("blocks") is not None
    unseen = facts.prior.get("fitted_on_this_frame") is False and not crossed
    networks = "networks of other frames" if unseen else "cross-fitted networks"
    return f"{networks}, Stein's estimate"


def key_of(document: Document) -> dict[str, Any]:
    """All that decided the pixels of a product, as `run_key` gives it; empty where nothing says."""
    key = facts_of(document, restoration_of(document)).get("key")
    return key if isinstance(key, dict) else {}


def restoration_of(document: Document) -> str:
    """Name of the activity that made a product; "" where there is none."""
    return next(iter(names_of(document, "Restoration")), "")


def input_facts(source: str, frame: Frame) -> dict[str, Any]:
    """Give what `RunFacts` holds of an input: where it lay, planes used, stale cards, its past."""
    earlier = read_provenance(frame.path)
    mosaic = mosaic_of(frame)
    planes = [plane for plane in frame.planes if plane.role in _COMPANIONS]
    return {
        "input": {"file": source, "prov:location": str(frame.path.absolute())},
        "companions": [(_COMPANIONS[plane.role], plane.where) for plane in planes],
        "moved_cards": moved_cards(frame.cards),
        "filters": None if mosaic is None else mosaic[1],
        "earlier": None if earlier is None else earlier.document,
    }


def recipe_of(document: Document, product: Path) -> Recipe:
    """Read from an account how to do its run again; FrameError where it does not say enough."""
    given = facts_of(document, "input")
    run = facts_of(document, restoration_of(document))
    try:
        plane = str(given["plane"])
        source = str(given["prov:location"]) + (f"[{plane}]" if plane else "")
        config = RunConfig.from_document(unflatten(facts_of(document, "configuration")))
        return Recipe(
            source=source,
            sha256=str(given["sha256"]),
            prior_sha256=str(run["key"]["prior"]),
            beside=dict(run["key"].get("companions", {})),
            config=config,
            versions=facts_of(document, "dip-pipeline"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise FrameError(
            f"{product}: its provenance does not say how it was made: {error}"
        ) from error
