"""`dip super-resolve`: the sky on finer pixels."""

from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.options import RunCommand, task_options
from dip_pipeline.cli.task_command import run_task, task_arguments
from dip_pipeline.task import Task

_EXAMPLES = """\b
Examples:
  dip super-resolve m13.fits -o m13_x2.fits --fwhm 1.8
  dip super-resolve m13.fits -o m13_x3.fits --factor 3 --psf psf_on_finer_pixels.fits
  dip super-resolve night/*.fits -o finer/ --fwhm 2.1
  dip super-resolve picture.fits -o picture_x4.fits --factor 4 --input code --noise none
"""


@click.command(name="super-resolve", cls=RunCommand, epilog=_EXAMPLES)
@task_arguments
@task_options("factor", "psf", "fwhm_px")
def super_resolve(
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Restore the sky on pixels 2, 3 or 4 times finer.

    Every pixel of INPUT is cut into FACTOR x FACTOR; world coordinates, fluxes and levels follow.
    With a PSF its blur is undone as far as finer pixels can show it. Noise is restored, too.
    """
    return run_task(
        Task.SUPER_RESOLVE,
        inputs,
        out,
        overwrite=overwrite,
        shard=shard,
        config_file=config_file,
        values=values,
    )
