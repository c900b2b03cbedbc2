"""`dip status`: how a run stands, also while it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dip_pipeline.cli.output import complain, counted, in_bytes, in_one_line, in_seconds, say
from dip_pipeline.cli.verbosity import verbosity_options
from dip_pipeline.errors import DipError, ExitCode, RunError

if TYPE_CHECKING:
    from dip_pipeline.engine import RunStatus

_IN_SIGHT = 8  # numbers of shards in one line
_TORN = "torn: its account is not there, or cannot be read; dip verify tells more"
_EXAMPLES = """\b
Examples:
  dip status restored/m13_dip.fits
  dip status restored/*.dip
  dip status restored/
"""


@click.command(epilog=_EXAMPLES)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@verbosity_options
def status(runs: tuple[str, ...]) -> int:
    """Tell how a run stands, also while it runs.

    RUN is the scratch folder of an output, OUT.dip, or the output OUT itself, or a folder of
    results (or its summary.json): how many there are, and which frames have none. Nothing is
    changed, and a run that goes on is not disturbed. A frame that failed is told with its reason,
    where its run left word of it (summary.json).
    """
    from dip_pipeline.engine import read_status

    code, failures = ExitCode.OK, _Failures()
    for run in map(folder_of_summary, runs):
        try:
            if is_torn_product(run):
                say(in_one_line(f"{run}: {_TORN}"))
                code = ExitCode.FRAMES_FAILED
                continue
            if is_night(run):
                words, failed_ones = night_words(run)
                say("\n".join(words))
                code = ExitCode.FRAMES_FAILED if failed_ones else code
                continue
            if failed := failures.words_of(run):
                say(in_one_line(f"{run}: {failed}"))
                code = ExitCode.FRAMES_FAILED
                if not scratch_folder(run).is_dir():
                    continue
            if is_finished(run):
                say(f"{run}: finished; dip provenance {run} tells how it was made")
                continue
            say(describe(read_status(scratch_folder(run))))
        except (DipError, OSError) as error:
            complain(in_one_line(str(error)))
            code = ExitCode.FRAMES_FAILED
    return code


class _Failures:
    """Frames whose last run failed, by what it left word of in their folders."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, str]] = {}

    def words_of(self, run: str) -> str:
        """How the last run of an output failed; "" where nothing says that it did."""
        product = scratch_folder(run).with_suffix("")
        folder = product.parent
        if folder not in self._known:
            from dip_pipeline.night.unmade import FAILED, word_of

            self._known[folder] = {
                each.product.name: f"{each.words}, {each.when}"
                for each in word_of([folder]).unmade
                if each.status == FAILED
            }
        return self._known[folder].get(product.name, "")


def is_finished(run: str) -> bool:
    """Whether a name is that of a product whose run has ended, and has left nothing."""
    from dip_pipeline.frames import read_provenance

    if scratch_folder(run).is_dir() or not Path(run).exists():
        return False
    try:
        return read_provenance(Path(run)) is not None
    except DipError:
        return False


def is_torn_product(run: str) -> bool:
    """Whether a name is that of what is left of a product that nobody is making anew."""
    from dip_pipeline.night.products import is_torn

    path = Path(run)
    return not (path.parent / f"{path.name}.dip").is_dir() and is_torn(path)


def folder_of_summary(run: str) -> str:
    """Give the folder that a summary is of; any other name as it is."""
    path = Path(run)
    is_summary = path.is_file() and path.match("summary*.json")
    return str(path.parent) if is_summary else run


def is_night(run: str) -> bool:
    """Whether a name is that of a folder of results."""
    from dip_pipeline.frames import is_zarr

    path = Path(run)
    return path.is_dir() and path.suffix != ".dip" and not is_zarr(path)


def night_words(run: str) -> tuple[list[str], int]:
    """Tell how a folder of results stands, in lines, and how many frames failed or are torn.

    Raises FrameError where there is no result, and no run left word of a frame.
    """
    from dip_pipeline.cli.report import unmade_lines
    from dip_pipeline.night.products import is_whole, products_in
    from dip_pipeline.night.unmade import ENDS, FAILED, word_of

    found = products_in([Path(run)])
    torn = [f"{path}: {_TORN}" for path in found if not is_whole(path)]
    word = word_of([Path(run)])
    counts = [counted(len(found) - len(torn), "product")]
    counts += [f"{len(torn)} torn"] if torn else []
    counts += [f"{number} {end}" for end in ENDS if (number := word.count(end))]
    lines = [f"  {in_one_line(line)}" for line in (*torn, *unmade_lines(word), *word.unread)]
    return [in_one_line(f"{run}: {', '.join(counts)}"), *lines], word.count(FAILED) + len(torn)


def scratch_folder(run: str) -> Path:
    """Folder of a run that is named by it, or by its output.

    Raises RunError where the name is that of a folder of runs.

    >>> scratch_folder("a.fits").name, scratch_folder("a.fits.dip/").name
    ('a.fits.dip', 'a.fits.dip')
    """
    path = Path(run)
    if path.suffix == ".dip":
        return path
    scratch = path.parent / f"{path.name}.dip"
    if is_night(run) and not (path.name and scratch.is_dir()):
        runs = path / "*.dip"
        raise RunError(f"{path}: a folder, not a run; name a run in it, {runs} for all of them")
    return scratch


def describe(run: "RunStatus") -> str:
    """Tell a status in lines."""
    total = run.about.get("tiles", 0)
    lines = [f"{run.path}: {run.state}, {run.tiles_done} of {total} tiles done"]
    if run.tiles_failed:
        lines[0] += f", {run.tiles_failed} of them FAILED and copied"
    lines.append(f"  source: {run.about.get('source', 'not known')}")
    lines += list(dict.fromkeys(f"  at it: {owner}" for owner in run.owners))
    if run.doing:
        doing = dict(run.doing)
        step = f", step {doing['step']} of {doing['steps']}" if "step" in doing else ""
        lines.append(
            f"  doing: {doing['doing']}{step}, told {in_seconds(doing['seconds_ago'])} ago"
        )
    if run.owners and run.seconds_a_tile is not None and run.tiles_done < total:
        left = in_seconds(run.seconds_a_tile * (total - run.tiles_done))
        lines.append(f"  {in_seconds(run.seconds_a_tile)} a tile, about {left} left")
    if run.shards_broken:
        lines.append(
            f"  broken off: {_shards(run.shards_broken)} of {run.shards}, tiles are missing"
        )
    if not run.owners:
        lines.append(f"  nobody is at it; {run.way_on}")
    lines.append(f"  begun: {run.created}, scratch: {in_bytes(run.scratch_bytes)}")
    return "\n".join(lines)


def _shards(numbers: Sequence[int]) -> str:
    """Name shards, some of many."""
    more = ", ..." if len(numbers) > _IN_SIGHT else ""
    word = "shard" if len(numbers) == 1 else "shards"
    return f"{word} {', '.join(map(str, numbers[:_IN_SIGHT]))}{more}"
