"""Results as tables for a person and as one JSON document to keep."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from rich.table import Table

from benchmarks.fields import FieldKind
from benchmarks.figures import FLUX_BINS
from benchmarks.measurements import Measurements
from benchmarks.measuring import Result, pooled_flux
from benchmarks.methods import METHODS
from benchmarks.targets import Range, Verdict
from dip_pipeline.quality import FluxBias

_STYLES = {"goal": "green", "reached": "green", "missed": "red", "not measured": "dim"}
_RIVAL = "bm3d"


def comparison(measurements: Measurements) -> Table:
    """Residual noise and seconds of every method on every field, means over seeds."""
    table = Table(title=f"effort {measurements.effort}", title_justify="left")
    table.add_column("field")
    table.add_column("method")
    for heading in (
        "residual noise",
        "/ BM3D",
        "unflagged",
        "on source",
        "within error",
        "seconds",
        "/ BM3D",
    ):
        table.add_column(heading, justify="right")
    for kind in FieldKind:
        rows = [_row(measurements, kind, method) for method in METHODS]
        measured = [row for row in rows if row]
        for number, row in enumerate(measured):
            last = number == len(measured) - 1
            table.add_row(str(kind) if number == 0 else "", *row, end_section=last)
    return table


def flux_table(measurements: Measurements) -> Table:
    """Flux bias of every method, stars of the simulated fields together."""
    table = Table(title="flux bias, simulated fields together", title_justify="left")
    table.add_column("method")
    for low, high in FLUX_BINS:
        table.add_column(f"S/N {low:g}-{high:g}", justify="right")
    for name, bins in _pooled(measurements).items():
        table.add_row(METHODS[name].title, *(_bias(each) for each in bins))
    return table


def targets_table(verdicts: Sequence[Verdict], effort: str) -> Table:
    """Every figure next to its target."""
    table = Table(title=f"targets, effort {effort}", title_justify="left")
    for heading in ("figure", "must reach", "go for", "measured", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    for verdict in verdicts:
        target = verdict.target
        table.add_row(
            target.figure,
            _range(target.must),
            _range(target.goal),
            _values(verdict.values),
            f"[{_STYLES[verdict.word]}]{verdict.word}[/]",
        )
    return table


def document(
    measured: Sequence[Measurements],
    verdicts: Mapping[str, Sequence[Verdict]],
    circumstances: Mapping[str, object],
) -> str:
    """Return one JSON document; numbers that are not finite become null.

    measured : by effort, of the same results; verdicts : by effort
    circumstances : machine, versions, commit, command line
    """
    content = {
        **circumstances,
        "targets": {
            effort: [
                {
                    "figure": verdict.target.figure.strip(),
                    "must": verdict.target.must,
                    "goal": verdict.target.goal,
                    "values": verdict.values,
                    "verdict": verdict.word,
                }
                for verdict in each
            ]
            for effort, each in verdicts.items()
        },
        "flux": {
            each.effort: {name: [asdict(b) for b in bins] for name, bins in _pooled(each).items()}
            for each in measured
        },
        "results": [_record(result) for result in measured[0].results],
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _row(m: Measurements, kind: FieldKind, method: str) -> tuple[str, ...]:
    found, rivals = m.of(method, kind), m.of(_RIVAL, kind)
    if not found:
        return ()
    seconds = fmean(result.seconds for result in found)
    slower = f"{seconds / fmean(r.seconds for r in rivals):.1f}" if rivals else ""
    figures = [result.figures for result in found if result.figures is not None]
    decibels = [result.colour.psnr_db for result in found if result.colour is not None]
    if decibels:
        noise = (f"{fmean(decibels):.2f} dB", "", "", "", "")
    else:
        ratio = m.ratios(method, _RIVAL, (kind,))
        covered = [each.covered.overall for each in figures if each.covered is not None]
        noise = (
            f"{fmean(each.residual for each in figures):.4f}",
            f"{ratio[0]:.3f}" if ratio else "",
            f"{fmean(each.unflagged for each in figures):.4f}",
            _number(fmean(each.on_source for each in figures)),
            f"{fmean(covered):.3f}" if covered else "",
        )
    return (METHODS[method].title, *noise, f"{seconds:.1f}", slower)


def _pooled(m: Measurements) -> dict[str, tuple[FluxBias, ...]]:
    efforts = {name: m.effort if method.ours else None for name, method in METHODS.items()}
    pooled = {name: pooled_flux(m.results, effort, name) for name, effort in efforts.items()}
    return {name: bins for name, bins in pooled.items() if bins}


def _bias(bias: FluxBias) -> str:
    if not bias.stars:
        return "no stars"
    error = f" +- {bias.error:.1%}" if math.isfinite(bias.error) else ""
    return f"{bias.median:+.1%}{error} ({bias.stars})"


def _record(result: Result) -> dict[str, object]:
    record: dict[str, object] = {
        "part": result.part,
        "field": result.field,
        "seed": result.seed,
        "side_px": result.side_px,
        "method": result.method,
        "effort": result.effort,
        "seconds": result.seconds,
    }
    for name in ("figures", "colour"):
        found = getattr(result, name)
        if found is not None:
            record[name] = asdict(found)
    if result.trace:
        record["trace"] = [asdict(point) for point in result.trace]
    return record


def _range(limits: Range) -> str:
    low, high = limits
    if math.isinf(high):
        return f"{low:g} or more"
    if low == 0:
        return f"{high:g}"
    return f"{low:g} to {high:g}"


def _values(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return _number(low) if len(values) == 1 else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "none"


def _plain(value: object) -> object:
    """Replace numbers that JSON does not know by None, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
