"""`dip combine`: several exposures of one sky become one frame."""

from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.options import RunCommand, read_config, task_options
from dip_pipeline.cli.task_command import run_task, task_arguments
from dip_pipeline.task import Task

_EXAMPLES = """\b
Examples:
  dip combine a.fits b.fits c.fits -o deep.fits
  dip combine dithers/*.fits -o deep_x2.fits --factor 2
  dip combine video/*.fits -o restored/ --each
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@task_arguments
@task_options("factor", "each")
def combine(
    inputs: tuple[str, ...],
    out: str,
    *,
    overwrite: bool,
    shard: str | None,
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Combine several exposures of one sky, and restore it.

    The first INPUT is the reference: the result has its pixels, cut FACTOR times finer, and its
    header. The others are registered to it by celestial coordinates, stars, or all their light;
    each counts by its own noise, mask, sky and transparency. What one exposure alone shows (cosmic
    rays, satellites) is left out.

    With --each there is no reference: every INPUT is restored for itself, on its own pixels, with
    what all others show as a guide. What moved stays where it was.
    """
    from dip_pipeline.cli.naming import without_results

    each = read_config(config_file, values).task.each
    if each:
        inputs = tuple(without_results(inputs, Path(out)))
    return run_task(
        Task.COMBINE,
        inputs if each else inputs[:1],
        out,
        overwrite=overwrite,
        shard=shard,
        config_file=config_file,
        values={**values, "task__exposures": inputs[1:] or None},
    )
