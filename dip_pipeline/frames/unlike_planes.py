"""Planes that are named as an image's noise or flags, and cannot be: of another size."""

from collections.abc import Sequence

from dip_pipeline.frames.frame import Frame
from dip_pipeline.frames.layouts.names import FLAG_NAMES, NOISE_NAMES


def unlike_notes(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Say which planes beside the one image of a file are not used, for their size."""
    if len(frames) != 1:
        return ()
    (frame,) = frames
    wanted = {
        *(() if frame.has_error_plane else NOISE_NAMES),
        *(() if frame.flag_words else FLAG_NAMES),
    }
    return tuple(
        f"{plane.where}: {' x '.join(map(str, plane.shape))} px beside an image of "
        f"{frame.shape[0]} x {frame.shape[1]}: not used"
        for plane in frame.planes
        if plane.role == "other"
        and plane.name.upper() in wanted
        and len(plane.shape) > 1
        and plane.shape[-2:] != frame.shape
    )
