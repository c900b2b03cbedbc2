"""How wide stars are at half their height: what is called FWHM, whatever their wings."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_FINER = 4  # places to each side of a pixel, between which light is drawn through its pixels
_REACH = 4.0  # radii of half the light, within which a star is looked at
_LEAST_REACH_PX = 5
_RING = 0.8  # of the reach, from where on there is hardly any light of the star
_OFF_PX = 1.5  # from the place of a star to its brightest pixel


def half_height_widths(
    light: NDArray[np.float64], places: NDArray[np.float64], radii_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Full widths at half maximum of stars, px; NaN of those that lie too near to an edge.

    light : (rows, cols); places : of stars, (stars, 2), row and col; radii_px : rough radii that
    hold half their light, (stars,)
    The light around a star is taken off. A circle of that diameter holds what is brighter than half
    of the peak. The radius of half the light tells no such width: of the same FWHM wings, which
    seeing always has, make it a quarter larger than those of a Gaussian.
    """
    pairs = zip(places, radii_px, strict=True)
    return np.array([_half_height_width(light, place, radius) for place, radius in pairs])


def _half_height_width(
    light: NDArray[np.float64], place: NDArray[np.float64], radius_px: float
) -> float:
    reach = max(_LEAST_REACH_PX, int(np.ceil(_REACH * radius_px)))
    row, col = (round(float(at)) for at in place)
    if min(row, col) < reach or row + reach >= light.shape[0] or col + reach >= light.shape[1]:
        return float("nan")
    stamp = light[row - reach : row + reach + 1, col - reach : col + reach + 1]
    offsets = np.arange(-reach, reach + 1)
    away = np.hypot(offsets[:, None], offsets[None])
    above = stamp - np.median(stamp[away >= _RING * reach])
    inside = reach // 2 + 1
    fine = np.arange(-inside * _FINER, inside * _FINER + 1) / _FINER
    at_fine = np.meshgrid(fine + reach, fine + reach, indexing="ij")
    drawn = ndimage.map_coordinates(above, at_fine, order=3)
    off = np.hypot(fine[:, None] + row - place[0], fine[None] + col - place[1])
    middle = np.where(off <= _OFF_PX, drawn, -np.inf)
    peak = np.unravel_index(int(np.argmax(middle)), middle.shape)
    regions, _ = ndimage.label(drawn > drawn[peak] / 2)
    core = regions == regions[peak]
    if not drawn[peak] > 0 or core[0].any() or core[-1].any() or core[:, [0, -1]].any():
        return float("nan")
    return float(2 * np.sqrt(core.sum() / np.pi) / _FINER)
