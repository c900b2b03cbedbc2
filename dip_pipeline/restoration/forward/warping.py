"""Sub-pixel warps: an exposure's pixels read from a scene that is shifted, turned or stretched."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.images.borders import repeated

_MOST_SLANT = 0.2  # of the steps along an axis, that a map may have across it
_SINC_PX = 12
_KAISER = 6.0  # shape of the window: light of frequencies up to 0.38 a pixel is read to 0.5 %


class Interpolation(StrEnum):
    """How a scene is read between its pixels."""

    LINEAR = "linear"  # 2 x 2 pixels
    CUBIC = "cubic"  # 4 x 4 pixels: less smoothing, slightly negative weights
    QUINTIC = "quintic"  # 6 x 6 pixels: for what is sampled well, near to exact
    SINC = "sinc"  # 12 x 12 pixels: for what is sampled just well enough


class Reading:
    """A plane that is read at places of another one: each of some taps, by index and weight.

    index, weight : (taps, places), into the flattened plane that is read
    scene, observed : rows and columns of the plane that is read, and of the places
    """

    def __init__(
        self, index: Tensor, weight: Tensor, scene: tuple[int, int], observed: tuple[int, int]
    ) -> None:
        self.scene, self.observed = scene, observed
        self._index, self._weight = index, weight

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


class Warp(Reading):
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
        place = _places(affine, shift_px, observed)
        super().__init__(*_taps(place, scene, interpolation), scene, observed)
        self.inside = _inside(place, scene)
        """(rows, cols) observed, 1 where the pixel's middle lies on the scene, else 0."""


class TwoPasses:
    """The same warp along columns, then along rows, for maps that turn by little or half a turn.

    Catmull and Smith 1980, Computer Graphics 14, 279: of 12 x 12 taps (SINC) 24 are left.
    `is_upright` says for which matrices.
    """

    def __init__(
        self,
        matrix: ArrayLike,
        shift_px: Sequence[float],
        *,
        scene: tuple[int, int],
        observed: tuple[int, int],
    ) -> None:
        affine = np.asarray(matrix, dtype=np.float64)
        (down, slant), (lean, across) = affine.tolist()
        top, left = (float(shift) for shift in shift_px)
        between = scene[0], observed[1]
        row, col = _grid(between)
        # Row of the observation whose pixels of this column lie on this row of the scene.
        own_row = (row - slant * col - top) / down
        cols = _taps_along(lean * own_row + across * col + left, scene[1], Interpolation.SINC)
        self._first = Reading(cols[0] + row.flatten().long() * scene[1], cols[1], scene, between)
        place = _places(affine, shift_px, observed)
        rows = _taps_along(place[0], between[0], Interpolation.SINC)
        col = _grid(observed)[1].flatten().long()
        self._second = Reading(rows[0] * between[1] + col, rows[1], between, observed)
        self.scene, self.observed = scene, observed
        self.inside = _inside(place, scene)

    def forward(self, scene: Tensor) -> Tensor:
        """Read the scene at the observed pixels' places."""
        return self._second.forward(self._first.forward(scene))

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose."""
        return self._first.adjoint(self._second.adjoint(observation))


def is_upright(matrix: ArrayLike) -> bool:
    """Whether a map turns so little, or by half a turn, that two passes lose nothing."""
    affine = np.abs(np.asarray(matrix, dtype=np.float64))
    return bool(max(affine[0, 1], affine[1, 0]) < _MOST_SLANT * min(affine[0, 0], affine[1, 1]))


def _grid(shape: tuple[int, int]) -> Tensor:
    """Rows and columns of pixels, (2, rows, cols)."""
    axes = (torch.arange(length, dtype=torch.float64) for length in shape)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _places(affine: NDArray[np.float64], shift: Sequence[float], shape: tuple[int, int]) -> Tensor:
    """Places of observed pixels on the scene, (2, rows, cols)."""
    start = torch.tensor([float(s) for s in shift], dtype=torch.float64)
    turned: Tensor = torch.tensordot(torch.from_numpy(affine), _grid(shape), 1)
    return turned + start[:, None, None]


def _inside(place: Tensor, scene: tuple[int, int]) -> Tensor:
    limit = torch.tensor(scene, dtype=torch.float64)[:, None, None] - 0.5
    inside: Tensor = ((place >= -0.5) & (place <= limit)).all(0).to(torch.float64)
    return inside


def _taps(
    place: Tensor, scene: tuple[int, int], interpolation: Interpolation
) -> tuple[Tensor, Tensor]:
    """Pixels that each place is read from: flat indices and weights, (taps, places)."""
    rows, down = _taps_along(place[0], scene[0], interpolation)
    cols, across = _taps_along(place[1], scene[1], interpolation)
    index = rows[:, None] * scene[1] + cols[None]
    return index.flatten(0, 1), (down[:, None] * across[None]).flatten(0, 1)


def _taps_along(place: Tensor, length: int, interpolation: Interpolation) -> tuple[Tensor, Tensor]:
    """Pixels of one axis that each place is read from, and their weights: (taps, places)."""
    base = place.floor()
    weights = WEIGHTS[interpolation]((place - base).flatten())
    first = base.flatten().long() - (len(weights) // 2 - 1)
    return repeated(first + torch.arange(len(weights))[:, None], length), weights


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


def _sinc_weights(offset: Tensor) -> Tensor:
    """Weights of the twelve pixels around: sinc under Kaiser's window, their sum 1.

    Kaiser and Schafer 1980, IEEE Trans. ASSP 28, 105.
    """
    reach = _SINC_PX // 2
    distance = offset[None] - torch.arange(1 - reach, reach + 1, dtype=offset.dtype)[:, None]
    within = (1 - (distance / reach) ** 2).clamp(min=0.0).sqrt()
    weights: Tensor = torch.sinc(distance) * torch.special.i0(_KAISER * within)
    return weights / weights.sum(dim=0)


WEIGHTS: dict[Interpolation, Callable[[Tensor], Tensor]] = {
    Interpolation.LINEAR: _linear_weights,
    Interpolation.CUBIC: _cubic_weights,
    Interpolation.QUINTIC: _quintic_weights,
    Interpolation.SINC: _sinc_weights,
}
"""Weights along one axis, (taps, places), by kind: a function of the offset past a pixel."""
