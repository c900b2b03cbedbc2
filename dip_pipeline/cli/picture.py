"""`dip picture`: products beside their inputs, as PNG files."""

from pathlib import Path

import click

from dip_pipeline.cli.output import complain, complain_as_is, in_one_line, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity, verbosity_options
from dip_pipeline.errors import ConfigError, DipError, ExitCode

_EXAMPLES = """\b
Examples:
  dip picture m13_dip.fits                     # m13_dip.png
  dip picture restored/*_dip.fits -o pictures/
"""


@click.command(epilog=_EXAMPLES)
@click.argument("products", metavar="OUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of the pictures.  [default: that of each product]",
)
@click.option(
    "--input",
    "source",
    metavar="IN",
    help="Where the input of a product lies now, if it was moved.  [default: where it lay]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace pictures that exist already.  [default: no]"
)
@verbosity_options
def picture(
    products: tuple[str, ...], *, out: Path | None, source: str | None, overwrite: bool
) -> int:
    """Draw products beside their inputs.

    OUT is what dip made of a frame: before, after, and what was taken away in units of its noise,
    where stars and edges are light that was lost. A PNG each; of several images in a product one of
    each, numbered.
    """
    from dip_pipeline.cli.naming import create_folder
    from dip_pipeline.picturing import draw_product

    start_logging(LogLines(complain_as_is), verbosity() if verbosity() > NORMAL else -1)
    if out is not None:
        if out.suffix.lower() == ".png" and not out.is_dir():
            raise ConfigError(f"-o {out}: is no folder; pictures are named OUT.png, after OUT")
        create_folder(out)
    code = ExitCode.OK
    for name in products:
        product = Path(name)
        folder = product.absolute().parent if out is None else out
        try:
            written = draw_product(product, folder, source=source, overwrite=overwrite)
        except (DipError, OSError) as error:
            complain(in_one_line(str(error)))
            code = ExitCode.FRAMES_FAILED
            continue
        if verbosity() >= NORMAL:
            say("\n".join(f"{name} -> {path}" for path in written))
    return code
