"""`dip verify`: whether a product is whole, and what it says it is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.output import complain, complain_as_is, in_one_line, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity, verbosity_options
from dip_pipeline.errors import ConfigError, DipError, ExitCode

if TYPE_CHECKING:
    from dip_pipeline.verifying import Verdict

_EXAMPLES = """\b
Examples:
  dip verify m13_dip.fits
  dip verify m13_dip.fits --against m13.fits
  dip verify restored/*.fits --against night/
"""

_WORDS = {True: "ok", False: "WRONG", None: "not judged"}


@click.command(epilog=_EXAMPLES)
@click.argument("outs", metavar="OUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="IN",
    help="The input, named as when it was restored (FILE or FILE[SCI,1]), or the folder that the "
    "inputs lie in.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Tell it as JSON.  [default: no]")
@verbosity_options
def verify(outs: tuple[Path, ...], *, against: str | None, as_json: bool) -> int:
    """Check that products are whole and only changed as declared.

    Check sums, structure, values, the account and every digest in it; with --against that sky
    coordinates agree, and that nothing of the input changed but what is declared. Of several
    products each is a line, and those that are wrong are told of in full. Exit code 0: nothing is
    wrong, 1: something is.
    """
    start_logging(LogLines(complain_as_is), verbosity() if verbosity() > NORMAL else -1)
    inputs = _inputs(against, len(outs))
    good, told = 0, list[dict[str, Any]]()
    for out in outs:
        try:
            verdict = _verdict(out, inputs)
        except (DipError, OSError) as error:
            if len(outs) == 1:
                raise
            complain(in_one_line(str(error)))
            told.append({"product": str(out), "ok": False, "error": in_one_line(str(error))})
            continue
        good += verdict.ok
        told.append(_facts(verdict))
        if not as_json and (verbosity() >= NORMAL or not verdict.ok):
            in_full = len(outs) == 1 or verbosity() > NORMAL or not verdict.ok
            say(describe(verdict) if in_full else f"{out}: ok")
    if as_json:
        say(json.dumps(told if len(outs) > 1 else told[0], indent=2))
    elif len(outs) > 1 and verbosity() >= NORMAL:
        say(f"{len(outs)} products: {good} ok, {len(outs) - good} wrong")
    return ExitCode.OK if good == len(outs) else ExitCode.FRAMES_FAILED


def _inputs(against: str | None, products: int) -> str | Path | None:
    """Give the input that is named, as text, or the folder of inputs; ConfigError for several."""
    from dip_pipeline.frames import ZARR_SUFFIXES

    if against is None:
        return None
    path = Path(against)
    if path.is_dir() and path.suffix.lower() not in ZARR_SUFFIXES:
        return path
    if products > 1:
        raise ConfigError(
            f"--against {against}: one input, and {products} products; give the folder that their "
            "inputs lie in"
        )
    return against


def _verdict(out: Path, inputs: str | Path | None) -> "Verdict":
    from dip_pipeline.verifying import input_among, verify_product

    return verify_product(out, input_among(inputs, out) if isinstance(inputs, Path) else inputs)


def describe(verdict: "Verdict") -> str:
    """Tell a verdict in lines."""
    width = max(len(check.name) for check in verdict.checks)
    lines = [f"{verdict.product}: {'ok' if verdict.ok else 'WRONG'}"]
    lines += [
        f"  {check.name:<{width}}  {_WORDS[check.passed]}: {check.detail}"
        for check in verdict.checks
    ]
    return "\n".join(lines)


def _facts(verdict: "Verdict") -> dict[str, Any]:
    checks = [check._asdict() for check in verdict.checks]
    return {"product": str(verdict.product), "ok": verdict.ok, "checks": checks}
