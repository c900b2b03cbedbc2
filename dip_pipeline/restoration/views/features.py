"""What an image-input network sees, and how its answer becomes an image.

All planes are (batch, 1, rows, cols) in sky-sigma units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.images.asinh import asinh
from dip_pipeline.restoration.images.filling import NEAR, Reach, fill
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise import twinning
from dip_pipeline.restoration.views import guiding
from dip_pipeline.restoration.views.regions import PixelNoise

# Standard deviations, in pixels, of the smoothed copies the network mixes.
_SCALES_PX = (1.0, 2.0, 4.0)
FEATURE_CHANNELS = 2 + len(_SCALES_PX) + 2  # without guides
_COPIES = 1 + len(_SCALES_PX)
# First and second derivatives: by columns, by rows, their difference, mixed.
_DERIVATIVES = torch.tensor(
    [
        [[0.0, 0.0, 0.0], [-0.5, 0.0, 0.5], [0.0, 0.0, 0.0]],
        [[0.0, -0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]],
        [[0.0, 1.0, 0.0], [-1.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        [[0.25, 0.0, -0.25], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.25]],
    ]
)[:, None]
_DETAILS = (_COPIES - 1) + len(_DERIVATIVES)
ANSWER_CHANNELS = _COPIES + _DETAILS + 1  # weights, gains, residual; without guides
# A network that answers zero leans towards the image as it is.
_LARGEST_GAIN = 4.0
_LEANING = (1.0, 0.0, 0.0, 0.0)


def feature_channels(guide_planes: int) -> int:
    """How many channels a network sees, with guides, or a twin, of so many planes."""
    if guide_planes == twinning.PLANES:
        return FEATURE_CHANNELS + twinning.CHANNELS
    return FEATURE_CHANNELS + guide_planes // 2 * guiding.CHANNELS


def answer_channels(guide_planes: int) -> int:
    """How many channels it answers; those of guides stand before the residual."""
    if guide_planes == twinning.PLANES:
        return ANSWER_CHANNELS
    return ANSWER_CHANNELS + guide_planes // 2 * guiding.GAINS


@dataclass(frozen=True, slots=True)
class View:
    """One batch as a network sees it.

    features : (batch, feature_channels, rows, cols)
    copies : (batch, 1 + scales, rows, cols), the image and its smoothed copies
    sigma : (batch, 1, rows, cols)
    guided : (batch, details, rows, cols), what guides add; None without guides
    """

    features: Tensor
    copies: Tensor
    sigma: Tensor
    guided: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "View":
        """Change all planes alike."""
        guided = None if self.guided is None else change(self.guided)
        return View(change(self.features), change(self.copies), change(self.sigma), guided)

    def cut(self, rows: slice, cols: slice) -> "View":
        """Give a window of it."""
        return self.each(lambda plane: plane[..., rows, cols])


def view(
    observed: Tensor,
    noise: PixelNoise,
    known: Tensor,
    covariance: Tensor,
    reach: Reach | None = NEAR,
    guides: Tensor | None = None,
) -> View:
    """Fill what is unknown, smooth, and lay out the features.

    The noise level is taken from `observed` itself, smoothed: a sigma drawn from the frame would
    tell the network of the very noise that a recorrupted copy hides.

    asinh of the level alone hides the noise under bright light, so the differences between
    neighbouring scales, in units of the local noise, are features of their own.

    reach : of filling; None where `observed` is filled already
    guides : (batch, 2 * guides, rows, cols), see `guide_planes`; of a twin (batch, 3, rows, cols),
        see `twinning`: the image is then the mean of both, and sigma its noise
    """
    filled = observed if reach is None else fill(observed, known, covariance, reach)
    sigma = noise.sigma(smooth(filled, 1.0))
    more: list[Tensor] = []
    if guides is not None and guides.shape[1] == twinning.PLANES:
        filled, sigma, more = twinning.joined(guides, filled, sigma, known, noise.root)
        known = torch.maximum(known, more[0])  # its share where it stands for the frame
        guides = None
    copies = [filled, *(smooth(filled, scale_px) for scale_px in _SCALES_PX)]
    details = [asinh((fine - coarse) / sigma) for fine, coarse in pairwise(copies)]
    features = [
        asinh(copies[-1] / 3),
        asinh((copies[0] - copies[-1]) / sigma),
        *details,
        torch.log(sigma),
        1 - known,
        *more,
    ]
    guided = None
    if guides is not None:
        more, added = guiding.guide_features(guides, copies, sigma)
        features, guided = [*features, *more], torch.cat(added, dim=1)
    stacked = torch.cat(features, dim=1).contiguous(memory_format=torch.channels_last)
    return View(stacked, torch.cat(copies, dim=1), sigma, guided)


def estimate(answer: Tensor, seen: View) -> Tensor:
    """Turn a network's answer into an image.

    The answer mixes the smoothed copies with weights that sum to one (so flux is kept from the
    start, and bright cores may keep their own pixels), adds the differences between neighbouring
    copies, and derivatives of the finest smoothed one, with gains (so that what is learned on faint
    stars holds for bright ones, wherever in the pixel they lie), and a residual in units of sigma.
    What guides add has gains of its own.
    """
    leaning, _ = _constants(answer.device)
    logits = answer[:, :_COPIES] + leaning
    weights = torch.softmax(logits, dim=1)
    mixed = (weights * seen.copies).sum(dim=1, keepdim=True)
    steps = seen.copies[:, :-1] - seen.copies[:, 1:]
    added = [] if seen.guided is None else [seen.guided]
    details = torch.cat([steps, derivatives(seen.copies[:, 1:2]), *added], dim=1)
    sharpened = (_bounded(answer[:, _COPIES:-1]) * details).sum(dim=1, keepdim=True)
    return mixed + sharpened + seen.sigma * answer[:, -1:]


def _bounded(gains: Tensor) -> Tensor:
    """Keep gains within bounds: beyond what was fitted they would run away with the light."""
    return _LARGEST_GAIN * torch.tanh(gains / _LARGEST_GAIN)


def derivatives(planes: Tensor) -> Tensor:
    """Take the derivatives of (batch, 1, rows, cols) planes by central differences, as channels."""
    _, kernels = _constants(planes.device)
    return nnf.conv2d(nnf.pad(planes, (1, 1, 1, 1), mode="replicate"), kernels.to(planes.dtype))


@lru_cache(maxsize=32)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Leaning and derivatives on a device: to copy them there at each step would make it wait."""
    return torch.tensor(_LEANING, device=device).view(1, -1, 1, 1), _DERIVATIVES.to(device)
