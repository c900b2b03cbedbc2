"""`dip denoise`: frames with less noise."""

from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.options import RunCommand, task_options
from dip_pipeline.cli.task_command import run_task, task_arguments
from dip_pipeline.task import Task

_EXAMPLES = """\b
Examples:
  dip denoise m13.fits -o m13_dip.fits
  dip denoise night/*.fits -o restored/ --config night.toml
  dip denoise halpha.fits -o halpha_dip.fits --guide r_band.fits
  dip denoise mosaic.fits -o mosaic_dip.fits --shard 3/16
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@task_arguments
@task_options("guides")
def denoise(
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Restore the true sky from noisy frames.

    INPUT is a FITS file, one HDU of it (FILE[SCI,1] or FILE[1]), or a Zarr group. What was
    interrupted goes on where it stopped when the same command is run again.
    """
    return run_task(
        Task.DENOISE,
        inputs,
        out,
        overwrite=overwrite,
        shard=shard,
        config_file=config_file,
        values=values,
    )
