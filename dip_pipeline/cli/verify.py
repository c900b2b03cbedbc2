"""`dip verify`: whether a product is whole, and what it says it is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dip_pipeline.cli.output import complain_as_is, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity, verbosity_options
from dip_pipeline.errors import ExitCode

if TYPE_CHECKING:
    from dip_pipeline.verifying import Verdict

_EXAMPLES = """\b
Examples:
  dip verify m13_dip.fits
  dip verify m13_dip.fits --against m13.fits
"""

_WORDS = {True: "ok", False: "WRONG", None: "not judged"}


@click.command(epilog=_EXAMPLES)
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="IN",
    help="The input, named as when it was restored (FILE or FILE[SCI,1]).  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Tell it as JSON.  [default: no]")
@verbosity_options
def verify(out: Path, *, against: str | None, as_json: bool) -> int:
    """Check that a product is whole and only changed as declared.

    Check sums, structure, values, the account and every digest in it; with --against that sky
    coordinates agree, and that nothing of the input changed but what is declared. Exit code 0:
    nothing is wrong, 1: something is.
    """
    from dip_pipeline.verifying import verify_product

    start_logging(LogLines(complain_as_is), verbosity() if verbosity() > NORMAL else -1)
    verdict = verify_product(out, against)
    if as_json:
        say(_as_json(verdict))
    elif verbosity() >= NORMAL or not verdict.ok:
        say(describe(verdict))
    return ExitCode.OK if verdict.ok else ExitCode.FRAMES_FAILED


def describe(verdict: "Verdict") -> str:
    """Tell a verdict in lines."""
    width = max(len(check.name) for check in verdict.checks)
    lines = [f"{verdict.product}: {'ok' if verdict.ok else 'WRONG'}"]
    lines += [
        f"  {check.name:<{width}}  {_WORDS[check.passed]}: {check.detail}"
        for check in verdict.checks
    ]
    return "\n".join(lines)


def _as_json(verdict: "Verdict") -> str:
    checks = [check._asdict() for check in verdict.checks]
    return json.dumps(
        {"product": str(verdict.product), "ok": verdict.ok, "checks": checks}, indent=2
    )
