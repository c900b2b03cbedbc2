"""What a network sees of an observation whose scene is asked for, and how its answer becomes one.

The network works on the observation's own grid; each of its pixels answers for the factor^2 pixels
of the scene that lie in it. Planes are (batch, channels, rows, cols) in sky-sigma units.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.forward.scene_optics import SceneOptics
from dip_pipeline.restoration.images.asinh import asinh
from dip_pipeline.restoration.images.filling import NEAR, Reach
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.views.features import FEATURE_CHANNELS, derivatives, view
from dip_pipeline.restoration.views.regions import PixelNoise

_SMOOTHED = 4  # copies of the observation, itself the first
_DERIVATIVES = 4
_LARGEST_GAIN = 4.0
_LEANING = 1.0


@dataclass(frozen=True, slots=True)
class SceneView:
    """One batch as a network sees it, and the planes that its answer mixes.

    features : (batch, channels, rows, cols) of the observation
    copies : (batch, copies, fine rows, fine cols), linear guesses of the scene, sharpest first
    details : (batch, details, fine rows, fine cols), planes without light of their own
    sigma : (batch, 1, fine rows, fine cols), noise that a fine pixel alone would have
    """

    features: Tensor
    copies: Tensor
    details: Tensor
    sigma: Tensor


def channels_of(optics: SceneOptics) -> tuple[int, int]:
    """Channels that a network of this optics takes in and gives out."""
    filters = len(optics.sharpeners)
    squared = optics.factor**2
    copies = _SMOOTHED + filters
    answers = copies + (copies - 1) + 2 * _DERIVATIVES + 1
    return FEATURE_CHANNELS + _DERIVATIVES + 2 + 2 * filters * squared, answers * squared


def scene_view(
    observed: Tensor,
    noise: PixelNoise,
    known: Tensor,
    covariance: Tensor,
    optics: SceneOptics,
    *,
    reach: Reach | None = NEAR,
) -> SceneView:
    """Lay out what the network sees: `features.view`, and shapes without regard to brightness.

    Where in its pixel a star lies shows in the ratios of its pixels. These are features of their
    own, so that what is learned on faint stars holds for bright ones.
    """
    seen = view(observed, noise, known, covariance, reach)
    fine = optics.refine(seen.copies)
    sharp = [filtered.forward(fine[:, :1]) for filtered in optics.sharpeners]
    copies = torch.cat([*sharp, fine], dim=1)
    plain, soft, coarse = seen.copies[:, :1], seen.copies[:, 1:2], seen.copies[:, -1:]
    height = smooth((plain - coarse).abs(), 1.0) + 2 * seen.sigma
    ratios = [derivatives(plain) / height, (plain - soft) / height, (soft - coarse) / height]
    inside = [nnf.pixel_unshuffle(plane, optics.factor) for plane in sharp]
    ratios += [(plane - plain) / height for plane in inside]
    ratios += [asinh((plane - plain) / seen.sigma) for plane in inside]
    features = torch.cat([seen.features, *ratios], dim=1)
    steps = [finer - coarser for finer, coarser in pairwise(torch.split(copies, 1, dim=1))]
    first = derivatives(copies[:, leaning(optics) : leaning(optics) + 1])
    second = derivatives(fine[:, 1:2])
    details = torch.cat([*steps, optics.factor * first, optics.factor * second], dim=1)
    sigma = optics.factor * optics.repeat(seen.sigma)
    shown = features.contiguous(memory_format=torch.channels_last)
    return SceneView(shown, copies, details, sigma)


def leaning(optics: SceneOptics) -> int:
    """Which copy a network that answers zero leans towards: no sharper than noise allows."""
    return max(0, len(optics.sharpeners) - 1)


def scene_estimate(answer: Tensor, seen: SceneView, optics: SceneOptics) -> Tensor:
    """Turn a network's answer into a scene: `features.estimate`, for each of the fine pixels.

    Copies are mixed with weights that sum to one, details added with gains, and a residual in
    units of the fine pixel's noise.
    """
    fine = nnf.pixel_shuffle(answer, optics.factor)
    count = seen.copies.shape[1]
    lean = torch.zeros(1, count, 1, 1, device=answer.device)
    lean[:, leaning(optics)] = _LEANING
    weights = torch.softmax(fine[:, :count] + lean, dim=1)
    mixed = (weights * seen.copies).sum(dim=1, keepdim=True)
    raw = fine[:, count:-1]
    gains = raw / (1 + raw.abs() / _LARGEST_GAIN)
    sharpened = (gains * seen.details).sum(dim=1, keepdim=True)
    return mixed + sharpened + seen.sigma * fine[:, -1:]
