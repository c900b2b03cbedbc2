"""By how much the stars of one exposure are wider than those of another: seeing changes.

Half-light radii of the same stars are compared; the sharper exposure is smoothed until they agree,
so that the answer does not hang on the profile that stars have.
"""

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration.matching import StarMatch
from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.stars import APERTURE_WIDTHS, Image, are_whole, bright_ones

_FEWEST, _MOST = 4, 60  # stars
_SURE = 4.0  # standard errors that widths must lie apart
_LEAST_SCATTER = 0.02  # of the radii's logarithms: of few stars it may seem smaller
_LEAST_RATIO = 1.02  # of the radii; what is nearer is the same seeing
_WIDEST = 3.0  # Gaussian, in widths of the stars
_HALVINGS = 12
_OF_MEDIAN = 1.2533  # standard error of a median, for that of a mean


def wider_by_px2(exposure: Seen, reference: Seen, match: StarMatch | None, scale: float) -> float:
    """Variance of the Gaussian that lies between the stars of two exposures.

    scale : pixels of the reference to one of the exposure
    Squares of the reference's pixels; below 0 where the exposure is the sharper one; 0 where they
    are alike, or nothing can be told.
    """
    if match is None:
        return 0.0
    pairs = _bright_pairs(exposure, reference, match)
    if len(pairs) < _FEWEST:
        return 0.0
    own = _Widths(exposure, pairs[:, 0], scale)
    other = _Widths(reference, pairs[:, 1], 1.0)
    reach_px = APERTURE_WIDTHS * max(own.width_px, other.width_px)
    ratios = np.log(own.radii_px(reach_px) / other.radii_px(reach_px))
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) < _FEWEST:
        return 0.0
    middle = float(np.median(ratios))
    scatter = max(_LEAST_SCATTER, 1.4826 * float(np.median(np.abs(ratios - middle))))
    error = _OF_MEDIAN * scatter / np.sqrt(len(ratios))
    if abs(middle) < max(_SURE * error, np.log(_LEAST_RATIO)):
        return 0.0
    if middle > 0:
        return _between(other, own, reach_px) ** 2
    return -(_between(own, other, reach_px) ** 2)


class _Widths:
    """Half-light radii of some stars of an exposure, in pixels of the reference."""

    def __init__(self, seen: Seen, chosen: NDArray[np.int64], scale: float) -> None:
        self.light = seen.cleaned.light
        self.places = seen.stars.places[chosen]
        self.scale = scale
        self.width_px = seen.stars.width_px * scale

    def radii_px(self, reach_px: float, smoothed_px: float = 0.0) -> Image:
        """Radii, NaN where one cannot be told; the light smoothed before."""
        radii = [self._radius_px(place, reach_px, smoothed_px) for place in self.places]
        return self.scale * np.array(radii)

    def _radius_px(self, place: Image, reach_px: float, smoothed_px: float) -> float:
        """Radius of one star, in pixels of the exposure; only what is around it is smoothed."""
        reach, sigma = reach_px / self.scale, smoothed_px / self.scale
        margin = int(np.ceil(reach + 4 * sigma)) + 2
        middle = np.rint(place).astype(int)
        first = np.maximum(middle - margin, 0)
        last = middle + margin + 1
        stamp = np.ascontiguousarray(self.light[first[0] : last[0], first[1] : last[1]])
        if sigma > 0:
            stamp = gaussian_filter(stamp, sigma)
        row, col = place - first
        radius, flag = sep.flux_radius(stamp, [col], [row], [reach], 0.5, subpix=5)
        return float(radius[0]) if flag[0] == 0 and radius[0] > 0 else np.nan


def _bright_pairs(exposure: Seen, reference: Seen, match: StarMatch) -> NDArray[np.int64]:
    """Pairs of stars that are bright and whole in both, (pairs, 2); of many the brightest."""
    both = np.ones(len(match.own), dtype=bool)
    for seen, chosen in ((exposure, match.own), (reference, match.reference)):
        both &= bright_ones(seen.stars, chosen)
        both &= are_whole(seen.cleaned, seen.stars.places[chosen], seen.stars.width_px)
    pairs = np.column_stack([match.own[both], match.reference[both]])
    return pairs[np.argsort(pairs[:, 0], kind="stable")][:_MOST]  # stars are brightest first


def _between(sharp: _Widths, broad: _Widths, reach_px: float) -> float:
    """Gaussian that makes the one as wide as the other, by halving."""
    aim = broad.radii_px(reach_px)
    low, high = 0.0, _WIDEST * sharp.width_px
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        left = np.nanmedian(np.log(aim / sharp.radii_px(reach_px, middle)))
        low, high = (middle, high) if left > 0 else (low, middle)
    return (low + high) / 2
