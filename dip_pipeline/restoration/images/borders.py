"""Planes continued past their borders, and the adjoint: what lies outside added back inside.

Planes are (batch, 1, rows, cols).
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

Continuation = Callable[[Tensor, int], Tensor]
"""Index inside an axis that stands for an index outside: (indices, length) -> indices."""


def mirrored(index: Tensor, length: int) -> Tensor:
    """Mirror at the outer edge of the last pixel, which is repeated; as often as need be."""
    folded = index.remainder(2 * length)
    return torch.minimum(folded, 2 * length - 1 - folded)


def repeated(index: Tensor, length: int) -> Tensor:
    """Repeat the last pixel."""
    return index.clamp(0, length - 1)


def extend(planes: Tensor, margins: tuple[int, int], continuation: Continuation) -> Tensor:
    """Continue planes by margins (rows, cols) on each side."""
    for axis, margin in zip((-2, -1), margins, strict=True):
        if margin:
            index = _index(planes.shape[axis], margin, continuation, planes.device)
            planes = planes.index_select(axis, index)
    return planes


def fold(planes: Tensor, margins: tuple[int, int], continuation: Continuation) -> Tensor:
    """Apply the transpose of `extend`: every pixel of the margins is added to its source."""
    for axis, margin in zip((-2, -1), margins, strict=True):
        if margin:
            length = planes.shape[axis] - 2 * margin
            index = _index(length, margin, continuation, planes.device)
            shape = list(planes.shape)
            shape[axis] = length
            planes = planes.new_zeros(shape).index_add(axis, index, planes)
    return planes


@lru_cache(maxsize=64)
def _index(length: int, margin: int, continuation: Continuation, device: torch.device) -> Tensor:
    # Kept where the planes are: a step that is recorded on a GPU may copy nothing there.
    return continuation(torch.arange(-margin, length + margin, device=device), length)
