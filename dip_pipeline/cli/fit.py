"""`dip fit`: fit one prior, to be applied to many frames."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, fit_options, read_config
from dip_pipeline.cli.output import in_seconds, say
from dip_pipeline.cli.verbosity import NORMAL, verbosity
from dip_pipeline.errors import ExitCode

if TYPE_CHECKING:
    from dip_pipeline.fitting import FitSummary


_EXAMPLES = """\b
Examples:
  dip fit night/m13_001.fits night/m13_002.fits -o m13_r.prior --effort best
  dip denoise night/m13_*.fits -o restored/ --prior m13_r.prior
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@click.argument("frames", metavar="FRAME...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    metavar="OUT.prior",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write.  [no default]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a file that exists already.  [default: no]"
)
@fit_options
def fit(
    frames: tuple[str, ...],
    out: Path,
    *,
    overwrite: bool,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Fit one prior on one or more frames, to restore many with.

    The frames must be of one filter and one pixel scale; each has its own sky level and noise.
    `dip denoise --prior OUT.prior` applies the prior to these frames or to others, without a fit.
    """
    from dip_pipeline.cli.progress import watching
    from dip_pipeline.fitting import fit_frames

    config = read_config(config_file, values)
    with watching(verbosity()) as progress:
        summary = fit_frames(frames, out, config, overwrite=overwrite, progress=progress)
    if verbosity() >= NORMAL:
        say(describe(summary))
    return ExitCode.OK


def describe(summary: "FitSummary") -> str:
    """Tell how the fit went."""
    if summary.status == "already done":
        return f"{summary.target}: already done"
    noise = (
        f"{value:.3f} sigma" if value > 0 else "too low to tell" for value in summary.residual_noise
    )
    frames = "1 frame" if summary.frames == 1 else f"{summary.frames} frames"
    return (
        f"{summary.target}: fitted to {frames} in {in_seconds(summary.seconds)}, "
        f"{summary.steps} steps\n"
        f"  judged where each network was not fitted: residual noise {', '.join(noise)}"
    )
