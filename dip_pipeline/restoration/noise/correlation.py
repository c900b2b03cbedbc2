"""Draws of noise with the frame's correlation: white noise convolved with a root kernel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.sensor.noise_kernel import NoiseKernel

_LEAST_SPAN_PX = 33  # of the plane on which an impulse is smoothed


def root_of(kernel: NoiseKernel, device: torch.device | str = "cpu") -> Tensor | None:
    """Root kernel as (1, 1, side, side); None for white noise, which then costs nothing."""
    if kernel.is_white:
        return None
    return torch.tensor(kernel.root, dtype=torch.float32, device=device)[None, None]


def draw_noise(like: Tensor, generator: Generator, root: Tensor | None = None) -> Tensor:
    """Draw noise of unit variance, of the shape, device and precision of `like`.

    root : (1 or batch, 1, side, side); `like` is (batch, 1, rows, cols) then, of any shape
    without it.
    """
    white = draw_white(like.shape, generator, root)
    return correlate(white.to(like.device, like.dtype), root)


def draw_white(shape: Sequence[int], generator: Generator, root: Tensor | None = None) -> Tensor:
    """Draw what `correlate` turns into noise of that shape, where the generator is.

    It is wider than the noise by the kernel's reach, so that borders are like the rest.
    """
    margin = 2 * reach_px(root)
    wide = [*shape[:-2], *(side + margin for side in shape[-2:])] if margin else list(shape)
    return torch.randn(wide, generator=generator, device=generator.device)


def correlate(white: Tensor, root: Tensor | None) -> Tensor:
    """Turn white noise, (batch, 1, rows, cols), into noise smaller by twice the kernel's reach."""
    if root is None:
        return white
    root = root.to(white.device, white.dtype)
    if len(root) == 1:
        return nnf.conv2d(white, root)
    return nnf.conv2d(white.transpose(0, 1), root, groups=len(root)).transpose(0, 1)


def same_sided(roots: Sequence[Tensor | None]) -> list[Tensor] | None:
    """Bring root kernels to the side of the widest, so that they fit into one batch.

    None where all noise is white.
    """
    reach = max(reach_px(root) for root in roots)
    if reach == 0:
        return None
    device = next(root.device for root in roots if root is not None)
    single = torch.ones(1, 1, 1, 1, device=device)
    found = [single if root is None else root for root in roots]
    return [nnf.pad(root, [reach - reach_px(root)] * 4) for root in found]


def reach_px(root: Tensor | None) -> int:
    """How far the kernel reaches to each side, pixels."""
    return 0 if root is None else root.shape[-1] // 2


def scatter_left(sigma_px: float, root: Tensor | None) -> float:
    """Give what smoothing leaves of noise of unit standard deviation; root : see `root_of`."""
    kernel = torch.ones(1, 1, 1, 1) if root is None else root[:1].cpu()
    side = max(_LEAST_SPAN_PX, 2 * (round(3 * sigma_px) + kernel.shape[-1] // 2 + 1) + 1)
    impulse = torch.zeros(1, 1, side, side)
    start = (side - kernel.shape[-1]) // 2
    impulse[..., start : start + kernel.shape[-2], start : start + kernel.shape[-1]] = kernel
    return float((smooth(impulse, sigma_px) ** 2).sum().sqrt())
