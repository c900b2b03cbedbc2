"""Cosmic rays of single exposures, found by L.A.Cosmic (van Dokkum 2001, PASP 113, 1420)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import astroscrappy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, median_filter

from dip_pipeline.frames import Frame, Pixels
from dip_pipeline.preparing.found_pixels import FoundPixels
from dip_pipeline.preparing.star_contrast import USUAL_CONTRAST, contrast_over_stars
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import exposures_combined, zero_level

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MARGIN_PX = 32
# L.A.Cosmic leaves pixels at edges as they are where it takes medians: stars there are rays to it.
_EDGE_PX = 8
_NO_SATURATION = 1e30
_RIM = 0.2  # of the limit, from which on pixels beside a ray belong to it: its charge spreads
_BESIDE = np.ones((3, 3), dtype=bool)
_FILLED_FROM_PX, _LEAST_WEIGHT = (1.0, 2.0, 4.0, 8.0), 0.05
_AROUND_PX = 5
_SIGMA_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class CosmicPixels(FoundPixels):
    """Pixels of another source, cosmic rays masked.

    contrast : times their fine structure that they are sharp at least
    """

    noise: NoiseModel
    contrast: float = USUAL_CONTRAST

    @property
    def margin_px(self) -> int:
        """Further than what its medians and four passes reach."""
        return _MARGIN_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find cosmic rays of one region."""
        return _detect(pixels, self.noise, self.contrast)


def without_cosmics(
    frame: Frame, noise: NoiseModel, places: Sequence[tuple[slice, slice]] = ()
) -> Frame:
    """Mask the cosmic rays of a frame of known noise.

    places : rows and columns of windows whose stars tell how sharp stars are
    """
    contrast = contrast_over_stars(frame, noise, places)
    words = "cosmic rays found by L.A.Cosmic"
    return replace(
        frame,
        source=CosmicPixels(frame.source, frame.shape, noise, contrast),
        flag_words=f"{frame.flag_words}; {words}" if frame.flag_words else words,
    )


def _detect(pixels: Pixels, noise: NoiseModel, contrast: float) -> Mask:
    """Run L.A.Cosmic on one region; all that is masked or saturated is left out."""
    known = ~pixels.masked
    if pixels.saturated is not None:
        known &= ~pixels.saturated
    if min(pixels.science.shape) < 8 or not known.any():
        return np.zeros(pixels.science.shape, dtype=bool)
    sensor = noise.sensor
    count = exposures_combined(sensor)
    full = sensor.saturation_dn.value if sensor.saturation_dn else _NO_SATURATION
    read = sensor.read_noise_e.value * count**0.5 if sensor.read_noise_e else 0.0
    dark, gain, unit = 0.0, 1.0, 1.0
    variance = _variance(pixels, noise, known)
    if variance is None:
        dark = zero_level(sensor)
        gain = sensor.gain_e_per_dn.value * count if sensor.gain_e_per_dn else 1.0
    else:
        unit = float(np.median(variance)) ** 0.5 or 1.0
        variance = np.pad(variance / unit**2, _EDGE_PX, mode="symmetric").astype(np.float32)
    light = (_with_sky_beyond(_filled(pixels.science, known)) - dark) / unit
    found, _ = astroscrappy.detect_cosmics(
        light.astype(np.float32),
        # It looks for none beside what is masked: of small holes nothing is.
        inmask=np.pad(binary_erosion(~known, _BESIDE, border_value=1), _EDGE_PX, mode="symmetric"),
        invar=variance,
        gain=gain,
        readnoise=read,
        # It is held against what it makes of the pixels, electrons.
        satlevel=min((full - dark) / unit * gain, _NO_SATURATION),
        objlim=contrast,
        sigfrac=_RIM,
        # Of separable medians nothing is left of a star of 1.5 px: it would be a ray.
        sepmed=False,
        cleantype="medmask",
    )
    inner = slice(_EDGE_PX, -_EDGE_PX)
    return np.asarray(found[inner, inner], dtype=bool) & known


def _variance(pixels: Pixels, noise: NoiseModel, known: Mask) -> Image | None:
    """Variance of each pixel, unit of the frame squared; None: by a sensor's gain."""
    shape = pixels.science.shape
    if noise.from_error_plane and pixels.error is not None:
        sigma = np.where(np.isfinite(pixels.error), pixels.error, 0.0)
        middle = float(np.median(sigma[known]))
        return np.where(known & (sigma > 0), sigma, middle).astype(np.float64) ** 2
    if noise.sigma is not None:
        return np.full(shape, noise.sigma.value**2)
    if noise.kind in (NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN):
        return None
    light = _filled(pixels.science, known)
    off = np.abs(light - median_filter(light, _AROUND_PX))[known]
    return np.full(shape, (_SIGMA_OF_MAD * float(np.median(off))) ** 2)


def _filled(science: NDArray[np.float32], known: Mask) -> Image:
    """Fill what is not known by the light beside it, or the rim of a hole would be a ray."""
    typical = float(np.median(science[known]))
    filled = np.where(known, science, typical).astype(np.float64)
    above, left = filled - typical, ~known
    for reach_px in _FILLED_FROM_PX if left.any() else ():
        weight = gaussian_filter(known.astype(np.float64), reach_px)
        here = left & (weight > _LEAST_WEIGHT)
        filled[here] += gaussian_filter(above, reach_px)[here] / weight[here]
        left &= ~here
    return filled


def _with_sky_beyond(light: Image) -> Image:
    """Continue an image beyond its edges, mirrored and fading to its usual level."""
    level = float(np.median(light))
    share = np.pad(np.ones(light.shape), _EDGE_PX, mode="linear_ramp")
    continued: Image = level + share * (np.pad(light, _EDGE_PX, mode="symmetric") - level)
    return continued
