"""`dip finish`: write the output of a run whose tiles are there."""

import click

from dip_pipeline.cli.output import say
from dip_pipeline.cli.status import is_finished, scratch_folder
from dip_pipeline.cli.task_command import frame_lines
from dip_pipeline.cli.verbosity import NORMAL, verbosity, verbosity_options
from dip_pipeline.errors import ExitCode

_EXAMPLES = """\b
Example:
  dip denoise mosaic.fits -o mosaic_dip.fits --shard 1/2    on one machine
  dip denoise mosaic.fits -o mosaic_dip.fits --shard 2/2    on another
  dip finish mosaic_dip.fits                                when both are done
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option(
    "--complete", is_flag=True, help="Restore here the tiles that are missing.  [default: no]"
)
@verbosity_options
def finish(run: str, *, complete: bool) -> int:
    """Write the output of a run whose tiles are all there.

    RUN is the scratch folder of an output, OUT.dip, or the output OUT itself. What is to be
    written, and of which frame, the run says itself. An output that is there already is left alone.
    """
    if is_finished(run):
        if verbosity() >= NORMAL:
            say(f"{run}: already done")
        return ExitCode.OK
    from dip_pipeline.cli.progress import watching
    from dip_pipeline.pipeline import finish_run

    with watching(verbosity()) as progress:
        report = finish_run(scratch_folder(run), complete=complete, progress=progress)
    if verbosity() >= NORMAL:
        say(frame_lines(report.source, report))
    return ExitCode.OK if report.ok else ExitCode.FRAMES_FAILED
