"""Sub-pixel warps: an exposure's pixels read from a scene that is shifted, turned or stretched."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.images.borders import repeated


class Interpolation(StrEnum):
    """How a scene is read between its pixels."""

    LINEAR = "linear"  # 2 x 2 pixels
    CUBIC = "cubic"  # 4 x 4 pixels: less smoothing, slightly negative weights
    QUINTIC = "quintic"  # 6 x 6 pixels: for what is sampled well, near to exact


class Warp:
    """Affine warp: observed pixel p sees the scene at matrix @ p + shift_px.

    matrix : 2 x 2; shift_px : (rows, cols), in pixels of the scene; p : (row, col) from 0, whole
        numbers at the middles of pixels
    scene, observed : rows and columns of both
    Values are read, not summed: a brightness stays, whatever the matrix's determinant. Past the
    scene's borders the edge pixel is repeated; `inside` says which pixels lie on the scene, so
    that the others can be masked. Raises RestorationError.
    """

    def __init__(
        self,
        matrix: ArrayLike,
        shift_px: Sequence[float],
        *,
        scene: tuple[int, int],
        observed: tuple[int, int],
        interpolation: Interpolation = Interpolation.CUBIC,
    ) -> None:
        affine = np.asarray(matrix, dtype=np.float64)
        if affine.shape != (2, 2) or not abs(np.linalg.det(affine)) > 1e-9:
            raise RestorationError(f"warp {affine.tolist()}: needs a 2 x 2 matrix to be inverted")
        self.scene, self.observed = scene, observed
        grid = torch.stack(
            torch.meshgrid(
                *(torch.arange(length, dtype=torch.float64) for length in observed), indexing="ij"
            )
        )
        place = torch.tensordot(torch.from_numpy(affine), grid, 1)
        place = (
            place + torch.tensor([float(s) for s in shift_px], dtype=torch.float64)[:, None, None]
        )
        self._index, self._weight = _taps(place, scene, interpolation)
        limit = torch.tensor(scene, dtype=torch.float64)[:, None, None] - 0.5
        self.inside = ((place >= -0.5) & (place <= limit)).all(0).to(torch.float64)
        """(rows, cols) observed, 1 where the pixel's middle lies on the scene, else 0."""

    def forward(self, scene: Tensor) -> Tensor:
        """Read the scene at the observed pixels' places."""
        self._check(scene, self.scene, "scene")
        flat = scene.flatten(-2)
        seen = flat.new_zeros((*flat.shape[:-1], self._index.shape[1]))
        for index, weight in zip(*self._on(scene), strict=True):
            seen = seen + weight * flat.index_select(-1, index)
        return seen.reshape(*seen.shape[:-1], *self.observed)

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose: every observed pixel added to those it was read from."""
        self._check(observation, self.observed, "observation")
        flat = observation.flatten(-2)
        scene = flat.new_zeros((*flat.shape[:-1], self.scene[0] * self.scene[1]))
        for index, weight in zip(*self._on(observation), strict=True):
            scene = scene.index_add(-1, index, weight * flat)
        return scene.reshape(*scene.shape[:-1], *self.scene)

    def _on(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        return self._index.to(planes.device), self._weight.to(planes.device, planes.dtype)

    @staticmethod
    def _check(planes: Tensor, shape: tuple[int, int], name: str) -> None:
        if tuple(planes.shape[-2:]) != tuple(shape):
            given = " x ".join(map(str, planes.shape[-2:]))
            raise RestorationError(f"{name} of {given} pixels: needs {shape[0]} x {shape[1]}")


def _taps(
    place: Tensor, scene: tuple[int, int], interpolation: Interpolation
) -> tuple[Tensor, Tensor]:
    """Pixels that each place is read from: flat indices and weights, (taps, places)."""
    weights_at = WEIGHTS[interpolation]
    base = place.floor()
    axes = []
    for axis in (0, 1):
        weights = weights_at((place[axis] - base[axis]).flatten())
        first = base[axis].flatten().long() - (len(weights) // 2 - 1)
        index = repeated(first + torch.arange(len(weights))[:, None], scene[axis])
        axes.append((index, weights))
    (rows, down), (cols, across) = axes
    index = rows[:, None] * scene[1] + cols[None]
    return index.flatten(0, 1), (down[:, None] * across[None]).flatten(0, 1)


def _linear_weights(offset: Tensor) -> Tensor:
    return torch.stack([1 - offset, offset])


def _cubic_weights(offset: Tensor) -> Tensor:
    """Weights of the four pixels around; Keys 1981, IEEE Trans. ASSP 29, 1153, a = -1/2."""
    near, far = offset, 1 - offset
    return torch.stack([_outer(1 + near), _inner(near), _inner(far), _outer(1 + far)])


def _inner(distance: Tensor) -> Tensor:
    return 1.5 * distance**3 - 2.5 * distance**2 + 1


def _outer(distance: Tensor) -> Tensor:
    return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2


def _quintic_weights(offset: Tensor) -> Tensor:
    """Weights of the six pixels around: Lagrange's polynomial of degree 5 through them."""
    nodes = range(-2, 4)
    return torch.stack(
        [
            torch.stack(
                [(offset - other) / (node - other) for other in nodes if other != node]
            ).prod(dim=0)
            for node in nodes
        ]
    )


WEIGHTS: dict[Interpolation, Callable[[Tensor], Tensor]] = {
    Interpolation.LINEAR: _linear_weights,
    Interpolation.CUBIC: _cubic_weights,
    Interpolation.QUINTIC: _quintic_weights,
}
"""Weights along one axis, (taps, places), by kind: a function of the offset past a pixel."""
