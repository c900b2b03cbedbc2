"""A twin of the frame: the same light on the same pixels, observed at other times.

Unlike a guide it is in the frame's own unit, so that both can be averaged, each by its noise,
where they agree. Where they do not (something moved, or is brighter by now) the frame alone counts.
It is laid out as planes (batch, 3, rows, cols): light in sky-sigma units, where it is known, and
its noise.
"""

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.forward.optics import Twin
from dip_pipeline.restoration.images.asinh import asinh
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import scatter_left

PLANES = 3
CHANNELS = 2
_SCALES_PX = (1.0, 2.0)  # over which the two are compared
_DOUBT, _DISBELIEF = 2.5, 4.0  # standard deviations of what is smoothed


def lay_out_twin(twin: Twin, level: float, sigma: float) -> Tensor:
    """Planes of a twin, (1, 3, rows, cols); level, sigma : of the frame's sky, its unit."""
    known = np.isfinite(twin.pixels) & np.isfinite(twin.error) & (twin.error > 0)
    light = np.where(known, (twin.pixels - level) / sigma, 0.0)
    noise = np.where(known, twin.error / sigma, 1.0)
    planes = np.stack([light, known, noise]).astype(np.float32)
    return torch.from_numpy(planes)[None]


def less(planes: Tensor, light: Tensor) -> Tensor:
    """Take light, (1, 1, rows, cols) in sky sigma, off a twin."""
    return torch.cat([planes[:, :1] - light.to(planes), planes[:, 1:]], dim=1)


def joined(
    planes: Tensor, frame: Tensor, sigma: Tensor, seen: Tensor, root: Tensor | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Average frame and twin where they agree: image, its noise, features that tell of it.

    Where the frame was not seen the twin stands for it, if they agree around.

    seen : 1 where the frame holds information
    root : of the correlation of the frame's noise, which that of the twin is taken to have, too;
        see `root_of`
    """
    light, known, noise = planes.chunk(PLANES, dim=1)
    off, belief = _compared(planes, frame, sigma, seen, root)
    share = known * belief * (1 - seen * noise**2 / (sigma**2 + noise**2))
    image = frame + share * (light - frame)
    left = (((1 - share) * sigma) ** 2 + (share * noise) ** 2).sqrt()
    return image, left, [share, asinh(smooth(off, 1.0) / _scatter(1.0, root))]


def redrawn(
    planes: Tensor, frame: Tensor, light: Tensor, sigma: Tensor, noise: Tensor, root: Tensor | None
) -> Tensor:
    """Give a twin as it would be with other noise and this light, where it is believed.

    frame, sigma : it is believed, or not, beside these; noise : a draw of unit variance
    """
    seen = torch.ones_like(frame)
    _, belief = _compared(planes, frame, sigma, seen, root)
    shown, known, scatter = planes.chunk(PLANES, dim=1)
    other = shown + belief * (light + scatter * noise - shown)
    return torch.cat([other, known, scatter], dim=1)


def _compared(
    planes: Tensor, frame: Tensor, sigma: Tensor, seen: Tensor, root: Tensor | None
) -> tuple[Tensor, Tensor]:
    """How far a twin is off, in standard deviations of a pixel; how far it is believed, 0 to 1."""
    light, known, noise = planes.chunk(PLANES, dim=1)
    off = known * seen * (light - frame) / (sigma**2 + noise**2).sqrt()
    belief = torch.ones_like(frame)
    for scale_px in _SCALES_PX:
        far = smooth(off, scale_px).abs() / _scatter(scale_px, root)
        belief = torch.minimum(belief, (_DISBELIEF - far) / (_DISBELIEF - _DOUBT))
    return off, -nnf.max_pool2d(-belief.clamp(min=0.0), 5, stride=1, padding=2)


def _scatter(scale_px: float, root: Tensor | None) -> float:
    """Scatter of smoothed noise of unit variance: 1 / (2 sqrt(pi) scale) where it is white."""
    return 1 / (2 * torch.pi**0.5 * scale_px) if root is None else scatter_left(scale_px, root)
