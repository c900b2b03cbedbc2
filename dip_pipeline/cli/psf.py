"""`dip psf`: measure the point spread function of a frame on its own stars."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, noise_options, read_config, task_options
from dip_pipeline.cli.output import complain_as_is, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity
from dip_pipeline.errors import ExitCode

if TYPE_CHECKING:
    from dip_pipeline.psf.measuring import PartPsf, PsfSummary


_EXAMPLES = """\b
Examples:
  dip psf m13.fits -o psf.fits
  dip deconvolve m13.fits -o m13_sharp.fits --psf psf.fits
  dip psf m13.fits -o psf_x2.fits --factor 2
  dip super-resolve m13.fits -o m13_x2.fits --psf psf_x2.fits
  dip psf m13.fits -o psf_corner.fits --at 300,3800
  dip psf m13.fits -o psf_parts.fits --grid 3
  dip deconvolve part.fits -o part_sharp.fits --psf 'psf_parts.fits[X3Y1]'
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
@click.option(
    "--at",
    metavar="X,Y",
    help="Measure on stars near a pixel: its column and row, counted from 1.  [default: the middle "
    "of the frame]",
)
@click.option(
    "--side",
    "side_px",
    type=click.INT,
    metavar="PX",
    help="Side of the square about --at.  [default: 1024]",
)
@click.option(
    "--grid",
    type=click.INT,
    metavar="N",
    help="Measure each of N x N parts of the frame, into extensions X1Y1, X2Y1, ... of one file.  "
    "[default: none]",
)
@noise_options
@task_options("factor")
def psf(
    frame: str,
    out: Path,
    *,
    overwrite: bool,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (of the configuration, and where to measure)
) -> int:
    """Measure the PSF of a frame on its own stars.

    At least four unsaturated, lonely stars are needed, of 15 sigma and more. The image is what
    `dip deconvolve --psf` takes, and with --factor what `dip super-resolve --psf` takes. Of a frame
    larger than 3072 px a side the middle is measured, but for --at and --grid. Of a file of several
    images it is the first; FRAME[SCI,2] and FRAME[2] name another.
    """
    from dip_pipeline.psf.measuring import measure_frame_psf
    from dip_pipeline.psf.places import PsfPlaces

    start_logging(LogLines(complain_as_is), verbosity())
    places = PsfPlaces.of(*(values.pop(name) for name in ("at", "side_px", "grid")))
    config = read_config(config_file, values)
    summary = measure_frame_psf(frame, out, config, places=places, overwrite=overwrite)
    if verbosity() >= NORMAL:
        say(describe(summary))
    return ExitCode.OK


def describe(summary: "PsfSummary") -> str:
    """Tell what was measured."""
    finer = f", {summary.factor} for one of the frame" if summary.factor > 1 else ""
    finer += f", of {summary.of_planes}" if summary.of_planes else ""
    more = []
    if summary.another:
        more = [f"  others may have another PSF: {shlex.quote(summary.another)} names the next"]
    if not summary.parts[0].part.name:
        one = summary.parts[0]
        rows, cols = one.psf.kernel.shape
        of = "" if summary.of_all else f", of {one.part.section} of the frame"
        lines = [f"{summary.target}: {rows} x {cols} px{finer}{of}", f"  {_of_stars(one, summary)}"]
        return "\n".join([*lines, f"  {_known(one)}", *more])
    lines = [
        f"  [{one.part.name}] {one.part.section}: {_of_stars(one, summary)}; {_known(one)}"
        for one in summary.parts
    ]
    return "\n".join([f"{summary.target}: PSFs of {len(lines)} parts{finer}", *lines, *more])


def _of_stars(one: "PartPsf", summary: "PsfSummary") -> str:
    shape = one.psf.shape
    wide = f"{shape.fwhm_px:.2f} px"
    if summary.scale_arcsec is not None:
        wide += f" ({shape.fwhm_px * summary.scale_arcsec:.2f} arcsec)"
    return f"{one.psf.stars} stars, FWHM {wide}, ellipticity {shape.ellipticity:.2f}"


def _known(one: "PartPsf") -> str:
    if not math.isfinite(one.psf.doubt):
        return "how well is not known"
    return f"known to {one.psf.doubt:.1%} of the light"
