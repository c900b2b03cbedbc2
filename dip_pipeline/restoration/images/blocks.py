"""Which network restores which block of a frame, and is not fitted there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Blocks of a frame, each restored by a network that was not fitted on it.

    Two networks A and B share the frame as a checkerboard: in black blocks A is used and B fitted,
    in white ones the reverse. Of four networks each is used in every second block of every second
    row of blocks, and fitted on the three quarters that are left. Along block borders they are
    blended over guard_px, and there none that is used is fitted. Positions are the frame's, so
    tiles that overlap agree.

    folds : 2 or 4 networks
    """

    block_px: int
    guard_px: int
    folds: int = 2

    @classmethod
    def for_shape(cls, shape: tuple[int, int], folds: int = 2) -> "CrossFit":
        """Blocks of a quarter of the shorter side, 16 to 512 px; guards of an eighth block.

        Sides below 32 px get blocks of half a side, so that each network has somewhere to learn.
        """
        least_px = min(16, min(shape) // 2)
        block_px = int(np.clip(min(shape) // 4 // 8 * 8, least_px, 512))
        return cls(block_px, int(np.clip(block_px // 8, 2, 16)), folds)

    def share(self, fold: int, origin: tuple[int, int], shape: tuple[int, int]) -> Tensor:
        """Weight of a network, from 0 on, in the result, (1, 1, rows, cols); all sum to 1."""
        waves = [
            self._wave(np.arange(first, first + count))
            for first, count in zip(origin, shape, strict=True)
        ]
        if self.folds == 4:
            signs = 1 - 2 * (fold // 2), 1 - 2 * (fold % 2)
            rows, cols = (0.5 * (1 + sign * wave) for sign, wave in zip(signs, waves, strict=True))
            share = rows[:, None] * cols[None, :]
        else:
            first_share = 0.5 * (1 + waves[0][:, None] * waves[1][None, :])
            share = first_share if fold == 0 else 1 - first_share
        return torch.from_numpy(share.astype(np.float32))[None, None]

    def _wave(self, positions: np.ndarray) -> np.ndarray:
        """+1 in even blocks, -1 in odd ones, a ramp of guard_px between them."""
        inside = positions % self.block_px + 0.5
        distance = np.minimum(inside, self.block_px - inside)
        height = np.clip(distance / (self.guard_px / 2), 0.0, 1.0)
        return np.where(positions // self.block_px % 2 == 0, height, -height)
