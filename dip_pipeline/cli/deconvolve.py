"""`dip deconvolve`: the sky sharpened by a known PSF, on the same pixels."""

from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.options import RunCommand, task_options
from dip_pipeline.cli.task_command import run_task, task_arguments
from dip_pipeline.task import Task

_EXAMPLES = """\b
Examples:
  dip deconvolve m13.fits -o m13_sharp.fits --fwhm 3.4
  dip deconvolve m13.fits -o m13_sharp.fits --psf psf.fits
  dip deconvolve m13.fits -o m13_sharp.fits --psf 'model.fits[DET_SAMP]'
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@task_arguments
@task_options("psf", "fwhm_px")
def deconvolve(
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Undo the blur of a known PSF, on the same pixels.

    The PSF is an image (--psf) or a Gaussian (--fwhm). Noise is restored, too.
    """
    return run_task(
        Task.DECONVOLVE,
        inputs,
        out,
        overwrite=overwrite,
        shard=shard,
        config_file=config_file,
        values=values,
    )
