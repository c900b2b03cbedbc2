"""`dip report`: one page of a night's products."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dip_pipeline.cli.output import complain, complain_as_is, in_one_line, say
from dip_pipeline.cli.verbosity import NORMAL, LogLines, start_logging, verbosity, verbosity_options
from dip_pipeline.errors import ExitCode
from dip_pipeline.night.figure_table import LEAST_FRAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dip_pipeline.night.report import NightReport
    from dip_pipeline.night.unmade import Word

_IN_SIGHT = 4  # names in one line

_EXAMPLES = """\b
Examples:
  dip report restored/ -o night.html
  dip report restored/*_dip.fits -o night.html --no-pictures
"""


@click.command(epilog=_EXAMPLES)
@click.argument("products", metavar="OUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    metavar="NIGHT.html",
    required=True,
    type=click.Path(path_type=Path),
    help="The page to write.  [no default]",
)
@click.option(
    "--pictures/--no-pictures",
    default=None,
    help="Draw every product beside its input, or none.  [default: 200 at most, the odd first]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a page that exists already.  [default: no]"
)
@verbosity_options
def report(products: tuple[str, ...], *, out: Path, pictures: bool | None, overwrite: bool) -> int:
    """Write one page of a night: figures, odd frames, pictures.

    OUT is what dip made of a frame, or a folder of such products. The page is one HTML file that
    asks nothing of a network: sky, stars, noise and what was estimated of each frame, those that
    are unlike the others marked, and before, after, and what was taken away. Frames that failed,
    or were not reached, are at its top, as runs left word of in that folder.
    """
    from dip_pipeline.night.page import write_report
    from dip_pipeline.night.products import folders_in, products_in
    from dip_pipeline.night.report import MOST_PICTURES

    start_logging(LogLines(complain_as_is), verbosity() if verbosity() > NORMAL else -1)
    names = [Path(name) for name in products]
    most = {None: MOST_PICTURES, True: None, False: 0}[pictures]
    written = write_report(
        products_in(names), out, folders=folders_in(names), pictures=most, overwrite=overwrite
    )
    for frame in written.unread:
        complain(in_one_line(frame.problem))
    if verbosity() >= NORMAL:
        say(describe(written, out))
    return ExitCode.FRAMES_FAILED if written.unread else ExitCode.OK


def describe(written: "NightReport", out: Path) -> str:
    """Tell what is on the page."""
    from dip_pipeline.night.unmade import ENDS

    count = len(written.frames)
    counts = [f"{count} frame{'' if count == 1 else 's'}"]
    counts += [f"{len(written.odd)} unlike the others"] if written.odd else []
    counts += [f"{len(written.settings)} with other settings"] if written.settings else []
    if written.alone and count >= LEAST_FRAMES:
        alone = f"{len(written.alone)} compared with none (fewer than {LEAST_FRAMES} of a kind)"
        counts.append(alone)
    counts += [f"{number} {end}" for end in ENDS if (number := written.word.count(end))]
    counts += [f"{len(written.failed)} with failed tiles"] if written.failed else []
    counts += [f"{len(written.unread)} that cannot be read"] if written.unread else []
    told = [*unmade_lines(written.word), *written.word.unread, *_settings_lines(written.settings)]
    told += map(str, written.odd)
    if written.drawable:
        told.append(
            f"{written.drawn} of {written.drawable} frames are drawn, the odd ones first; "
            "--pictures draws all"
        )
    return "\n".join([f"{', '.join(counts)} -> {out}", *map(in_one_line, told)])


def unmade_lines(word: "Word") -> list[str]:
    """Tell of frames without a product: those of one end and one reason in one line."""
    lines = []
    for first, names in word.together:
        lines.append(f"{_shown(names)}: {first.words}")
    return lines


def _settings_lines(settings: "Mapping[str, str]") -> list[str]:
    """Tell of other settings: frames with the same in one line."""
    alike: dict[str, list[str]] = {}
    for source, words in settings.items():
        alike.setdefault(words, []).append(source)
    return [f"{_shown(names)}: restored with {words}" for words, names in alike.items()]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_IN_SIGHT]) + (", ..." if len(names) > _IN_SIGHT else "")
