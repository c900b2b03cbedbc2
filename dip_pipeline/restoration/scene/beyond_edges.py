"""The sky beyond a frame's edges, whose light the PSF brings in: unknown pixels around the frame.

Mirrored at an edge, the light of a star beyond it is another star in the frame; and a pixel at the
edge is explained by light of one side alone. Where pixels beyond are unknown a scene has room for
what is there.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import Problem

_FAINTEST = 1e-3  # of a PSF's peak: as far as it is brighter, pixels are added
_MOST_PX = 32


def beyond_edges(problem: Problem, shape: tuple[int, int]) -> Problem:
    """Put unknown pixels around a region where it ends at an edge of its frame.

    shape : of the frame, (rows, cols). As many as the PSF reaches; none without one.
    """
    optics = problem.optics
    if optics is None or optics.psf is None:
        return problem
    width, inner = [], []
    axes = zip(problem.origin, problem.pixels.shape, shape, _reach_px(optics), strict=True)
    for (first, size, side, reach), part in zip(axes, problem.inner, strict=True):
        before, after = reach if first == 0 else 0, reach if first + size == side else 0
        start, stop, _ = part.indices(size)
        width.append((before, after))
        inner.append(slice(before + start, before + stop))
    if not np.any(width):
        return problem
    around = partial(np.pad, pad_width=width)
    unknown = partial(around, constant_values=np.float32(np.nan))
    return replace(
        problem,
        pixels=unknown(problem.pixels),
        error=None if problem.error is None else unknown(problem.error),
        masked=around(problem.masked, constant_values=True),
        saturated=around(problem.saturated, constant_values=False),
        guides=tuple(unknown(guide) for guide in problem.guides),
        origin=(problem.origin[0] - width[0][0], problem.origin[1] - width[1][0]),
        inner=(inner[0], inner[1]),
    )


def _reach_px(optics: Optics) -> tuple[int, int]:
    """How far the PSF spreads light along rows and columns, pixels of the observation."""
    assert optics.psf is not None
    psf: NDArray[np.floating] = np.abs(optics.psf)
    bright = psf > _FAINTEST * psf.max()
    rows, cols = (
        int(np.abs(places - side // 2).max())
        for places, side in zip(np.nonzero(bright), psf.shape, strict=True)
    )
    return min(_MOST_PX, -(-rows // optics.factor)), min(_MOST_PX, -(-cols // optics.factor))
