"""Cosmic rays of single exposures, found by L.A.Cosmic (van Dokkum 2001, PASP 113, 1420)."""

from dataclasses import dataclass, replace

import astroscrappy
import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames import Frame, Pixels
from dip_pipeline.preparing.found_pixels import FoundPixels
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import exposures_combined, zero_level

Mask = NDArray[np.bool_]

_MARGIN_PX = 32
_NO_SATURATION = 1e30


@dataclass(frozen=True, slots=True)
class CosmicPixels(FoundPixels):
    """Pixels of another source, cosmic rays masked."""

    noise: NoiseModel

    @property
    def margin_px(self) -> int:
        """Further than what its medians and four passes reach."""
        return _MARGIN_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find cosmic rays of one region."""
        return _detect(pixels, self.noise)


def without_cosmics(frame: Frame, noise: NoiseModel) -> Frame:
    """Mask the cosmic rays of a frame of known noise."""
    words = "cosmic rays found by L.A.Cosmic"
    return replace(
        frame,
        source=CosmicPixels(frame.source, frame.shape, noise),
        flag_words=f"{frame.flag_words}; {words}" if frame.flag_words else words,
    )


def _detect(pixels: Pixels, noise: NoiseModel) -> Mask:
    """Run L.A.Cosmic on one region; all that is masked or saturated is left out."""
    known = ~pixels.masked
    if pixels.saturated is not None:
        known &= ~pixels.saturated
    sensor = noise.sensor
    full = sensor.saturation_dn.value if sensor.saturation_dn else _NO_SATURATION
    if min(pixels.science.shape) < 8 or not known.any():
        return np.zeros(pixels.science.shape, dtype=bool)
    typical = float(np.median(pixels.science[known]))
    science = np.where(known, pixels.science, typical).astype(np.float32)
    count = exposures_combined(sensor)
    gain = 1.0
    read = sensor.read_noise_e.value * count**0.5 if sensor.read_noise_e else 0.0
    dark = 0.0
    variance = None
    if noise.from_error_plane and pixels.error is not None:
        sigma = np.where(np.isfinite(pixels.error), pixels.error, 0.0)
        middle = float(np.median(sigma[known]))
        variance = np.where(known & (sigma > 0), sigma, middle).astype(np.float64) ** 2
    elif noise.sigma is not None:
        variance = np.full(science.shape, noise.sigma.value**2)
    elif noise.kind in (NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN):
        dark = zero_level(sensor)
        gain = sensor.gain_e_per_dn.value * count if sensor.gain_e_per_dn else 1.0
    unit = 1.0 if variance is None else float(np.median(variance)) ** 0.5 or 1.0
    found, _ = astroscrappy.detect_cosmics(
        (science - dark) / np.float32(unit),
        inmask=~known,
        invar=None if variance is None else (variance / unit**2).astype(np.float32),
        gain=gain,
        readnoise=read,
        # It is held against what it makes of the pixels, electrons.
        satlevel=min((full - dark) / unit * gain, _NO_SATURATION),
        cleantype="medmask",
    )
    return np.asarray(found, dtype=bool) & known
