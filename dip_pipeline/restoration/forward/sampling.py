"""What an exposure sees of a scene on a finer grid: shifted or turned, then summed over pixels."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.operators import Composed, Operator
from dip_pipeline.restoration.forward.optics import DecimationKind
from dip_pipeline.restoration.forward.warping import (
    WEIGHTS,
    Interpolation,
    TwoPasses,
    Warp,
    is_upright,
)

Matrix = tuple[tuple[float, float], tuple[float, float]]
_SHIFT_ALONE = 1e-7  # of a matrix from the unit matrix, at most, to count as a shift
_USUAL = Interpolation.QUINTIC
_STEP_PX = 1e-4  # shifts nearer than this to a whole pixel are one


def sampling(
    matrix: Matrix,
    shift_px: tuple[float, float],
    *,
    scene: tuple[int, int],
    observed: tuple[int, int],
    factor: int = 1,
    interpolation: Interpolation = _USUAL,
) -> tuple[Operator, Tensor]:
    """Operator from a scene to an exposure, and which of its pixels lie on the scene.

    matrix, shift_px : of the exposure's pixels on those of the reference, see `Exposure`
    scene : (rows, cols) of the scene, factor times the reference's
    observed : (rows, cols) of the exposure
    A brightness is kept. The second value is (1, 1, rows, cols), 1 where all of a pixel lies on
    the scene, else 0.
    """
    is_shift = float(np.abs(np.asarray(matrix) - np.eye(2)).max()) < _SHIFT_ALONE
    build: Callable[..., tuple[Operator, Tensor]] = _shifted if is_shift else _warped
    return build(
        matrix,
        shift_px,
        scene=scene,
        observed=observed,
        factor=factor,
        interpolation=interpolation,
    )


class ShiftedSampling:
    """Interpolation at a shift, then the mean over factor x factor pixels; both at once.

    Along each axis one short kernel at a stride of `factor`: many times faster than a warp. Past
    the scene's borders there is nothing.
    """

    def __init__(
        self,
        shift_px: tuple[float, float],
        *,
        scene: tuple[int, int],
        observed: tuple[int, int],
        factor: int,
        interpolation: Interpolation = _USUAL,
    ) -> None:
        self.scene, self.observed, self.factor = scene, observed, factor
        self._taps: list[Tensor] = []
        pads: list[tuple[int, int]] = []
        for shift, length, count in zip(shift_px, scene, observed, strict=True):
            # The first fine pixel of coarse pixel 0 reads the scene at factor * shift.
            place = round(shift * factor / _STEP_PX) * _STEP_PX
            whole = int(np.floor(place))
            between = WEIGHTS[interpolation](torch.tensor(place - whole, dtype=torch.float64))
            box = torch.full((factor,), 1 / factor, dtype=torch.float64)
            taps = nnf.conv1d(
                between.view(1, 1, -1), box.view(1, 1, -1), padding=factor - 1
            ).flatten()
            self._taps.append(taps)
            first = whole - (len(between) // 2 - 1)
            last = first + factor * (count - 1) + len(taps)
            pads.append((-first, last - length))
        (top, bottom), (left, right) = pads
        self._pad = (left, right, top, bottom)

    def forward(self, scene: Tensor) -> Tensor:
        """Observe the scene."""
        down, across = self._kernels(scene)
        wide = nnf.pad(scene, self._pad)
        return nnf.conv2d(
            nnf.conv2d(wide, down, stride=(self.factor, 1)), across, stride=(1, self.factor)
        )

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose."""
        down, across = self._kernels(observation)
        narrow = nnf.conv_transpose2d(observation, across, stride=(1, self.factor))
        wide = nnf.conv_transpose2d(narrow, down, stride=(self.factor, 1))
        return nnf.pad(wide, tuple(-side for side in self._pad))

    def _kernels(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        down, across = (taps.to(planes.device, planes.dtype) for taps in self._taps)
        return down.view(1, 1, -1, 1), across.view(1, 1, 1, -1)


def _shifted(
    matrix: Matrix,  # noqa: ARG001  (the unit matrix)
    shift_px: tuple[float, float],
    *,
    scene: tuple[int, int],
    observed: tuple[int, int],
    factor: int,
    interpolation: Interpolation,
) -> tuple[Operator, Tensor]:
    operator = ShiftedSampling(
        shift_px, scene=scene, observed=observed, factor=factor, interpolation=interpolation
    )
    axes = []
    for shift, length, count in zip(shift_px, scene, observed, strict=True):
        first = (torch.arange(count, dtype=torch.float64) + shift) * factor
        axes.append((first >= -1e-6) & (first + factor <= length + 1e-6))
    inside = (axes[0][:, None] & axes[1][None]).to(torch.float32)
    return operator, inside[None, None]


def _warped(
    matrix: Matrix,
    shift_px: tuple[float, float],
    *,
    scene: tuple[int, int],
    observed: tuple[int, int],
    factor: int,
    interpolation: Interpolation,
) -> tuple[Operator, Tensor]:
    """Cut both grids finer: place (q + 1/2) / factor - 1/2 of a pixel's grid is fine pixel q."""
    affine = np.asarray(matrix)
    half = (1 - 1 / factor) / 2
    shift = factor * (np.asarray(shift_px) + half - affine @ np.array([half, half]))
    fine = (observed[0] * factor, observed[1] * factor)
    row, col = shift.tolist()
    warp: Warp | TwoPasses
    if interpolation is Interpolation.SINC and is_upright(affine):
        warp = TwoPasses(affine, (row, col), scene=scene, observed=fine)
    else:  # so many taps along both axes would fill the memory
        usual = _USUAL if interpolation is Interpolation.SINC else interpolation
        warp = Warp(affine, (row, col), scene=scene, observed=fine, interpolation=usual)
    inside = warp.inside.to(torch.float32)[None, None]
    if factor == 1:
        return warp, inside
    decimation = Decimation(DecimationKind.AREA, factor)
    whole = (decimation.forward(inside) > 1 - 1e-6).to(torch.float32)
    return Composed([warp, decimation]), whole


def inverse_of(matrix: Matrix, shift_px: tuple[float, float]) -> tuple[Matrix, tuple[float, float]]:
    """Turn an affine map around: p = matrix @ q + shift as q = other @ p + other shift."""
    other = np.linalg.inv(np.asarray(matrix))
    (a, b), (c, d) = other.tolist()
    row, col = (-other @ np.asarray(shift_px)).tolist()
    return ((a, b), (c, d)), (row, col)
