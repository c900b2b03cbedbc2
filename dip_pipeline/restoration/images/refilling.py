"""Holes filled again, once their surroundings are restored: from these, near and far.

What is restored holds little noise, so it predicts faint light in a hole better than the networks
do, which were fitted to known pixels; under bright light, and next to a known pixel, they know
more. Planes are (1, 1, rows, cols), in sky-sigma units.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.images.filling import (
    WIDE,
    Seen,
    autocovariance,
    compressed,
    expanded,
    krige,
    noise_variance,
)
from dip_pipeline.restoration.images.sky_slope import sky_slope
from dip_pipeline.restoration.images.smoothing import smooth

_COARSE_PX = 4  # side of the pixels that wide holes are bridged by
_LEAST_SHARE = 0.25  # of a coarse pixel must be known
_NOISE_LEFT = 0.3  # share of the noise's variance that is taken to be left
_MEDIAN_VARIANCE = 1.57  # of a median, for that of a mean
_LOCAL_PX = 8.0  # over which the strength of structure is measured
_LEAST_STRUCTURE = 0.03  # of the region's
_NEAR_PX, _AWAY_PX = 7, 33  # sides of windows whose known pixels bound what is predicted
# In asinh: predictions that leave their neighbours' range by more come of weights gone wild, and
# the background alone is taken.
_BELIEVED = 0.5
_ROOM = 0.15  # beyond these bounds, as a share of their distance
_FEWEST_BOUND = 7  # known pixels of a window that bound it: a row of those beside a hole's edge
_FAINT_SIGMA, _BRIGHT_SIGMA = 2.0, 5.0  # between which the networks' answer takes over
_BRIGHT_REACH_PX, _BRIGHT_FADE_PX = 5.0, 3.0  # and how far from known pixels it does
_BESIDE_REACH_PX = 2.5


def fill_again(restored: Tensor, known: Tensor, stars: Tensor, away_px: Tensor) -> Tensor:
    """Replace unknown pixels by what restored ones predict, mixed with the networks' answer.

    restored : the networks' image; known ones stay
    stars : light that was taken off, and counts as brightness
    away_px : distance to the nearest known pixel
    A slope of the sky that runs through the whole region is taken off meanwhile.
    """
    if bool((known > 0).all()) or not bool((known > 0).any()):
        return restored
    rows, cols = restored.shape[-2:]
    slope = sky_slope(_medians_of_blocks(restored, known)[0], (rows, cols), _COARSE_PX)
    if slope is None:
        return _filled(restored, known, stars, away_px)
    filled = _filled(restored - slope, known, stars, away_px) + slope
    return torch.where(known > 0, restored, filled)


def _filled(restored: Tensor, known: Tensor, stars: Tensor, away_px: Tensor) -> Tensor:
    """Do what `fill_again` does upon a sky without slope."""
    predicted = _bounded(_predicted_light(restored, known), compressed(restored), known)
    bright = smooth((restored + stars).abs(), 1.0)
    ruled = ((bright - _FAINT_SIGMA) / (_BRIGHT_SIGMA - _FAINT_SIGMA)).clamp(0, 1)
    ruled = ruled * ((_BRIGHT_REACH_PX - away_px) / _BRIGHT_FADE_PX).clamp(0, 1)
    share = torch.maximum(ruled, 0.5 * (_BESIDE_REACH_PX - away_px).clamp(0, 1))
    mixed = share * restored + (1 - share) * expanded(predicted)
    return torch.where(known > 0, restored, mixed)


def _predicted_light(restored: Tensor, known: Tensor) -> Tensor:
    """Predict asinh of the light: a background that reaches across holes, and what it leaves."""
    light = torch.where(known > 0, compressed(restored), 0.0)
    variance = torch.where(known > 0, _NOISE_LEFT * noise_variance(restored), 0.0)
    background = _background(light, known, variance)
    left = Seen((light - background) * known, known, variance, believed=_BELIEVED)
    return background + _predicted(left)


def _background(light: Tensor, known: Tensor, variance: Tensor) -> Tensor:
    """Large structure of the light everywhere, through the holes.

    Medians of 4 x 4 pixels, and of 3 x 3 of those: a hole is not to be filled with the mean light
    of stars that are elsewhere.
    """
    rows, cols = light.shape[-2:]
    medians, shown = _medians_of_blocks(light, known)
    medians = _medians(nnf.unfold(nnf.pad(medians, (1,) * 4, value=torch.nan), 3), shown)
    typical = medians[shown].median()
    values = torch.where(shown, medians - typical, 0.0)
    doubt = float(variance[known > 0].mean()) * _MEDIAN_VARIANCE / _COARSE_PX**2
    around = Seen(values, shown.to(light.dtype), doubt * shown.to(light.dtype))
    coarse = typical + torch.where(shown, values, _predicted(around))
    wide = nnf.interpolate(coarse, scale_factor=_COARSE_PX, mode="bilinear", align_corners=False)
    return wide[..., :rows, :cols]


def _medians_of_blocks(light: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Medians of the known pixels of 4 x 4, NaN where too few are; and where they are enough."""
    rows, cols = light.shape[-2:]
    margin = (0, -cols % _COARSE_PX, 0, -rows % _COARSE_PX)
    share = nnf.avg_pool2d(nnf.pad(known, margin), _COARSE_PX)
    shown = share >= min(_LEAST_SHARE, float(share.max()))
    nothing = torch.full_like(light, torch.nan)
    seen = nnf.pad(torch.where(known > 0, light, nothing), margin, value=torch.nan)
    return _medians(nnf.unfold(seen, _COARSE_PX, stride=_COARSE_PX), shown), shown


def _medians(windows: Tensor, shown: Tensor) -> Tensor:
    """Medians of windows (1, pixels, places), as a plane; NaN where not shown."""
    medians = windows.nanmedian(dim=1).values.view(shown.shape)
    return torch.where(shown, medians, torch.nan)


def _predicted(seen: Seen) -> Tensor:
    """Predict unknown pixels; 0 out of reach, and where known.

    Structure is not the same everywhere: where there is less of it than on average the noise
    counts for more, so that an empty sky between galaxies is averaged over more pixels.
    """
    count = seen.known.sum().clamp(min=1)
    noise = float((seen.variance * seen.known).sum() / count)
    table = autocovariance(seen.values, seen.known, noise)
    power = seen.values**2 * seen.known
    local = smooth(power, _LOCAL_PX) / smooth(seen.known, _LOCAL_PX).clamp(min=1e-6)
    average = max(float(power.sum() / count) - noise, 1e-9)
    structure = ((local - noise) / average).clamp(_LEAST_STRUCTURE, 1.0)
    weighed = Seen(seen.values, seen.known, seen.variance / structure, believed=seen.believed)
    return krige(weighed, torch.zeros_like(seen.values), table, WIDE)


def _bounded(predicted: Tensor, light: Tensor, known: Tensor) -> Tensor:
    """Keep a prediction near the range of the known pixels around it: weights may be wild.

    The range of a few is none: a lone bright pixel in a hole is no floor for those around it.
    """
    for side_px in (_AWAY_PX, _NEAR_PX):
        highest = _highest(light, known, side_px)
        lowest = -_highest(-light, known, side_px)
        room = _ROOM * (highest - lowest)
        within = torch.minimum(torch.maximum(predicted, lowest - room), highest + room)
        count = nnf.avg_pool2d(known, side_px, 1, side_px // 2, divisor_override=1)
        bounds = torch.isfinite(within) & (count > _FEWEST_BOUND - 0.5)
        predicted = torch.where(bounds, within, predicted)
    return predicted


def _highest(light: Tensor, known: Tensor, side_px: int) -> Tensor:
    """Highest known pixel of a window around each; minus infinity where it holds none."""
    seen = torch.where(known > 0, light, -torch.inf)
    return nnf.max_pool2d(seen, side_px, stride=1, padding=side_px // 2)
