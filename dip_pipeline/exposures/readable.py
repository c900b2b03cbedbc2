"""Which exposures can be read, and whether they can guide each other: before anything is fitted."""

from collections.abc import Sequence
from contextlib import suppress

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.exposures.alike import check_alike
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import open_frames


def readable_exposures(sources: Sequence[str], config: RunConfig) -> list[str]:
    """Those that can be opened, if these are two at least; else all: nothing can be done then."""
    found = []
    for source in sources:
        with suppress(FrameError):
            open_frames(source, config.frame_reading())
            found.append(source)
    return found if len(found) > 1 else list(sources)


def check_exposures(sources: Sequence[str], config: RunConfig) -> None:
    """Raise a DipError where exposures cannot guide each other: one line for all of them."""
    task = {"task.exposures": tuple(sources[1:])}
    first = open_frames(sources[0], config.frame_reading())
    others = Exposures.of(config.with_overrides(**task), first)
    for frames in others.frames if others else ():
        for frame, reference in zip(frames, first, strict=True):
            check_alike(frame, reference, any_optics=config.fit.any_optics)
