"""Shift between two exposures from all their light, where stars are too few or too faint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration.stars import Cleaned, Image

_LARGE_PX = 20.0  # structure wider than this is sky, not scene
_SPIKE = 3.0  # times its neighbours: what shift of a real image is as sharp?
_CLIP_SIGMA = 5.0
_LEAST_SIGNIFICANCE = 8.0
_LEAST_LEAD = 1.4  # of the peak over the next one
_PEAK_WIDTHS = 5.0  # as far from the peak, in widths of a star, the next one is looked for


@dataclass(frozen=True, slots=True)
class LightShift:
    """A place of the second image lies at place + shift_px of the first.

    significance : of the peak of the correlation, over its scatter away from it
    lead : the peak over the next one
    """

    shift_px: tuple[float, float]
    significance: float
    lead: float

    @property
    def believable(self) -> bool:
        """Whether the peak stands out."""
        return self.significance >= _LEAST_SIGNIFICANCE and self.lead >= _LEAST_LEAD


def shift_by_light(
    first: Cleaned,
    second: Cleaned,
    width_px: float,
    near: tuple[tuple[float, float], float] | None = None,
) -> LightShift:
    """Find the shift at which two images agree best.

    width_px : standard deviation of their stars
    near : a shift, and how far from it to look, pixels

    What stays where it is on the detector (hot pixels, the grain of a flat field) gives the
    correlation a spike at shift zero, one pixel wide: where there is one, it is replaced by what
    lies around it. A scene cannot make one, for the telescope spreads its light over more than a
    pixel. Then the correlation is smoothed, as if both images had been filtered for such stars.
    """
    shape = tuple(max(a, b) for a, b in zip(first.light.shape, second.light.shape, strict=True))
    padded = tuple(2 * side for side in shape)
    spectra = [np.fft.rfft2(_prepared(image), padded) for image in (first, second)]
    lags = np.fft.irfft2(spectra[0] * spectra[1].conj(), padded)
    _remove_spike(lags)
    smoothed = np.fft.fftshift(gaussian_filter(lags, max(width_px, 1.0), mode="wrap"))
    middle = np.array(smoothed.shape) // 2
    scatter = 1.4826 * float(np.median(np.abs(smoothed - np.median(smoothed))))
    looked_at = _allowed(smoothed.shape, middle, near, shape)
    peak = np.array(
        np.unravel_index(int(np.argmax(np.where(looked_at, smoothed, -np.inf))), smoothed.shape)
    )
    height = float(smoothed[tuple(peak)])
    offset = [_vertex(smoothed, peak, axis) for axis in (0, 1)]
    row, col = (peak - middle + np.array(offset)).tolist()
    reach = int(_PEAK_WIDTHS * max(width_px, 1.0))
    aside = looked_at.copy()
    aside[tuple(slice(max(0, place - reach), place + reach + 1) for place in peak)] = False
    following = float(np.max(smoothed, where=aside, initial=scatter))
    if scatter <= 0 or following <= 0:
        return LightShift((row, col), 0.0, 0.0)
    return LightShift((row, col), height / scatter, height / following)


def scene_alone(light: Image) -> Image:
    """Light without what is wide or runs along rows and columns: the detector's, not the sky's."""
    plane = light - gaussian_filter(light, _LARGE_PX)
    plane = plane - np.median(plane, axis=0)
    alone: Image = plane - np.median(plane, axis=1)[:, None]
    return alone


def _prepared(image: Cleaned) -> Image:
    """Scene alone, bright light limited, the frame's borders faded out."""
    from scipy.signal.windows import tukey  # takes half a second to load, and few commands need it

    plane = scene_alone(image.light)
    limit = _CLIP_SIGMA * max(image.noise, 1e-30)
    window = np.multiply.outer(*(tukey(side, 0.2) for side in plane.shape))
    prepared: Image = np.clip(plane, -limit, 3 * limit) * window
    return prepared


def _remove_spike(lags: Image) -> None:
    around = np.array([lags[1, 0], lags[-1, 0], lags[0, 1], lags[0, -1]])
    if lags[0, 0] > _SPIKE * float(np.abs(around).max()):
        lags[0, 0] = around.mean()


def _allowed(
    shape: tuple[int, ...],
    middle: NDArray[np.int64],
    near: tuple[tuple[float, float], float] | None,
    frame: tuple[int, ...],
) -> NDArray[np.bool_]:
    """Shifts that are looked at: near one that is given, else those with half of both in common."""
    rows, cols = (np.arange(side) - centre for side, centre in zip(shape, middle, strict=True))
    if near is None:
        inside: NDArray[np.bool_] = np.logical_and.outer(
            np.abs(rows) <= frame[0] / 2, np.abs(cols) <= frame[1] / 2
        )
        return inside
    (row, col), reach = near
    close: NDArray[np.bool_] = np.logical_and.outer(
        np.abs(rows - row) <= reach, np.abs(cols - col) <= reach
    )
    return close


def _vertex(plane: Image, peak: NDArray[np.int64], axis: int) -> float:
    """Vertex of the parabola through three values along an axis, from the middle one."""
    step = np.eye(2, dtype=int)[axis]
    sides = np.array(plane.shape)
    before, here, after = (plane[tuple((peak + k * step) % sides)] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
