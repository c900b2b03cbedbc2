"""What guides say to a network: features, and details that they add to the image.

Flash and no-flash of Petschnigg et al. 2004 (ACM Trans. Graph. 23, 664); on the sky a broad band
for a narrow one, a stack for one exposure. What only the guide shows must not enter the image, so
the light of the image comes from the frame alone: a guide says over which pixels to average, and
how the average is to be shaped. Guides come as `guide_planes` lays them out.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dip_pipeline.restoration.images.asinh import asinh
from dip_pipeline.restoration.images.smoothing import smooth

_SCALES_PX = (1.0, 2.0, 4.0)  # standard deviations of the smoothed copies of a guide
# Windows over which the frame is regressed on a guide, and on how many copies of it.
_WINDOWS_PX = ((1.5, 1), (3.0, 1), (2.0, 2))
CHANNELS = 2 + len(_SCALES_PX) + len(_WINDOWS_PX)  # features a guide adds
GAINS = len(_WINDOWS_PX)  # details a guide adds
_REGULAR = 1.0  # variance added to a guide's in a regression: that of its noise
_DOUBTED = 4.0  # chi-square, a regressor, that counts for nothing


def guide_features(
    guides: Tensor, copies: Sequence[Tensor], sigma: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Features of the guides, and the details that they add to the image.

    copies : the frame and its smoothed copies; sigma : its noise
    Details are what a guide, fitted to the frame around each pixel, shows beyond the mean of the
    frame: nothing where the frame does not go along with it.
    """
    features, details = [], []
    values, known = guides.chunk(2, dim=1)
    for number in range(values.shape[1]):
        guide, shown = values[:, number : number + 1], known[:, number : number + 1]
        levels = [guide, *(smooth(guide, scale_px) for scale_px in _SCALES_PX)]
        features += [shown * asinh(levels[-1] / 3), 1 - shown]
        for fine, coarse in pairwise(levels):
            features.append(shown * asinh(fine - coarse))
        for window_px, regressors in _WINDOWS_PX:
            detail = shown * _regressed(copies[0], levels[:regressors], sigma, window_px)
            features.append(asinh(detail / sigma))
            details.append(detail)
    return features, details


def _regressed(
    observed: Tensor, regressors: Sequence[Tensor], sigma: Tensor, window_px: float
) -> Tensor:
    """Give the guided filter's image less the mean of the frame around each pixel.

    Around each pixel the frame is a g + c h + b of the guide g and its smoothed copy h, which
    makes up for another point spread function. Where noise alone could do it a and c are shrunk, in
    the positive part manner of James and Stein; then they are averaged over the windows that hold
    the pixel. He et al. 2013, IEEE Trans. Pattern Anal. Mach. Intell. 35(6), 1397, equations 5 to
    8 and 19, with Gaussian windows.
    """
    weight = 1 / sigma**2
    total = smooth(weight, window_px)

    def mean(plane: Tensor) -> Tensor:
        return smooth(weight * plane, window_px) / total

    light, levels = mean(observed), [mean(one) for one in regressors]
    with_frame = [
        mean(observed * one) - light * level for one, level in zip(regressors, levels, strict=True)
    ]
    slopes = _solved(regressors, levels, with_frame, mean)
    # Chi-square of what is explained, for as many degrees of freedom as there are regressors.
    explained = torch.zeros_like(light)
    for slope, one in zip(slopes, with_frame, strict=True):
        explained = explained + slope * one
    explained = explained * total * (2 * torch.pi * window_px**2)
    belief = (1 - _DOUBTED * len(slopes) / explained.clamp(min=1e-6)).clamp(min=0.0)
    slopes = [belief * slope for slope in slopes]
    offset = light - sum(slope * level for slope, level in zip(slopes, levels, strict=True))
    image = smooth(offset, window_px) - smooth(observed, window_px)
    for slope, one in zip(slopes, regressors, strict=True):
        image = image + smooth(slope, window_px) * one
    return image


def _solved(
    regressors: Sequence[Tensor],
    levels: Sequence[Tensor],
    with_frame: Sequence[Tensor],
    mean: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Solve the normal equations of one or two regressors at every pixel."""
    first = mean(regressors[0] ** 2) - levels[0] ** 2 + _REGULAR
    if len(regressors) == 1:
        return [with_frame[0] / first]
    second = mean(regressors[1] ** 2) - levels[1] ** 2 + _REGULAR
    both = mean(regressors[0] * regressors[1]) - levels[0] * levels[1]
    determinant = (first * second - both**2).clamp(min=_REGULAR**2)
    return [
        (second * with_frame[0] - both * with_frame[1]) / determinant,
        (first * with_frame[1] - both * with_frame[0]) / determinant,
    ]
