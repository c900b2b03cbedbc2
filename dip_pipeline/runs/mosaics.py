"""Raw mosaics of colour filters in a run: what is said of them, and which tasks take them."""

from collections.abc import Sequence

from dip_pipeline.config.task_section import TaskSection
from dip_pipeline.errors import FrameError
from dip_pipeline.frames import Frame, filters_named, mosaic_of
from dip_pipeline.task import Task


def mosaic_notes(frames: Sequence[Frame], asked: str | None) -> tuple[str, ...]:
    """Say of which planes the pixels are taken apart by their filters, and of which they are not.

    asked : the filters, or "none"; None: what the cards say
    """
    told: dict[str, str] = {}
    for frame in frames:
        mosaic = mosaic_of(frame)
        if mosaic is not None:
            told[frame.where] = (
                f"raw mosaic of colour filters, {mosaic[1]}: each is restored by itself, plane "
                "[row, column] of the four, and put back where it was (--bayer none: all as one "
                "image)"
            )
        elif asked is None and (pattern := filters_named(frame)):
            told[frame.where or "the image"] = (
                f"filters {pattern} by its cards, but its pixels do not alternate: taken as one "
                f"image (--bayer {pattern}: as a raw mosaic)"
            )
    return tuple(f"{where}: {words}" for where, words in told.items())


def check_mosaics(frames: Sequence[Frame], task: TaskSection) -> None:
    """Raise FrameError for a task whose scene, PSF or guides have other pixels than one filter."""
    mosaic = next((found for frame in frames if (found := mosaic_of(frame)) is not None), None)
    optics = task.psf is not None or task.fwhm_px is not None or (task.factor or 1) > 1
    by_optics = optics or task.name in (Task.SUPER_RESOLVE, Task.DECONVOLVE)
    if mosaic is None or not (by_optics or task.guides):
        return
    asked = "with --guide" if task.guides else f"for {task.name} with a PSF or finer pixels"
    raise FrameError(
        f"{mosaic[0].path}: a raw mosaic of colour filters ({mosaic[1]}), whose pixels show one "
        f"colour each: no frame {asked}; give a frame of one colour, or --bayer none if it is one"
    )
