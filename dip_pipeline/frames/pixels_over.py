"""Sources of pixels laid over another one: they change what is read, and forward the rest."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.frame import Pixels, PixelSource, RawHdu, around

MOST_IN_ALL = 30.0  # times the usual error: a pixel of more has to show something
_CLEAR_SNR = 5.0  # by which it must differ from the sky then
MOST_BESIDE = 3.5  # times the error of the pixels around
_LIT = 2.0  # errors of one pixel, by which the mean of the four beside is more: a star's light
_RING_PX = 3  # how far away: beyond clusters and double columns
_FEWEST_AROUND = 4


@dataclass(frozen=True, slots=True)
class PixelsOver:
    """Base of a source that has another one's file: a subclass says how it reads."""

    inner: PixelSource

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of the file."""
        return self.inner.read_flags(rows, cols)

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Header of the file's science."""
        return self.inner.science_header()

    def other_hdus(self) -> list[RawHdu]:
        """Return every other HDU of the file."""
        return self.inner.other_hdus()

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote."""
        return self.inner.product_keywords()


@dataclass(frozen=True, slots=True)
class ScaledErrors(PixelsOver):
    """Pixels of another source, their errors times a factor."""

    factor: float

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        if pixels.error is None:
            return pixels
        return replace(pixels, error=pixels.error * np.float32(self.factor))


@dataclass(frozen=True, slots=True)
class WithoutHopeless(PixelsOver):
    """Pixels of another source; those that tell nothing beside the others are masked.

    Those of an error that is large in all the frame, and those of one that is large beside the
    pixels around: from these more is known of such a pixel than it shows itself.

    usual : error of the frame; level : of its sky; shape : (rows, cols) of the frame
    """

    usual: float
    level: float
    shape: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        wide, inner = around(rows, cols, self.shape, _RING_PX)
        seen = self.inner.read(*wide)
        if seen.error is None:
            return seen.cut(inner)
        hopeless = self._in_all_the_frame(seen.science, seen.error)
        masked = seen.masked | hopeless
        known = seen.error[~masked]
        if known.size and known.max() > MOST_BESIDE * known.min():
            hopeless |= _stand_out(seen.science, seen.error, masked)
        if hopeless.any():
            error = np.where(hopeless, np.float32(np.inf), seen.error)
            seen = replace(seen, error=error, masked=seen.masked | hopeless)
        return seen.cut(inner)

    def _in_all_the_frame(
        self, science: NDArray[np.float32], error: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            shown = np.abs(science - self.level) >= _CLEAR_SNR * error
            large = np.isfinite(error) & (error > MOST_IN_ALL * self.usual)
        found: NDArray[np.bool_] = large & ~shown
        return found


def _stand_out(
    science: NDArray[np.float32], error: NDArray[np.float32], masked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which pixels have much larger errors than those around, and do not differ from them clearly.

    Stars do, whose light, and its photon noise, falls on the pixels beside, too.
    """
    known = np.where(masked, np.float32(np.nan), science)
    light, usual = _ring_median(known), _ring_median(np.where(masked, np.float32(np.nan), error))
    with np.errstate(invalid="ignore"):
        snr, beside = np.abs(science - light) / error, (_beside(known) - light) / usual
        large = np.isfinite(error) & (error > MOST_BESIDE * usual)
        shown = (snr >= _CLEAR_SNR) | (beside >= _LIT) | ((snr >= _LIT) & (beside >= _LIT / 2))
    found: NDArray[np.bool_] = large & ~shown
    return found


def _ring_median(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of eight pixels around each, three away; NaN where half of them are unknown."""
    steps = (-_RING_PX, 0, _RING_PX)
    ring = _moved(plane, [(down, across) for down in steps for across in steps if down or across])
    ring.sort(axis=0)  # NaN last
    count = np.isfinite(ring).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2  # the lower one of two
    median = np.take_along_axis(ring, middle[None], axis=0)[0]
    return np.where(count >= _FEWEST_AROUND, median, np.float32(np.nan))


def _beside(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the four pixels beside each, as far as they are known; 0 where none is."""
    four = _moved(plane, [(-1, 0), (1, 0), (0, -1), (0, 1)])
    count = np.maximum(np.isfinite(four).sum(axis=0), 1)
    mean: NDArray[np.float32] = np.nansum(four, axis=0) / count.astype(np.float32)
    return mean


def _moved(plane: NDArray[np.float32], places: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Lay a plane over itself, moved to each place; NaN beyond its edges."""
    rows, cols = plane.shape
    padded = np.pad(plane, _RING_PX, constant_values=np.nan)
    return np.stack(
        [padded[_RING_PX + down :, _RING_PX + across :][:rows, :cols] for down, across in places]
    )
