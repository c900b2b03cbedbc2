"""Cosmic rays of single exposures, found by L.A.Cosmic (van Dokkum 2001, PASP 113, 1420)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import astroscrappy
import numpy as np
from astroscrappy import utils
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, median_filter

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
# Limit in sigma; and share of it, from which on pixels beside a ray belong to it: its charge
# spreads. Second, of what is sure: one pixel in 300 000 without a ray is found, of the usual ten.
_LIMITS, _SURE_LIMITS = (4.5, 0.2), (5.0, 0.3)
_BESIDE = np.ones((3, 3), dtype=bool)
_FILLED_FROM_PX, _LEAST_WEIGHT = (1.0, 2.0, 4.0, 8.0), 0.05
_LIT_SIGMA, _NEAR_PX = 3.0, 7
_NEAR_FULL_PX = 17  # side of the square about saturated pixels in which nothing is sure
_AROUND_PX = 5
_SIGMA_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class CosmicPixels(FoundPixels):
    """Pixels of another source, cosmic rays masked.

    contrast : times their fine structure that they are sharp at least
    sure : those alone that hardly any noise makes
    """

    noise: NoiseModel
    contrast: float = USUAL_CONTRAST
    sure: bool = False

    @property
    def margin_px(self) -> int:
        """Further than what its medians and four passes reach."""
        return _MARGIN_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find cosmic rays of one region."""
        if not self.sure:
            return _detect(pixels, self.noise, _Limits(self.contrast, *_LIMITS))
        found = _detect(pixels, self.noise, _Limits(self.contrast, *_SURE_LIMITS))
        limit = self.noise.sensor.saturation_dn
        full = pixels.saturated_from(None if limit is None else limit.value)
        near = binary_dilation(full, np.ones((_NEAR_FULL_PX,) * 2))
        beside: Mask = found & ~near
        return beside


@dataclass(frozen=True, slots=True)
class _Limits:
    """From which contrast on pixels are rays, from how many sigma on, and their rims."""

    contrast: float
    sigma: float
    rim: float


def without_cosmics(
    frame: Frame,
    noise: NoiseModel,
    places: Sequence[tuple[slice, slice]] = (),
    *,
    least_contrast: float = 0.0,
    unknown_contrast: float = USUAL_CONTRAST,
    sure: bool = False,
) -> Frame:
    """Mask the cosmic rays of a frame of known noise.

    places : rows and columns of windows whose stars tell how sharp stars are
    least_contrast : from which on pixels can be rays, whatever stars tell
    unknown_contrast : from which on they are where no stars tell
    sure : those alone that hardly any noise makes
    """
    source = CosmicPixels(frame.source, frame.shape, noise, sure=sure)
    calm = replace(frame, source=source)
    contrast = contrast_over_stars(frame, calm, noise, places, unknown=unknown_contrast)
    contrast = max(contrast, least_contrast)
    words = "cosmic rays found by L.A.Cosmic"
    return replace(
        frame,
        source=replace(source, contrast=contrast),
        flag_words=f"{frame.flag_words}; {words}" if frame.flag_words else words,
    )


def _detect(pixels: Pixels, noise: NoiseModel, limits: _Limits) -> Mask:
    """Run L.A.Cosmic on one region; all that is masked or saturated is left out."""
    known = ~pixels.masked
    if pixels.saturated is not None:
        known &= ~pixels.saturated
    if min(pixels.science.shape) < 8 or not known.any():
        return np.zeros(pixels.science.shape, dtype=bool)
    look = _Look.of(pixels, noise, known)
    holes = np.pad(~known, _EDGE_PX, mode="symmetric")
    found = look.rays(holes, limits)
    if holes.any():
        # It looks for none beside what is masked. Of small holes that are filled nothing is; where
        # there is more light than sky it may be filled wrongly, and the rim would be a ray.
        small = binary_erosion(holes, _BESIDE, border_value=1)
        beside = binary_dilation(holes, _BESIDE) & ~look.near_light()
        found |= look.rays(small, limits) & beside
    inner = slice(_EDGE_PX, -_EDGE_PX)
    return found[inner, inner] & known


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A region as L.A.Cosmic takes it, holes filled and continued beyond its edges, (rows, cols).

    light, variance : in one unit; without a variance that of electrons, after the gain
    full : where pixels are saturated, electrons
    """

    light: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    gain: float
    read_noise_e: float
    full: float

    @classmethod
    def of(cls, pixels: Pixels, noise: NoiseModel, known: Mask) -> Self:
        sensor = noise.sensor
        count = exposures_combined(sensor)
        full = sensor.saturation_dn.value if sensor.saturation_dn else _NO_SATURATION
        read = sensor.read_noise_e.value * count**0.5 if sensor.read_noise_e else 0.0
        dark, gain, unit = 0.0, 1.0, 1.0
        given, variance = _variance(pixels, noise, known), None
        if given is None:
            dark = zero_level(sensor)
            gain = sensor.gain_e_per_dn.value * count if sensor.gain_e_per_dn else 1.0
        else:
            unit = float(np.median(given)) ** 0.5 or 1.0
            variance = np.pad(given / unit**2, _EDGE_PX, mode="symmetric").astype(np.float32)
        light = (_with_sky_beyond(_filled(pixels.science, known)) - dark) / unit
        # It is held against what it makes of the pixels, electrons.
        full = min((full - dark) / unit * gain, _NO_SATURATION)
        return cls(light.astype(np.float32), variance, gain, read, full)

    def rays(self, left_out: Mask, limits: _Limits) -> Mask:
        """Find cosmic rays where pixels are not left out."""
        found, _ = astroscrappy.detect_cosmics(
            self.light,
            inmask=left_out,
            invar=self.variance,
            gain=self.gain,
            readnoise=self.read_noise_e,
            satlevel=self.full,
            objlim=limits.contrast,
            sigclip=limits.sigma,
            sigfrac=limits.rim,
            # Of separable medians nothing is left of a star of 1.5 px: it would be a ray.
            sepmed=False,
            cleantype="medmask",
        )
        return np.asarray(found, dtype=bool)

    def near_light(self) -> Mask:
        """Find pixels that stand above what is around them, rays apart, and those near them."""
        near = utils.medfilt3(self.light)
        around = utils.medfilt7(near)
        variance = self.variance
        if variance is None:
            counts_e = np.maximum(self.gain * around, np.float32(0))
            variance = (counts_e + np.float32(self.read_noise_e**2)) / np.float32(self.gain**2)
        lit = near - around > _LIT_SIGMA * np.sqrt(variance)
        found: Mask = binary_dilation(lit, np.ones((_NEAR_PX, _NEAR_PX), dtype=bool))
        return found


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
