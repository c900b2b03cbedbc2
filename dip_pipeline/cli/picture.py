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
  dip picture cube_dip.fits --plane 1200 --plane 1201
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
    "--plane",
    "planes",
    metavar="N",
    type=click.IntRange(min=1),
    multiple=True,
    help="Draw this plane: its number, from 1, as in the name of its picture; may be given several "
    "times.  [default: a few of each cube]",
)
@click.option("--all", "every", is_flag=True, help="Draw every plane of a cube.  [default: no]")
@click.option(
    "--overwrite", is_flag=True, help="Replace pictures that exist already.  [default: no]"
)
@verbosity_options
def picture(
    products: tuple[str, ...],
    *,
    out: Path | None,
    source: str | None,
    planes: tuple[int, ...],
    every: bool,
    overwrite: bool,
) -> int:
    """Draw products beside their inputs.

    OUT is what dip made of a frame: before, after, and what was taken away in units of its noise,
    where stars and edges are light that was lost. A PNG each; of several images in a product one of
    each, numbered; of a cube or stack of many planes a few, evenly chosen.
    """
    from dip_pipeline.cli.naming import create_folder
    from dip_pipeline.picturing import draw_product

    if planes and every:
        raise ConfigError("--plane, --all: one plane or each; leave one of them out")
    start_logging(LogLines(complain_as_is), verbosity() if verbosity() > NORMAL else -1)
    if out is not None:
        if out.suffix.lower() == ".png" and not out.is_dir():
            raise ConfigError(f"-o {out}: is no folder; pictures are named OUT.png, after OUT")
        create_folder(out)
    code = ExitCode.OK
    asked = None if every else planes
    for name in products:
        product = Path(name)
        folder = product.absolute().parent if out is None else out
        try:
            drawn = draw_product(product, folder, source=source, planes=asked, overwrite=overwrite)
        except (DipError, OSError) as error:
            complain(in_one_line(str(error)))
            code = ExitCode.FRAMES_FAILED
            continue
        if verbosity() >= NORMAL:
            say("\n".join(f"{name} -> {path}" for path in drawn.files))
            if drawn.left_out:
                say(
                    f"{name}: {drawn.left_out} of {drawn.planes} planes left out: --plane N draws "
                    "one, --all each"
                )
    return code
