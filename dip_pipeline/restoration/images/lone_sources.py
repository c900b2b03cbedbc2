"""Sources that only a guide shows, as far as the frame's noise lets it be told, and without them.

Each peak of a guide is a template: its light, around the peak, is fitted to the frame by least
squares, a photometry by point spread function (Stetson 1987, PASP 99, 191) whose function is the
guide's own picture of the source. What most sources have in common is the ratio of the two; a
source whose light would stand out of the frame at that ratio, and does not, is taken off the guide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = NDArray[np.intp]

_PEAK_PX, _AROUND_PX = 1.0, 3.0  # standard deviations, of a difference that shows peaks
_PEAK_SIGMA = 5.0  # of the noise of that difference
_FITTED_PX = 8.0  # of a template around its peak
_REACH_PX = 24.0  # of what is taken off
_RISES_SIGMA = 0.8  # above its surroundings, in sigma of a guide's pixel: what belongs to a source
_FEWEST = 5  # peaks that agree on a ratio
_EXPECTED_SIGMA = 6.0  # a source is missed where it would be seen so well ...
_SEEN_SIGMA = 3.0  # ... and is not seen even so well,
_SEEN_SHARE = 0.1  # or is no more than this share of what was expected
_SAME_PX = 2.0  # from a star to the peak of a guide that is its picture


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Peaks of a guide, and what the frame shows of each.

    basins : (rows, cols), number of the peak that a pixel belongs to, from 1; 0: of none
    rows, cols : places of the peaks
    ratios, errors : light of the frame per light of the guide, and its standard error (infinite
        where the frame knows nothing)
    """

    basins: Labels
    rows: Labels
    cols: Labels
    ratios: Image
    errors: Image


def find_peaks(guide: Image, frame: Image, doubt: Image, trusted: Mask) -> Peaks:
    """Find the peaks of a guide and fit each to the frame.

    guide : light above its sky in units of its noise, NaN where unknown; frame : light above the
    sky; doubt : its standard error, that of a mean over a source where noise is correlated;
    trusted : where the frame counts. All are (rows, cols).
    """
    known = np.isfinite(guide)
    light = np.where(known, guide, 0.0)
    calm = ndimage.gaussian_filter(light, _PEAK_PX)
    contrast = (calm - ndimage.gaussian_filter(light, _AROUND_PX)) / _scatter_of_contrast()
    top = (ndimage.maximum_filter(calm, 3) == calm) & (contrast > _PEAK_SIGMA) & known
    marked, count = ndimage.label(top, np.ones((3, 3)))
    if count == 0:
        none = np.zeros(0)
        return Peaks(np.zeros(light.shape, np.intp), *(none.astype(np.intp),) * 2, none, none)
    places = np.array(ndimage.center_of_mass(top, marked, np.arange(1, count + 1)))
    rows, cols = np.rint(places).astype(np.intp).T
    basins = _basins(calm, marked)
    far_px = np.hypot(
        *(at - of[basins - 1] for at, of in zip(np.indices(light.shape), (rows, cols), strict=True))
    )
    basins = np.where((far_px <= _REACH_PX) & known, basins, 0)
    fitted = np.where((far_px <= _FITTED_PX) & trusted, basins, 0)
    ratios, errors = _slopes(calm, frame, doubt, fitted, count)
    return Peaks(basins, rows, cols, ratios, errors)


def usual_ratio(ratios: Image, errors: Image) -> float:
    """Say what the better half of all peaks of a guide have in common; 0 where they are too few."""
    finite = np.isfinite(errors)
    if finite.sum() < _FEWEST:
        return 0.0
    better = errors <= np.median(errors[finite])
    return max(0.0, float(np.median(ratios[better])))


def missed_by_frame(peaks: Peaks, ratio: float) -> Mask:
    """Say which peaks of a guide are missing in the frame at that ratio, (peaks,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        missed: Mask = (ratio > _EXPECTED_SIGMA * peaks.errors) & (
            peaks.ratios < np.maximum(_SEEN_SIGMA * peaks.errors, _SEEN_SHARE * ratio)
        )
    return missed


def at_places(peaks: Peaks, rows: Image, cols: Image) -> Mask:
    """Say which peaks of a guide are at some places, (peaks,)."""
    found = np.zeros(len(peaks.rows), bool)
    if found.size and rows.size:
        tree = cKDTree(np.column_stack([peaks.rows, peaks.cols]))
        apart_px, nearest = tree.query(np.column_stack([rows, cols]))
        found[nearest[apart_px <= _SAME_PX]] = True
    return found


def without_peaks(guide: Image, peaks: Peaks, which: Mask) -> Image:
    """Take the light of some peaks off a guide; NaN there."""
    if not which.any():
        return guide
    calm = ndimage.gaussian_filter(np.where(np.isfinite(guide), guide, 0.0), _PEAK_PX)
    gone = np.zeros(guide.shape, bool)
    windows = ndimage.find_objects(peaks.basins)
    for number in np.flatnonzero(which):
        window = windows[number]
        own = peaks.basins[window] == number + 1
        rises = calm[window] > np.quantile(calm[window][own], 0.25) + _RISES_SIGMA
        parts, _ = ndimage.label(own & rises)
        row, col = peaks.rows[number] - window[0].start, peaks.cols[number] - window[1].start
        gone[window] |= parts == parts[row, col]
    return np.where(ndimage.binary_dilation(gone, iterations=2), np.nan, guide)


def _basins(calm: Image, marked: Labels) -> Labels:
    """Divide a plane among its peaks: each pixel goes where the steepest way up from it ends.

    Where that is a peak of noise it goes with the nearest pixel of a marked one.
    """
    rows, cols = calm.shape
    wide = np.pad(calm, 1, constant_values=-np.inf)
    steps = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)]
    around = np.stack(
        [wide[1 + down : 1 + down + rows, 1 + right : 1 + right + cols] for down, right in steps]
    )
    jumps = np.array([down * cols + right for down, right in steps])
    upwards = np.arange(calm.size) + jumps[around.argmax(axis=0).ravel()]
    while True:
        further = upwards[upwards]
        if np.array_equal(further, upwards):
            break
        upwards = further
    basins = marked.ravel()[upwards].reshape(calm.shape)
    nearest = ndimage.distance_transform_edt(
        basins == 0, return_distances=False, return_indices=True
    )
    labels: Labels = basins[tuple(nearest)].astype(np.intp)
    return labels


def _slopes(
    template: Image, frame: Image, doubt: Image, labels: Labels, count: int
) -> tuple[Image, Image]:
    """Fit frame = slope template + constant to each label by least squares; slopes and errors."""
    inside = labels > 0
    of = labels[inside]
    weight, light, seen = (plane[inside] for plane in (1 / doubt**2, template, frame))

    def total(values: Image) -> Image:
        sums: Image = np.bincount(of, weight * values, count + 1).astype(np.float64)[1:]
        return sums

    whole = np.maximum(total(np.ones_like(light)), 1e-30)
    mean = total(light) / whole
    centred = light - mean[of - 1]
    power = total(centred**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(power > 0, 1 / np.sqrt(power), np.inf)
        slopes = np.where(power > 0, total(centred * seen) / power, 0.0)
    return slopes, errors


def _scatter_of_contrast() -> float:
    """Give the standard deviation of the contrast of white noise of unit variance."""
    impulse = np.zeros((41, 41))
    impulse[20, 20] = 1.0
    response = ndimage.gaussian_filter(impulse, _PEAK_PX) - ndimage.gaussian_filter(
        impulse, _AROUND_PX
    )
    return float(np.sqrt((response**2).sum()))
