"""`dip noise`: the standard deviation of the noise of each pixel of a frame."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, noise_options, read_config
from dip_pipeline.cli.output import complain_as_is, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity
from dip_pipeline.errors import ExitCode

if TYPE_CHECKING:
    from dip_pipeline.noise_planes import NoisePlaneSummary

_MOST_TOLD = 8
_EXAMPLES = """\b
Examples:
  dip noise m13.fits -o m13_sigmas.fits
  dip noise m13.fits -o m13_sigmas.fits --gain 1.9 --read-noise 7.5
  dip denoise m13.fits -o m13_dip.fits --err m13_sigmas.fits
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@click.argument("frame", metavar="FRAME")
@click.option(
    "-o",
    "--out",
    metavar="OUT.fits",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write.  [no default]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a file that exists already.  [default: no]"
)
@noise_options
def noise(
    frame: str,
    out: Path,
    *,
    overwrite: bool,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Write the noise of each pixel of a frame, for errors of photometry.

    One sigma, in the frame's unit, as a restoration takes it: from the frame's error plane, its
    header, the options, or its own sky. An image for each of the frame's, NaN where pixels are
    masked or saturated. The error of a sum in an aperture, on the frame and on what was restored
    of it, is made of these, not of DIP_ERR.
    """
    from dip_pipeline.noise_planes import write_noise_planes

    start_logging(LogLines(complain_as_is), verbosity())
    summary = write_noise_planes(frame, out, read_config(config_file, values), overwrite=overwrite)
    if verbosity() >= NORMAL:
        say(describe(summary))
    return ExitCode.OK


def describe(summary: "NoisePlaneSummary") -> str:
    """Tell what was written."""
    unit = f" {summary.unit}" if summary.unit else ""
    lines = []
    for name, words, sigma, factor in summary.planes[:_MOST_TOLD]:
        lines.append(f"{_named(summary, name)}: {words}")
        lines.append(f"  median {sigma:.4g}{unit}")
        if factor > 1:
            lines.append(
                f"  errors of sums over many pixels: {factor:.2f} times their sum in quadrature"
            )
    if (more := len(summary.planes) - _MOST_TOLD) > 0:
        lines.append(f"{summary.target}: {more} more planes, each by its own law")
    lines += [f"{_named(summary, name)}: nothing known: {why}" for name, why in summary.left]
    return "\n".join(lines)


def _named(summary: "NoisePlaneSummary", plane: str) -> str:
    return f"{summary.target}, {plane}" if plane else str(summary.target)
