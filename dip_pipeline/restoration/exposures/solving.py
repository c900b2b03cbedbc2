"""Linear least squares for the scene that several exposures show.

The scene x is one that a telescope shows: x = G u, with G a Gaussian narrower than the PSF. With W
the inverse variances of the dark sky, u minimises

    sum_k |A_k G u - y_k|^2_W + lambda |C u|^2

A_k reads exposure k from the scene, and C^2 is the weight that all of them have in a pixel, so that
what a shallow exposure alone shows comes back as what a deep one does. Frequencies that G removes
cannot hold noise, and those the pixels blur come back to their strength. The solver's steps are
fixed beforehand, so that x depends on the exposures linearly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from dip_pipeline.restoration.forward.operators import Operator
from dip_pipeline.restoration.forward.optics import Mixture
from dip_pipeline.restoration.images.smoothing import smooth

_TIKHONOV = 3e-4  # lambda
_LARGEST_EIGENVALUE = 1.1  # or what is found
_MARGIN = 1.02
_LANCZOS_STEPS = 30
_START_SEED = 0x1A2C
_LEAST_WEIGHT = 1e-9  # of the largest; less is none
_LEAST_SUPPORT_PX = 0.3  # a narrower Gaussian is none


@dataclass(frozen=True, slots=True)
class Observation:
    """One exposure as the solver takes it; planes (1, 1, rows, cols).

    footprint : reads as `read` does, without negative weights and seeing; reach : with seeing
    seeing : what lies between the sharpest of all and it, sigmas in pixels of the scene
    missing : weight that pixels which are not to be used would have; None where all are used
    factor : pixels of the scene for one of it, along each axis
    weight : inverse variance of its dark sky, 0 where a pixel is not to be used
    sigma : noise of its pixels; root : of their correlation, see `draw_noise`
    """

    read: Operator
    footprint: Operator
    pixels: Tensor
    weight: Tensor
    sigma: Tensor
    root: Tensor | None
    reach: Operator | None = None
    seeing: Mixture = ()
    missing: Tensor | None = None
    factor: int = 1

    def cover(self) -> Tensor:
        """Weight that it has in each pixel of the scene."""
        return self.footprint.adjoint(self.weight)


class _Pace(NamedTuple):
    """How a solver goes on.

    steps : how many; least_eigenvalue : what is smaller comes back in part
    overshoot : of a weight that interpolation's negative lobes carry beside it; lobes_px : how far
    """

    steps: int
    least_eigenvalue: float
    overshoot: float
    lobes_px: int


_USUAL = _Pace(28, 0.015, overshoot=0.25, lobes_px=6)
# Interpolation needs not reach as far on finer pixels; what these blur has smaller eigenvalues.
_ON_FINER_PIXELS = _Pace(56, 0.004, overshoot=0.1, lobes_px=3)


class LeastSquares:
    """Solver for some exposures; see the module."""

    def __init__(
        self, observations: Sequence[Observation], shape: tuple[int, int], support_px: float
    ) -> None:
        self.observations = observations
        self.support_px = support_px
        finer = any(each.factor > 1 for each in observations)
        self._pace = _ON_FINER_PIXELS if finer else _USUAL
        like = observations[0].pixels
        one = torch.ones((1, 1, *shape), dtype=like.dtype, device=like.device)
        weight = sum(
            ((each.reach or each.footprint).adjoint(each.weight) for each in observations),
            torch.zeros_like(one),
        )
        self.largest = float(weight.max())
        local = self._smoothed(weight / self.largest).clamp(min=0.0)
        self._ridge = _TIKHONOV * local
        # Rows of the normal matrix sum to the local weight: divided by it, as a preconditioner,
        # its eigenvalues are about 1 at most, but where interpolation's negative lobes count:
        # beside a deep exposure, and around single pixels in a hole.
        reach = self._pace.lobes_px
        beside = nnf.max_pool2d(local, 2 * reach + 1, stride=1, padding=reach)
        self._scale = (
            torch.maximum(local, self._pace.overshoot * beside).clamp(min=_LEAST_WEIGHT).rsqrt()
        )
        self._most = max(_LARGEST_EIGENVALUE, _MARGIN * self._largest_eigenvalue())

    def _largest_eigenvalue(self) -> float:
        """Largest eigenvalue of the preconditioned matrix, by Lanczos' iteration.

        Saad 2003, algorithm 6.15. A step size beyond it would let the solution grow without end.
        """
        generator = Generator().manual_seed(_START_SEED)
        start = torch.randn(self._scale.shape, generator=generator).to(self._scale)
        now, before = start / start.norm(), torch.zeros_like(start)
        diagonal, beside = [], [0.0]
        for _ in range(_LANCZOS_STEPS):
            after = self._normal(now) - beside[-1] * before
            diagonal.append(float((after * now).sum()))
            after = after - diagonal[-1] * now
            beside.append(float(after.norm()))
            if beside[-1] < 1e-6:
                break
            now, before = after / beside[-1], now
        inner = torch.tensor(beside[1 : len(diagonal)], dtype=torch.float64)
        matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        matrix = matrix + torch.diag(inner, 1) + torch.diag(inner, -1)
        values, vectors = torch.linalg.eigh(matrix)
        return float(values[-1] + beside[-1] * vectors[-1, -1].abs())

    def solve(self, planes: Sequence[Tensor]) -> Tensor:
        """Solve for (batch, 1, rows, cols) planes, one a exposure, by Chebyshev's iteration.

        Saad 2003, Iterative Methods for Sparse Linear Systems, algorithm 12.1.
        """
        middle = (self._most + self._pace.least_eigenvalue) / 2
        half = (self._most - self._pace.least_eigenvalue) / 2
        ratio = half / middle
        residual = self._scale * self._smoothed(self._back(planes))
        solution = torch.zeros_like(residual)
        change = residual / middle
        rho = ratio
        for _ in range(self._pace.steps):
            solution = solution + change
            residual = residual - self._normal(change)
            following = 1 / (2 / ratio - rho)
            change = following * rho * change + 2 * following / half * residual
            rho = following
        # Even light has the eigenvalue 1: a last plain step takes off what is left of its error.
        solution = solution + residual
        return self._smoothed(self._scale * solution)

    def _normal(self, change: Tensor) -> Tensor:
        u = self._scale * change
        scene = self._smoothed(u)
        seen = [each.read.forward(scene) for each in self.observations]
        return self._scale * (self._smoothed(self._back(seen)) + self._ridge * u)

    def _back(self, planes: Sequence[Tensor]) -> Tensor:
        parts = [
            each.read.adjoint(each.weight * plane)
            for each, plane in zip(self.observations, planes, strict=True)
        ]
        return torch.stack(parts).sum(dim=0) / self.largest

    def _smoothed(self, planes: Tensor) -> Tensor:
        return smooth(planes, self.support_px) if self.support_px >= _LEAST_SUPPORT_PX else planes
