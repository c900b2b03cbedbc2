"""`dip show`: what is known of a frame before anything is restored."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dip_pipeline.cli.options import RunCommand, read_config, run_options, task_options
from dip_pipeline.cli.output import (
    complain,
    complain_as_is,
    in_bytes,
    in_one_line,
    in_seconds,
    say,
)
from dip_pipeline.cli.verbosity import LogLines, start_logging, verbosity
from dip_pipeline.errors import ConfigError, DipError, ExitCode
from dip_pipeline.task import Task

if TYPE_CHECKING:
    from dip_pipeline.runs.describing import FrameDescription


_EXAMPLES = """\b
Examples:
  dip show m13.fits
  dip show m13.fits --gain 1.9 --tile 128
  dip show m13.fits --task super-resolve --factor 3 --fwhm 2.1
"""


@click.command(cls=RunCommand, epilog=_EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--task",
    "task__name",
    type=click.Choice([task.value for task in Task]),
    help="What a run would do.  [default: what the configuration or --factor, --psf say, or "
    "denoise]",
)
@run_options
@task_options("factor", "psf", "fwhm_px", "mask", "each")
def show(
    inputs: tuple[str, ...],
    config_file: Path | None,
    **values: Any,  # noqa: ANN401  (the options of the configuration)
) -> int:
    """Tell what is known of a frame; restores nothing.

    The planes found, the noise of the sensor and where each number came from, the tiles, and an
    estimate of memory, disk and time. Takes the options of a run, and shows what they change. Of
    several INPUTs each is told of; where they would be combined into one, the first, whose pixels
    the result has.
    """
    from dip_pipeline.exposures.guiding import with_others
    from dip_pipeline.runs.describing import describe_frame

    values["task__name"] = _task(values)
    config = read_config(config_file, values)
    if config.task.name is Task.COMBINE:
        config = read_config(config_file, {**values, "task__exposures": inputs[1:] or None})
        inputs = inputs if config.task.each else inputs[:1]
    code = ExitCode.OK
    start_logging(LogLines(complain_as_is), verbosity())
    for rank, source in enumerate(inputs):
        try:
            description = describe_frame(source, with_others(config, inputs, rank))
        except ConfigError:
            raise
        except (DipError, OSError) as error:
            complain(in_one_line(str(error)))
            code = ExitCode.FRAMES_FAILED
        else:
            say(describe(description))
    return code


def describe(frame: "FrameDescription") -> str:
    """Tell a description in lines."""
    rows, cols = frame.shape
    lines = [
        f"{frame.source}: {frame.format}, {rows} rows x {cols} columns, "
        f"unit {frame.unit or 'not named'}, {frame.masked_share:.2%} masked",
        f"  layout: {frame.layout}, to restore: {_science(frame.science)}",
        f"  WCS: {frame.wcs}",
        f"  mask: {frame.mask or 'none; pixels that are not finite are bad'}",
        "  planes:",
        *(
            f"    {plane.where}: {plane.name}, {plane.role}, "
            f"{' x '.join(map(str, plane.shape)) or 'empty'}, {plane.dtype}"
            for plane in frame.planes
        ),
        f"  noise{f' of {frame.science[0]}' if len(frame.science) > 1 else ''}: {frame.noise}",
        *(
            f"  {'->' if rung.taken else '  '} {number} {rung.name}: {rung.says}"
            for number, rung in enumerate(frame.ladder, start=1)
        ),
        *(f"    {line}" for line in frame.noise_lines),
        *([f"  result: {frame.result}"] if frame.result else []),
        f"  tiles: {frame.tile_lines}",
        f"  memory: about {in_bytes(frame.memory_bytes)}{_of_processes(frame.processes)}",
        f"  disk: about {in_bytes(frame.disk_bytes)} while it is made",
        f"  time: about {in_seconds(frame.seconds)} (a guess)",
        *(f"  note: {note}" for note in frame.notes),
    ]
    return "\n".join(lines)


def _of_processes(processes: int) -> str:
    return "" if processes == 1 else f", of {processes} workers and this process together"


def _task(values: dict[str, Any]) -> str | None:
    """Task that is asked about: what is given, or what its options are of."""
    if values["task__name"] is None and values["task__factor"] is not None:
        return Task.SUPER_RESOLVE.value
    if values["task__name"] is None and values["task__each"]:
        return Task.COMBINE.value
    blurred = values["task__psf"] is not None or values["task__fwhm_px"] is not None
    if values["task__name"] is None and blurred:
        return Task.DECONVOLVE.value
    given: str | None = values["task__name"]
    return given


def _science(places: tuple[str, ...]) -> str:
    """Name the planes to restore; of many the first and the last."""
    if len(places) <= 4:
        return ", ".join(places)
    return f"{len(places)} planes, {places[0]} to {places[-1]}"
