"""How far methods of this kind can go at all: what a figure would be if the truth were told.

error: the error plane by tables told the true errors, by its own value and the restored light.
shared: what the errors of ours and of BM3D have in common, as a share of BM3D's.
finer: our denoised frame's error alone, on finer pixels, where its interpolation costs nothing.
filled: what is left of the noise where pixels are known, beside fills of holes between them.
taught: a network that was taught by the truth of sixty other fields of the kind, and finer, on
finer pixels (asked for by name: --fields taught-nebula, taught_finer-nebula; half an hour each).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from benchmarks import taught
from benchmarks.fields import (
    EXTRA_DATA,
    OBSERVED,
    SIMULATED,
    Field,
    FieldKind,
    Mask,
    Plane,
    draw,
    draw_without_defects,
)
from benchmarks.figures import judge, residual_of
from benchmarks.interpolating import spline
from benchmarks.machine import usual_device
from benchmarks.ours import with_dip
from benchmarks.peers import with_bm3d
from benchmarks.restored import Restored, Settings
from benchmarks.scenes import Image, ObservedScene, best_of, figures
from benchmarks.task_inpaint import PEERS, Holes, draw_holed
from benchmarks.task_super_resolve import KINDS as FINER_KINDS
from benchmarks.task_super_resolve import observe_fine, peers_of
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.simulate import DetectorOptions

FIELDS = (
    "error-crowded",
    "error-galaxies",
    *(("shared-jwst",) if os.environ.get(EXTRA_DATA) else ()),
    "finer-nebula",
    "filled-galaxies",
    "filled-nebula",
)
_SIDES_PX = {"filled": 256}  # as those rows are measured
_RANGES = 10  # of restored light, and of the error plane in each
_COVERED = 0.683
_LEAST_PIXELS = 200  # in a range, for its quantile to be known

Row = dict[str, object]


def rows(
    seed: int,
    *,
    fields: tuple[str, ...] = FIELDS,
    side_px: int | None = None,
    steps: int | None = None,
) -> list[Row]:
    """Measure the bounds that are named, BOUND-FIELD, on fields of one seed."""
    settings = Settings(threads=1, steps=steps, device=usual_device())
    found: list[Row] = []
    for name in fields:
        bound, _, kind = name.partition("-")
        side = side_px or _SIDES_PX.get(bound, 512)
        about: Row = {"field": name, "seed": seed, "side_px": side}
        measured = _BOUNDS[bound](FieldKind(kind), seed, side, settings)
        found += [{**about, **row} for row in measured]
    return found


def told_errors(field: Field, restored: Restored) -> Plane:
    """Give each pixel the error that holds 68.3 % of the true ones in its range.

    Ranges are of the restored light, and of the error plane in each of these: all that a table
    for pixels could go by.
    """
    error = restored.error
    if error is None:
        raise ValueError("a restoration without an error plane")
    above = restored.science - np.float32(np.median(restored.science))
    light = (above / field.truth.sigma).astype(np.float32)
    true = np.abs(restored.science - field.truth.level)
    claimed = np.isfinite(error) & ~field.saturated
    told = np.full(error.shape, np.nan, np.float32)
    for lit in _ranges(light, claimed):
        for place in _ranges(error, lit):
            told[place] = np.quantile(true[place], _COVERED)
    return told


def _ranges(values: Plane, where: Mask) -> Iterator[Mask]:
    """Cut pixels into ranges with as many each, fewer where these would hold too few."""
    count = int(np.clip(where.sum() // _LEAST_PIXELS, 1, _RANGES))
    edges = np.quantile(values[where], np.linspace(0, 1, count + 1))
    edges[-1] = np.inf
    for low, high in pairwise(edges):
        yield where & (values >= low) & (values < high)


def _error(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    field = draw(kind, seed, side_px=side_px)
    ours = with_dip(field, settings)
    told = replace(ours, error=told_errors(field, ours))
    for method, restored in (("ours", ours), ("told the truth", told)):
        covered = judge(field, restored).covered
        if covered is None:
            continue
        yield {
            "method": method,
            "covered": round(covered.overall, 4),
            "lowest_on": round(min(covered.on_source), 4),
            "highest_on": round(max(covered.on_source), 4),
            "lowest_off": round(min(covered.off_source), 4),
            "highest_off": round(max(covered.off_source), 4),
        }


def _shared(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    field = draw(kind, seed, side_px=side_px)
    ours = with_dip(field, settings, {"fit.flux_scale_px": 0.0}).science
    theirs = with_bm3d(field, settings).science
    results: dict[str, Plane] = {
        "ours": ours,
        "BM3D": theirs,
        "mean of both": (ours + theirs) / np.float32(2),
    }
    yield from _residuals(field, results)
    parts = {name: shared_part(field, ours, theirs, at) for name, at in _places(field).items()}
    yield {"method": "shared by both / BM3D"} | {name: _rounded(of) for name, of in parts.items()}


def _places(field: Field) -> dict[str, Mask]:
    counted = ~field.saturated
    return {"all": counted, "on_source": counted & field.truth.on_source}


def _residuals(field: Field, results: Mapping[str, Plane]) -> Iterator[Row]:
    for method, science in results.items():
        residuals = {name: residual_of(field, science, at) for name, at in _places(field).items()}
        yield {"method": method} | {name: _rounded(of) for name, of in residuals.items()}


def shared_part(field: Field, first: Plane, second: Plane, where: Mask) -> float:
    """Root of the errors' mean product over the second's rms, the truth's own noise taken off."""
    truth = field.truth
    errors = [((one - truth.level) / truth.sigma)[where] for one in (first, second)]
    own = 0.0
    if field.own_sigma is not None:
        own = float(np.mean((field.own_sigma[where] / truth.sigma[where]) ** 2))
    product = float(np.mean(errors[0] * errors[1])) - own
    return float(np.sqrt(max(product, 0.0)) / residual_of(field, second, where))


def _finer(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    scene = observe_fine(kind.value, seed, side_px=side_px)
    name, best = best_of(list(peers_of(scene, settings.steps)), scene)
    denoised = scene.denoised(FitOptions(steps=settings.steps))
    alone = scene.truth + spline(denoised - scene.level, scene.factor)
    yield from _beside_best(scene, (name, best), ("dip denoise's error alone", alone))


def _beside_best(
    scene: ObservedScene, best: tuple[str, Image], bound: tuple[str, Image]
) -> Iterator[Row]:
    reference = figures(scene, best[1])["on_sources"]
    for method, result in (best, bound):
        residual = figures(scene, result)["on_sources"]
        yield {"method": method, "on_source": residual, "to_best": _rounded(residual / reference)}


def _taught(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    def draw_level(of: int) -> tuple[Image, Image]:
        level = draw_without_defects(kind, of, side_px=side_px).truth.level.astype(np.float64)
        return level, level

    detector = DetectorOptions(defects=False)
    field = draw_without_defects(kind, seed, side_px=side_px)
    fields, steps = _lessons(settings)
    network = taught.teach(draw_level, detector, 1, fields=fields, steps=steps)
    results = {
        "taught by other fields": taught.restored_by(
            network, field.observed.astype(np.float64), detector
        ).astype(np.float32),
        "ours": with_dip(field, settings, {"fit.flux_scale_px": 0.0}).science,
        "BM3D": with_bm3d(field, settings).science,
    }
    yield from _residuals(field, results)


def _taught_finer(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    def draw_levels(of: int) -> tuple[Image, Image]:
        scene = observe_fine(kind.value, of, side_px=side_px)
        return scene.level, scene.truth

    scene = observe_fine(kind.value, seed, side_px=side_px)
    fields, steps = _lessons(settings)
    network = taught.teach(draw_levels, scene.detector, scene.factor, fields=fields, steps=steps)
    name, best = best_of(list(peers_of(scene, settings.steps)), scene)
    finer = taught.restored_by(network, scene.observed, scene.detector)
    yield from _beside_best(scene, (name, best), ("taught by other fields", finer))


def _lessons(settings: Settings) -> tuple[int, int]:
    """Give the fields and steps of a network's schooling; few where few steps are asked for."""
    return (taught.FIELDS, taught.STEPS) if settings.steps is None else (2, settings.steps)


def _filled(kind: FieldKind, seed: int, side_px: int, settings: Settings) -> Iterator[Row]:
    field = draw_holed(kind, seed, Holes.SMALL, side_px=side_px)
    task = {"task.name": "inpaint", "task.denoise_known": True}
    ours = with_dip(field, settings, task).science
    fills = {name: fill(ours, field.masked).astype(np.float32) for name, fill in PEERS.items()}
    filled = {name: residual_of(field, science, field.masked) for name, science in fills.items()}
    best = min(filled, key=lambda name: filled[name])
    found = {
        f"{best}, our denoised frame": filled[best],
        "ours": residual_of(field, ours, field.masked),
        "known pixels beside": residual_of(field, ours, field.usable),
    }
    for method, residual in found.items():
        to_best = _rounded(residual / filled[best])
        yield {"method": method, "residual": _rounded(residual), "to_best": to_best}


def _rounded(value: float) -> float:
    return round(float(value), 4)


_BOUNDS = {
    "error": _error,
    "shared": _shared,
    "finer": _finer,
    "filled": _filled,
    "taught": _taught,
    "taught_finer": _taught_finer,
}
_KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("error", "shared"), (*SIMULATED, FieldKind.CORRELATED, *OBSERVED)),
    **dict.fromkeys(("filled", "taught"), SIMULATED),
    **dict.fromkeys(("finer", "taught_finer"), FINER_KINDS),
}
KNOWN_FIELDS = tuple(f"{bound}-{kind}" for bound in _BOUNDS for kind in _KINDS[bound])
