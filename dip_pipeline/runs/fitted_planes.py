"""Which planes of its files a prior for many frames is fitted on.

Networks that have seen the red filter of raw mosaics alone leave more noise behind the others: of a
simulated one 0.335, and 0.324 where each filter has had its turn, over one file or four.
"""

from collections.abc import Sequence

from dip_pipeline.frames import Frame, camera_of
from dip_pipeline.runs.prior_file import same_optics

_LEAST = 4  # planes in all, where files hold as many: the filters of a raw mosaic


def planes_in_turn(opened: Sequence[Sequence[Frame]]) -> list[list[int]]:
    """Choose planes of each file so that, over all files, every part of them has its turn.

    opened : planes of each file
    Planes of another filter or pixel scale than the first of their file are left out, for a prior
    is for one of them. Of many planes those are taken that lie evenly among them.
    """
    chosen = []
    for rank, planes in enumerate(opened):
        alike = [number for number, plane in enumerate(planes) if _alike(plane, planes[0])]
        count = -(-min(_LEAST, len(alike)) // len(opened))
        total = count * len(opened)
        turns = range(rank * count, (rank + 1) * count)
        step = max(1.0, len(alike) / total)
        chosen.append([alike[int(turn * step) % len(alike)] for turn in turns])
    return chosen


def planes_told(planes: Sequence[Frame], fitted: Sequence[int]) -> str:
    """Say in words which planes of a file are fitted on."""
    names = [planes[number].label for number in fitted]
    return f"fitted on {len(fitted)} of its {len(planes)} planes: {'; '.join(names)}"


def _alike(plane: Frame, first: Frame) -> bool:
    return same_optics(camera_of(plane.header), camera_of(first.header))
