"""`dip provenance`: how a product was made, for people, for programs, or once more."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.output import say
from dip_pipeline.cli.verbosity import NORMAL, verbosity, verbosity_options
from dip_pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from dip_pipeline.frames import Provenance

_EXAMPLES = """\b
Examples:
  dip provenance m13_dip.fits
  dip provenance m13_dip.fits --json > m13.prov.json
  dip provenance m13_dip.fits --repeat -o again.fits
"""

_PARTS = (
    ("input", "input"),
    ("error_plane", "error plane"),
    ("mask", "mask"),
    ("prior", "prior"),
    ("noise", "noise"),
    ("optics", "optics"),
    ("configuration", "configuration"),
    ("product", "product"),
    ("dip-pipeline", "software"),
)


@click.command(epilog=_EXAMPLES)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--json", "as_json", is_flag=True, help="Print the W3C PROV-JSON document.  [default: no]"
)
@click.option(
    "--repeat",
    is_flag=True,
    help="Do the run again, from what FILE says alone, into OUT.  [default: no]",
)
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Where --repeat writes to.  [no default]",
)
@click.option(
    "--input",
    "moved",
    metavar="INPUT",
    help="Where the input lies now, for --repeat.  [default: where it lay]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists already.  [default: no]"
)
@verbosity_options
def provenance(
    file: Path,
    *,
    as_json: bool,
    repeat: bool,
    out: Path | None,
    moved: str | None,
    overwrite: bool,
) -> int:
    """Tell how a product was made; --repeat makes it again."""
    if repeat:
        if out is None:
            raise ConfigError("--repeat: where to? Name an output with -o")
        return _repeat(file, out, moved, overwrite=overwrite)
    from dip_pipeline.frames import read_account

    found = read_account(file)
    say(json.dumps(found.document, indent=2) if as_json else describe(file, found))
    return ExitCode.OK


def describe(file: Path, found: "Provenance") -> str:
    """Tell an account in lines."""
    from dip_pipeline.frames.prov_json import facts_of, names_of

    document = found.document
    run = names_of(document, "Restoration")[0]
    done = facts_of(document, run)
    command = " ".join(map(str, done.get("command_line", [])))
    lines = [
        f"{file}: made by dip-pipeline {done.get('version')}, "
        f"{done.get('prov:startTime')} to {done.get('prov:endTime')}",
        f"  command: {command or 'not from a command line'}",
        f"  run {done.get('run')}, on {done.get('device')}",
    ]
    beside = [
        (name, name.replace("-", " "))
        for kind in ("Exposure", "Frame")
        for name in names_of(document, kind)
        if name != "input"
    ]
    for name, title in (*_PARTS[:1], *beside, *_PARTS[1:]):
        facts = facts_of(document, name)
        if facts:
            lines.append(f"  {title}:")
            lines += [f"    {key}: {_value(it)}" for key, it in facts.items() if it != ""]
    lines.append(f"  tiles: {len(found.tiles)}")
    earlier: dict[str, Any] = dict(document.get("bundle") or {})  # type: ignore[call-overload]
    lines += [f"  made of a product, too: {name}" for name in earlier]
    return "\n".join(lines)


def _repeat(file: Path, out: Path, moved: str | None, *, overwrite: bool) -> int:
    from dip_pipeline.cli.progress import watching
    from dip_pipeline.cli.task_command import frame_lines
    from dip_pipeline.repeating import repeat_run

    with watching(verbosity()) as progress:
        report = repeat_run(
            file,
            out,
            source=moved,
            overwrite=overwrite,
            progress=progress,
            command_line=click.get_current_context().obj or (),
        )
    if verbosity() >= NORMAL:
        say(frame_lines(report.source, report))
    return ExitCode.OK if report.ok else ExitCode.FRAMES_FAILED


def _value(value: Any) -> str:  # noqa: ANN401  (whatever JSON holds)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
