"""Every task beside its peers, on scenes whose truth is known.

    python -m benchmarks.tasks --tasks super_resolve,deconvolve --seeds 1

Settings were tuned on even seeds; odd ones are reported. Each task's rows go into
benchmarks/results/tasks-NAME.json, each run with its command, its commit and its machine. Rows of
other fields and seeds stay there: what takes hours may be measured in parts.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import command_told, commit, describe_machine, versions
from dip_pipeline.errors import DipError

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("super_resolve", "deconvolve", "inpaint", "guided", "combine", "bounds")

Row = Mapping[str, object]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--tasks", default=",".join(TASKS), show_default=True, help="Separated by commas.")
@click.option(
    "--fields", help="Of those tasks that draw several, separated by commas.  [default: all]"
)
@click.option("--seeds", default="1", show_default=True, help="Of the fields.")
@click.option("--steps", type=click.IntRange(1), help="Steps of a fit, over the effort's.")
@click.option("--side", type=click.IntRange(64), help="Pixels of a field's side.")
@click.option("--quick", is_flag=True, help="Few steps, small fields, no JSON: does it still run?")
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS, help="Folder of JSON files."
)
def main(  # noqa: PLR0913  (one an option)
    *,
    tasks: str,
    fields: str | None,
    seeds: str,
    steps: int | None,
    side: int | None,
    quick: bool,
    out: Path,
) -> None:
    """Compare the results of tasks with the truth."""
    console = Console(width=None if sys.stdout.isatty() else 220, highlight=False)
    names, numbers = _names(tasks), _numbers(seeds)
    asked: dict[str, object] = {
        "steps": 4 if quick else steps,
        "side_px": 64 if quick else side,
        "fields": None if fields is None else _fields(fields, names),
    }
    options = {name: value for name, value in asked.items() if value is not None}
    for task in names:
        started = datetime.now(UTC)
        try:
            found = measured(task, numbers, options)
        except DipError as error:
            raise click.ClickException(f"{task}: {error}") from error
        console.print(table_of(task, found))
        if not quick:
            out.mkdir(parents=True, exist_ok=True)
            path = out / f"tasks-{task}.json"
            path.write_text(_document(path, found, started), encoding="utf-8")
            console.print(str(path), soft_wrap=True)


def measured(task: str, seeds: Sequence[int], options: Mapping[str, object]) -> list[Row]:
    """Give the rows of a task for some seeds; of the options those that the task knows."""
    rows: Callable[..., list[Row]] = import_module(f"benchmarks.task_{task}").rows
    known = signature(rows).parameters
    told = {name: value for name, value in options.items() if name in known}
    return [row for seed in seeds for row in rows(seed, **told)]


def table_of(task: str, rows: Sequence[Row]) -> Table:
    """Lay rows out as a table; a column for everything that any row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=task.replace("_", " "))
    for name in columns:
        table.add_column(name.replace("_", " "), justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*(_shown(row.get(name)) for name in columns))
    return table


def _names(text: str) -> list[str]:
    names = [name for name in text.replace("-", "_").split(",") if name]
    for name in names:
        if name not in TASKS or find_spec(f"benchmarks.task_{name}") is None:
            there = ", ".join(task for task in TASKS if find_spec(f"benchmarks.task_{task}"))
            raise click.UsageError(f"--tasks {name}: need, separated by commas, some of {there}")
    return names


def _fields(text: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Take fields that every one of the tasks can draw."""
    fields = tuple(field for field in text.split(",") if field)
    for task in tasks:
        known: tuple[str, ...] = import_module(f"benchmarks.task_{task}").KNOWN_FIELDS
        for field in fields or ("",):
            if field not in known:
                raise click.UsageError(
                    f"--fields {field}: {task} has none of that name; need, separated by commas, "
                    f"some of {', '.join(known)}"
                )
    return fields


def _numbers(text: str) -> list[int]:
    words = [word for word in text.split(",") if word]
    if not words or not all(word.isdecimal() for word in words):
        raise click.UsageError(f"--seeds {text!r}: need whole numbers, separated by commas")
    return [int(word) for word in words]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _document(path: Path, rows: Sequence[Row], started: datetime) -> str:
    """Put a run beside the earlier ones of a file, in place of rows that it measured again."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    anew = {_what(row) for row in rows}
    for run in runs:
        run["rows"] = [row for row in run["rows"] if _what(row) not in anew]
    content = {
        "command": command_told("benchmarks.tasks"),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "rows": list(rows),
    }
    kept = [run for run in runs if run["rows"]]
    return json.dumps({"runs": [*kept, content]}, indent=1) + "\n"


def _what(row: Row) -> tuple[object, ...]:
    return (row.get("field"), row.get("seed"), row.get("method"))


if __name__ == "__main__":
    main()
