"""Cosmic rays of single exposures, found by L.A.Cosmic (van Dokkum 2001, PASP 113, 1420).

astroscrappy finds them block by block on a fixed grid, each with its surroundings, so that what
is found at a pixel does not depend on which region is read, and no frame is too large.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import astroscrappy
import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames import Frame, Pixels, PixelsOver, around
from dip_pipeline.sensor import NoiseKind, NoiseModel

Mask = NDArray[np.bool_]

_BLOCK_PX = 512
_MARGIN_PX = 32  # further than what its medians and four passes reach
_MOST_BLOCKS = 64
_NO_SATURATION = 1e30

_found: OrderedDict[tuple[str, int, int], Mask] = OrderedDict()
_looking_up = threading.Lock()  # frames are read in several threads


@dataclass(frozen=True, slots=True)
class CosmicPixels(PixelsOver):
    """Pixels of another source, cosmic rays masked."""

    shape: tuple[int, int]
    noise: NoiseModel

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        return replace(pixels, masked=pixels.masked | self.rays(rows, cols))

    def rays(self, rows: slice, cols: slice) -> Mask:
        """Which pixels of a region are cosmic rays."""
        found = np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for row in range(rows.start // _BLOCK_PX, -(-rows.stop // _BLOCK_PX)):
            for col in range(cols.start // _BLOCK_PX, -(-cols.stop // _BLOCK_PX)):
                block = self._block(row, col)
                corner = (row * _BLOCK_PX, col * _BLOCK_PX)
                here, there = [], []
                for bound, first, length in zip((rows, cols), corner, block.shape, strict=True):
                    start, stop = max(bound.start, first), min(bound.stop, first + length)
                    here.append(slice(start - bound.start, stop - bound.start))
                    there.append(slice(start - first, stop - first))
                found[tuple(here)] = block[tuple(there)]
        return found

    def _block(self, row: int, col: int) -> Mask:
        key = (repr(self), row, col)
        with _looking_up:
            if key in _found:
                _found.move_to_end(key)
                return _found[key]
        rows, cols = (
            slice(place * _BLOCK_PX, min((place + 1) * _BLOCK_PX, length))
            for place, length in zip((row, col), self.shape, strict=True)
        )
        wide, inner = around(rows, cols, self.shape, _MARGIN_PX)
        mask = _detect(self.inner.read(*wide), self.noise)[inner]
        with _looking_up:
            _found[key] = mask
            while len(_found) > _MOST_BLOCKS:
                _found.popitem(last=False)
        return mask


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
    count = sensor.n_combined.value if sensor.n_combined else 1.0
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
        pedestal = sensor.pedestal_dn.value if sensor.pedestal_dn else 0.0
        dark = pedestal - (sensor.subtracted_sky_dn.value if sensor.subtracted_sky_dn else 0.0)
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
