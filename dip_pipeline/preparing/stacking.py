"""Planes of a cube that share networks: which do, and which of them these are fitted on."""

from collections.abc import Sequence

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import Frame, mosaic_of

_LEAST_PLANES = 4  # of one HDU that share networks unasked: fewer may be bands, of unlike PSFs
_FITTED_PX = 3 * 1024 * 1024  # of all planes that networks are fitted on
_LEAST_FITTED = 12  # planes, where they are larger than that; windows of each


def planes_of_hdus(frames: Sequence[Frame], least: int = _LEAST_PLANES) -> list[tuple[int, ...]]:
    """Group planes of one HDU that are of one size, by number; where there are so many of them.

    Images of a raw mosaic are together, whose sizes differ by a row or a column where its are odd.
    """
    groups: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for number, frame in enumerate(frames):
        mosaic = mosaic_of(frame)
        shape = frame.shape if mosaic is None else mosaic[0].shape
        groups.setdefault((frame.where, shape), []).append(number)
    return [tuple(group) for group in groups.values() if len(group) >= least]


def stacks_of(frames: Sequence[Frame], config: RunConfig) -> list[tuple[int, ...]]:
    """Find the planes that share networks; one in none of the groups has its own."""
    if not config.may_share_planes:
        return []
    return planes_of_hdus(frames, 2 if config.fit.planes == "together" else _LEAST_PLANES)


def fitted_planes(stack: Sequence[int], shape: tuple[int, int]) -> list[int]:
    """Choose the planes of a stack that its networks are fitted on: evenly, first and last too."""
    count = min(len(stack), max(_LEAST_FITTED, _FITTED_PX // (shape[0] * shape[1])))
    places = np.linspace(0, len(stack) - 1, count).round().astype(int)
    return [stack[place] for place in places]


def stack_notes(frames: Sequence[Frame], stacks: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Say which planes share networks."""
    notes = []
    for stack in stacks:
        first = frames[stack[0]]
        count = len(fitted_planes(stack, first.shape))
        on = "them" if count == len(stack) else f"{count} of them"
        notes.append(
            f"{first.where}: {len(stack)} planes share networks, fitted on {on} (--planes apart: "
            "each has its own)"
        )
    return tuple(notes)
