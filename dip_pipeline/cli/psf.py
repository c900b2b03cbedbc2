"""`dip psf`: measure the point spread function of a frame on its own stars."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, psf_options, read_config, task_options
from dip_pipeline.cli.output import complain_as_is, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity
from dip_pipeline.errors import ExitCode

if TYPE_CHECKING:
    from dip_pipeline.psf_measuring import PsfSummary


_EXAMPLES = """\b
Examples:
  dip psf m13.fits -o psf.fits
  dip deconvolve m13.fits -o m13_sharp.fits --psf psf.fits
  dip psf m13.fits -o psf_x2.fits --factor 2
  dip super-resolve m13.fits -o m13_x2.fits --psf psf_x2.fits
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
@psf_options
@task_options("factor")
def psf(
    frame: str,
    out: Path,
    *,
    overwrite: bool,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Measure the PSF of a frame on its own stars.

    At least four unsaturated, lonely stars are needed, of 15 sigma and more. The image is what
    `dip deconvolve --psf` takes, and with --factor what `dip super-resolve --psf` takes.
    """
    from dip_pipeline.psf_measuring import measure_frame_psf

    start_logging(LogLines(complain_as_is), verbosity())
    summary = measure_frame_psf(frame, out, read_config(config_file, values), overwrite=overwrite)
    if verbosity() >= NORMAL:
        say(describe(summary))
    return ExitCode.OK


def describe(summary: "PsfSummary") -> str:
    """Tell what was measured."""
    psf = summary.psf
    rows, cols = psf.kernel.shape
    wide = f"{psf.shape.fwhm_px:.2f} px"
    if summary.scale_arcsec is not None:
        wide += f" ({psf.shape.fwhm_px * summary.scale_arcsec:.2f} arcsec)"
    finer = f", {summary.factor} for one of the frame" if summary.factor > 1 else ""
    known = "how well is not known"
    if math.isfinite(psf.doubt):
        known = f"halves of the stars agree on all but {psf.doubt:.1%} of the light"
    return (
        f"{summary.target}: {rows} x {cols} px{finer}\n"
        f"  {psf.stars} stars, FWHM {wide}, ellipticity {psf.shape.ellipticity:.2f}\n"
        f"  {known}"
    )
