"""`dip convert`: FITS to Zarr and back, without loss."""

from pathlib import Path

import click

from dip_pipeline.cli.output import complain_as_is, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity, verbosity_options
from dip_pipeline.errors import ExitCode

_EXAMPLES = """\b
Examples:
  dip convert m13.fits -o m13.zarr
  dip convert m13.zarr -o m13_back.fits      # the same bytes as m13.fits
"""


@click.command(epilog=_EXAMPLES)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="What to write: a name that ends in .zarr, .fits or .fits.gz.  [no default]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists already.  [default: no]"
)
@verbosity_options
def convert(file: Path, *, out: Path, overwrite: bool) -> int:
    """Convert FITS to Zarr and back, without loss.

    Every HDU, every card and their order are kept: a FITS file comes back byte for byte, a Zarr
    group with all its arrays, chunks and attributes.
    """
    from dip_pipeline.frames.converting import convert as convert_file

    start_logging(LogLines(complain_as_is), verbosity())
    convert_file(file, out, overwrite=overwrite)
    if verbosity() >= NORMAL:
        say(f"{file} -> {out}")
    return ExitCode.OK
