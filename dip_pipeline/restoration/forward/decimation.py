"""Decimation by a whole factor: what a detector of coarser pixels sees of a fine scene."""

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.forward.optics import DecimationKind
from dip_pipeline.restoration.images.borders import extend, fold, repeated

_LANCZOS_LOBES = 2


class Decimation:
    """Fine pixels to coarse ones, factor x factor to one; the middles of both grids agree.

    factor : 2 or more
    summed : True for pixels that hold a flux (a plane of 1 becomes factor^2), False for a
        brightness (a plane of 1 stays 1)
    Coarse pixel i covers fine pixels i * factor to (i + 1) * factor - 1, in both kinds. Past a
    border the edge pixel is repeated, as in the paper. Raises RestorationError.
    """

    def __init__(self, kind: DecimationKind, factor: int, *, summed: bool = False) -> None:
        if factor != int(factor):
            raise RestorationError(f"factor {factor}: needs a whole number")
        if factor < 2:
            raise RestorationError(f"factor {factor}: needs a whole number from 2")
        self.kind, self.factor, self.summed = kind, int(factor), summed
        self._taps = TAPS[kind](self.factor) * (self.factor if summed else 1)
        self._placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._margins = (((len(self._taps) - self.factor) // 2),) * 2

    def forward(self, scene: Tensor) -> Tensor:
        """Observe the scene: (rows, cols) / factor; raises RestorationError for a remainder."""
        rows, cols = scene.shape[-2:]
        if rows % self.factor or cols % self.factor:
            raise RestorationError(
                f"scene of {rows} x {cols} pixels: needs sides that are a multiple of {self.factor}"
            )
        down, across = self._kernels(scene)
        wide = extend(scene, self._margins, repeated)
        narrow = nnf.conv2d(wide, down, stride=(self.factor, 1))
        return nnf.conv2d(narrow, across, stride=(1, self.factor))

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose: every coarse pixel spread over the fine ones that it saw."""
        down, across = self._kernels(observation)
        narrow = nnf.conv_transpose2d(observation, across, stride=(1, self.factor))
        wide = nnf.conv_transpose2d(narrow, down, stride=(self.factor, 1))
        return fold(wide, self._margins, repeated)

    def _kernels(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        where = planes.device, planes.dtype
        if where not in self._placed:  # a step that is recorded on a GPU may copy nothing there
            self._placed[where] = self._taps.to(*where)
        taps = self._placed[where]
        return taps.view(1, 1, -1, 1), taps.view(1, 1, 1, -1)


def _area_taps(factor: int) -> Tensor:
    return torch.full((factor,), 1 / factor, dtype=torch.float64)


def _lanczos_taps(factor: int) -> Tensor:
    """Windowed sinc of two lobes, d in coarse pixels from the middle of the coarse pixel.

    sinc(d) sinc(d / 2), |d| < 2, sum 1. For even factors these are the 4 * factor taps of Ulyanov
    et al. 2018 with phase 0.5 (Turkowski 1990, Graphics Gems, 147); for odd ones the same function
    at the whole pixels around the middle one, so that the two grids stay aligned.
    """
    reach = _LANCZOS_LOBES * factor
    distance_px = torch.arange(-reach, reach, dtype=torch.float64) + 0.5
    if factor % 2:
        distance_px = torch.arange(1 - reach, reach, dtype=torch.float64)
    distance = distance_px / factor
    taps = torch.sinc(distance) * torch.sinc(distance / _LANCZOS_LOBES)
    return taps / taps.sum()


TAPS: dict[DecimationKind, Callable[[int], Tensor]] = {
    DecimationKind.AREA: _area_taps,
    DecimationKind.LANCZOS: _lanczos_taps,
}
"""Weights along one axis, sum 1, by kind: a function of the factor."""
