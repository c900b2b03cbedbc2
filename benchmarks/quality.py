"""Restoration side by side with its peers, on fields whose truth is known.

    python -m benchmarks.quality

restores every field by every method, prints each figure next to its target, and keeps all of it
as JSON under benchmarks/results/. Settings were tuned on even seeds; odd ones are reported. A full
run takes hours on two cores; --quick takes seconds and only shows that everything still runs.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.fields import EXTRA_DATA, OBSERVED, FieldKind, extra_data
from benchmarks.machine import command_told, commit, describe_machine, versions
from benchmarks.measurements import Measurements
from benchmarks.measuring import Plan, Result, measure
from benchmarks.methods import CHOICES, USUAL_METHODS
from benchmarks.report import comparison, document, flux_table, targets_table
from benchmarks.restored import Settings
from benchmarks.targets import verdicts
from dip_pipeline.errors import DipError
from dip_pipeline.restoration.problem import Effort

RESULTS = Path(__file__).resolve().parent / "results"
NEED_EXTRA = (*OBSERVED, FieldKind.F16)  # these need the extra data
QUICK_FIELDS = (FieldKind.CROWDED, FieldKind.CORRELATED, FieldKind.NOISE)
QUICK_SIDE_PX, QUICK_STEPS = 64, 4


class _Several(click.ParamType[tuple[str, ...]]):
    """Names or numbers separated by commas."""

    name = "LIST"

    def __init__(self, choices: Sequence[str] = ()) -> None:
        self.choices = tuple(choices)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        words = tuple(word for word in str(value).split(",") if word)
        for word in words:
            if not (word in self.choices if self.choices else word.isdecimal()):
                needed = ", ".join(self.choices) or "whole numbers"
                self.fail(f"{word!r}: need, separated by commas, some of {needed}", param, ctx)
        return words


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--fields",
    type=_Several(tuple(FieldKind)),
    help=f"Fields to restore.  [default: all; {', '.join(NEED_EXTRA)} where {EXTRA_DATA} is set]",
)
@click.option(
    "--methods",
    type=_Several(CHOICES),
    help=f"Methods to compare, of {', '.join(CHOICES)}.  [default: {', '.join(USUAL_METHODS)}]",
)
@click.option("--seeds", type=_Several(), default="1,3,5", show_default=True, help="Of the fields.")
@click.option(
    "--effort",
    type=_Several(tuple(Effort)),
    default="normal",
    show_default=True,
    help="Of our methods.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps of a fit, over the effort's.")
@click.option("--side", type=click.IntRange(64), default=512, show_default=True, help="Pixels.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Of our methods and of BM3D; other peers have one.",
)
@click.option("--device", default="cpu", show_default=True, help="Where networks are fitted.")
@click.option("--stars", type=int, default=300, show_default=True, help="Least in a flux bin.")
@click.option(
    "--extra-fields", type=int, default=4, show_default=True, help="Drawn for stars, at most."
)
@click.option("--large", is_flag=True, help="Also the wall time of 4096 x 4096 pixels.")
@click.option("--race", is_flag=True, help="Also the code input, watched on its way.")
@click.option("--quick", is_flag=True, help="Tiny fields, few steps: does everything still run?")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="JSON file.  [default: benchmarks/results/quality-EFFORT.json; none with --quick]",
)
def main(**options: Any) -> None:  # noqa: ANN401  (each of its own kind)
    """Compare restorations by their figures against the truth."""
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    plan = _plan(options)
    circumstances = {
        "command": command_told("benchmarks.quality"),
        "machine": describe_machine(),
        "versions": versions(),
        "commit": commit(),
        "threads": plan.settings.threads,
    }

    def told(result: Result) -> None:
        console.print(str(result), soft_wrap=True)

    try:
        results = measure(plan, told)
    except DipError as error:
        raise click.ClickException(str(error)) from error
    measured = [Measurements(results, effort) for effort in plan.efforts]
    judged = {each.effort: verdicts(each) for each in measured}
    for each in measured:
        tables = comparison(each), flux_table(each), targets_table(judged[each.effort], each.effort)
        console.print(*tables)
    out = _out(options, plan)
    if out is not None:
        finished = {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document(measured, judged, {**circumstances, **finished}), encoding="utf-8")
        console.print(str(out), soft_wrap=True)


def _plan(options: dict[str, Any]) -> Plan:
    """Turn options into a plan; --quick shrinks whatever was not asked for."""
    quick = options["quick"]
    everything = [kind for kind in FieldKind if kind not in NEED_EXTRA or extra_data() is not None]
    fields = options["fields"] or (QUICK_FIELDS if quick else everything)
    return Plan(
        fields=tuple(FieldKind(name) for name in fields),
        methods=options["methods"] or USUAL_METHODS,
        settings=Settings(
            steps=QUICK_STEPS if quick else options["steps"],
            threads=options["threads"],
            device=options["device"],
        ),
        seeds=(1,) if quick else tuple(int(seed) for seed in options["seeds"]),
        efforts=options["effort"],
        side_px=QUICK_SIDE_PX if quick else options["side"],
        stars=options["stars"],
        extra_fields=1 if quick else options["extra_fields"],
        large=options["large"],
        race=options["race"],
    )


def _out(options: dict[str, Any], plan: Plan) -> Path | None:
    asked: Path | None = options["out"]
    if asked is not None or options["quick"]:
        return asked
    return RESULTS / f"quality-{'-'.join(plan.efforts)}.json"


if __name__ == "__main__":
    main()
