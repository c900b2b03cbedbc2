"""`dip clean`: delete the scratch of runs that will not go on."""

import click

from dip_pipeline.cli.output import complain, in_bytes, in_one_line, say
from dip_pipeline.cli.status import is_finished, scratch_folder
from dip_pipeline.cli.verbosity import NORMAL, verbosity, verbosity_options
from dip_pipeline.errors import DipError, ExitCode

_EXAMPLES = """\b
Examples:
  dip clean restored/m13_dip.fits
  dip clean restored/*.dip
"""


@click.command(epilog=_EXAMPLES)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@verbosity_options
def clean(runs: tuple[str, ...]) -> int:
    """Delete the scratch of runs that nobody is at.

    RUN is the scratch folder of an output, OUT.dip, or the output OUT itself, which is never
    touched. Tiles that are finished are lost: the same command would begin anew.
    """
    from dip_pipeline.engine import clean as clean_run

    code = ExitCode.OK
    for run in runs:
        try:
            path = scratch_folder(run)
            if is_finished(run):
                if verbosity() >= NORMAL:
                    say(f"{run}: finished; there is nothing to delete")
                continue
            before = clean_run(path)
        except (DipError, OSError) as error:
            complain(in_one_line(str(error)))
            code = ExitCode.FRAMES_FAILED
            continue
        if verbosity() < NORMAL:
            continue
        if before is None:
            say(f"{path}: deleted, nothing of a run was left in it")
        else:
            size = in_bytes(before.scratch_bytes)
            say(f"{path}: deleted, with {before.tiles_done} finished tiles ({size})")
    return code
