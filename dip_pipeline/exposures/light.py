"""Light of an exposure beside the reference's: as it is seen, by its cards, and place by place."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dip_pipeline.blind.sky import Window as SkyWindow
from dip_pipeline.frames import Frame, Pixels
from dip_pipeline.preparing.cutting import Window
from dip_pipeline.registration import Registered, Seen, robust_level, see
from dip_pipeline.sensor import NoiseModel, Sensor
from dip_pipeline.sensor.cards import exposure_of
from dip_pipeline.sensor.units import UnitKind, is_rate, unit_kind

_GAIN_TOLERANCE = 1e-3


def unit_of(frame: Frame, window: Window) -> float:
    """Give the power of two near the scatter of a frame: exposures are seen in it.

    In their own unit the squares of their pixels may be 1e-50. What is masked or blank does not
    scatter, though it may be most of the frame.
    """
    pixels = frame.read(*window)
    _, scatter = robust_level(pixels.science[_lit(pixels)])
    return 2.0 ** round(np.log2(scatter)) if scatter > 0 else 1.0


def see_window(frame: Frame, window: Window, noise: NoiseModel, unit: float) -> Seen:
    """Prepare a window of an exposure for registration, in a unit; saturated pixels are masked."""
    pixels = frame.read(*window)
    science = (pixels.science.astype(np.float64) / unit).astype(np.float32)
    return see(str(frame.path), science, unusable(pixels, noise))


def unusable(pixels: Pixels, noise: NoiseModel) -> NDArray[np.bool_]:
    """Pixels that tell nothing of the sky: masked, of a blank area, or saturated."""
    return ~(_lit(pixels) & usable_pixels(pixels, noise))


def usable_pixels(pixels: Pixels, noise: NoiseModel) -> NDArray[np.bool_]:
    """Pixels that are neither masked nor saturated, by flags or by their value."""
    known: NDArray[np.bool_] = ~pixels.masked & np.isfinite(pixels.science)
    if pixels.saturated is not None:
        known &= ~pixels.saturated
    if noise.sensor.saturation_dn is not None:
        known &= pixels.science < noise.sensor.saturation_dn.value
    return known


def _lit(pixels: Pixels) -> NDArray[np.bool_]:
    """Pixels that are neither masked nor of a blank area, as beyond the edge of a mosaic."""
    return SkyWindow.of(pixels.science, ~pixels.masked, None).good


def light_by_cards(
    frame: Frame, reference: Frame, own: Sensor, other: Sensor
) -> tuple[float, str] | None:
    """Give the light of a frame for one unit of the reference's, where their pixels count; and how.

    By exposure times, unless they were divided out, and where data numbers are counted by gains.
    """
    kind = unit_kind(frame.unit)
    if kind is UnitKind.CALIBRATED:
        return None
    scale, words = 1.0, []
    times = [_seconds(each) for each in (frame, reference)]
    if not is_rate(kind) and times[0] is not None and times[1] is not None:
        scale, words = times[0] / times[1], ["exposure times"]
    if kind not in (UnitKind.ELECTRONS, UnitKind.ELECTRON_RATE):
        gain, of_reference = _named_gain(own), _named_gain(other)
        if is_rate(kind) and times[0] is not None and times[1] is not None:
            # Of a rate, a gain holds the exposure time.
            gain, of_reference = gain / times[0], of_reference / times[1]
        if abs(gain / of_reference - 1) > _GAIN_TOLERANCE:  # False where one is NaN
            scale, words = scale * of_reference / gain, [*words, "gains"]
    return (scale, " and ".join(words)) if words else None


def _named_gain(sensor: Sensor) -> float:
    """Gain that a card or the user names; NaN for one that was estimated from the pixels."""
    gain = sensor.gain_e_per_dn
    return np.nan if gain is None or gain.source.startswith("estimated") else gain.value


def _seconds(frame: Frame) -> float | None:
    exposure = exposure_of(frame.header)
    return None if exposure is None else exposure.value


def level_offset(own: Seen, reference: Seen, found: Registered) -> float:
    """Give the level of the exposure where the reference has none.

    The median of what differs, place by place. Not the difference of two skies: a nebula lies
    elsewhere in each exposure.
    """
    rows, cols = own.pixels.shape
    step = max(1, int(np.sqrt(rows * cols / 250_000)))
    row, col = np.mgrid[0:rows:step, 0:cols:step]
    places = np.column_stack([row.ravel(), col.ravel()]).astype(float)
    there = found.geometry.to_reference(places)
    light = map_coordinates(
        np.where(reference.usable, reference.pixels, np.nan).astype(np.float64),
        there.T,
        order=1,
        cval=np.nan,
    )
    here = np.where(own.usable, own.pixels, np.nan)[row.ravel(), col.ravel()]
    level, _ = robust_level((here - found.flux_scale * light).astype(np.float32))
    return level
