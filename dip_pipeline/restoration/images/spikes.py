"""Spikes: hot and dead pixels, tracks of cosmic rays, bad columns; sharper than any light.

They are known from their own pixel alone, and they are of all frequencies: where they count as
light the noise around them does, too. The largest, which the frame itself shows to be such, are
given back as they were observed, and all around is restored as if they were not there.
"""

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

_RESTORED_SIGMA, _OBSERVED_SIGMA = 5.0, 15.0  # above the level around
_BESIDE = 0.1  # of that, at most, three of four pairs have; of a star of 1.2 px more beside it
_HARDLY_SHARP = 0.3  # the same of what is counted, to tell texture from rays
_AROUND_PX = 2
_FEWEST_ALONE = 3
_CORNERS = (((0, 1), (2, 1)), ((1, 0), (1, 2)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))  # of pairs


def find_spikes(image: Tensor, sigma: Tensor) -> Tensor:
    """Find pixels that differ from all around as no light does, (1, 1, rows, cols).

    A pixel is held against the means of four pairs of pixels opposite each other beside it, and of
    four pairs two pixels away. Of a star three of either have a tenth of its height and more; of a
    hot pixel none has, of a track or a column one.
    image : restored, calm; sigma : of the noise of its pixels. Borders are repeated.
    """
    return _sharper(image, _RESTORED_SIGMA * sigma)


def spikes_of(observed: NDArray[np.float32], sigma: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the same in what was observed, noise and all, (rows, cols): only large ones show it.

    sigma : of the noise around; pixels beside those that are not finite are none.
    """
    planes = (
        torch.from_numpy(np.ascontiguousarray(each))[None, None] for each in (observed, sigma)
    )
    image, noise = planes
    found: NDArray[np.bool_] = _sharper(image, _OBSERVED_SIGMA * noise)[0, 0].numpy()
    return found


def are_alone(observed: NDArray[np.float32], sigma: NDArray[np.float32]) -> bool:
    """Whether what is of one pixel's width cannot be stars: there is twice as much of it.

    Of stars that are narrower than a pixel few lie in the middle of one: of those of 0.8 px one in
    five is as sharp as a hot pixel, the others spread over two and more. Wider stars do, too.
    """
    image, noise = (
        torch.from_numpy(np.ascontiguousarray(each))[None, None] for each in (observed, sigma)
    )
    least, third = _least_and_third(_pairs_of(image, _AROUND_PX))
    height = image - least
    narrow = (height > _OBSERVED_SIGMA * noise) & (third - least < _BESIDE * height)
    narrow &= image >= nnf.max_pool2d(torch.nan_to_num(image), 3, stride=1, padding=1)
    sharp, _ = _by_sign(image, _OBSERVED_SIGMA * noise, _BESIDE)
    alone = int((narrow & sharp).sum())
    return alone >= _FEWEST_ALONE and alone > 2 * int((narrow & ~sharp).sum())


def count_both_ways(observed: NDArray[np.float32], sigma: NDArray[np.float32]) -> tuple[int, int]:
    """Count pixels that are brighter than all around, and darker, by five sigma and more.

    Rays and hot pixels are brighter; of texture, and of noise that is underrated, as many are
    darker.
    """
    image, noise = (
        torch.from_numpy(np.ascontiguousarray(each))[None, None] for each in (observed, sigma)
    )
    bright, dark = (
        int(each.sum()) for each in _by_sign(image, _RESTORED_SIGMA * noise, _HARDLY_SHARP)
    )
    return bright, dark


def _sharper(image: Tensor, least_height: Tensor) -> Tensor:
    bright, dark = _by_sign(image, least_height, _BESIDE)
    return bright | dark


def _by_sign(image: Tensor, least_height: Tensor, beside: float) -> tuple[Tensor, Tensor]:
    """Find what is brighter than all around, and darker; beside : share of it that pairs have."""
    rings = _pairs_of(image, 1), _pairs_of(image, _AROUND_PX)
    found = []
    for sign in (1.0, -1.0):
        one, other = (_least_and_third([sign * pair for pair in ring]) for ring in rings)
        least, third = torch.minimum(one[0], other[0]), torch.maximum(one[1], other[1])
        height = sign * image - least
        found.append((height > least_height) & (third - least < beside * height))
    bright, dark = found
    return bright, dark


def without_spikes(image: Tensor, spikes: Tensor) -> Tensor:
    """Give spikes the middle of the pairs beside them; a plane (1, 1, rows, cols)."""
    if not spikes.any():
        return image
    beside = torch.stack(_pairs_of(image, 1)).median(dim=0).values
    return torch.where(spikes, beside, image)


def _pairs_of(image: Tensor, step_px: int) -> list[Tensor]:
    """Means of two pixels opposite each other, so many rows and columns from each pixel."""
    rows, cols = image.shape[-2:]
    wide = nnf.pad(image, (step_px,) * 4, mode="replicate")

    def at(down: int, right: int) -> Tensor:
        return wide[..., down * step_px :, right * step_px :][..., :rows, :cols]

    return [(at(*one) + at(*other)) / 2 for one, other in _CORNERS]


def _least_and_third(planes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Order four planes pixel by pixel; the least and the third."""
    one, two, three, four = planes
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    low_too, high_too = torch.minimum(three, four), torch.maximum(three, four)
    inner, outer = torch.maximum(low, low_too), torch.minimum(high, high_too)
    return torch.minimum(low, low_too), torch.maximum(inner, outer)
