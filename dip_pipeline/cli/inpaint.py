"""`dip inpaint`: frames whose bad pixels, trails and holes are filled."""

from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.options import RunCommand, task_options
from dip_pipeline.cli.task_command import run_task, task_arguments
from dip_pipeline.task import Task

_EXAMPLES = """\b
Examples:
  dip inpaint m13.fits -o m13_filled.fits
  dip inpaint m13.fits -o m13_filled.fits --mask trails.fits
  dip inpaint 'mosaic.fits[SCI,2]' -o chip2.fits --mask 'trails.fits[2]' --denoise-known
  dip inpaint picture.fits -o whole.fits --mask missing.fits --noise none
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@task_arguments
@task_options("mask", "denoise_known")
def inpaint(
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Fill bad pixels, trails and holes.

    Filled are pixels that the file itself calls bad, that are no finite numbers, and that --mask
    hides. All others stay as they are, but for --denoise-known. With --noise none textures are
    learned from the picture itself: for scattered pixels, not for wide holes.
    """
    return run_task(
        Task.INPAINT,
        inputs,
        out,
        overwrite=overwrite,
        shard=shard,
        config_file=config_file,
        values=values,
    )
