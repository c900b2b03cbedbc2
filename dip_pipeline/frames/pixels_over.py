"""Sources of pixels laid over another one: they change what is read, and forward the rest."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.frame import Pixels, PixelSource, RawHdu


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

    most_error : of a pixel that counts whatever it shows; level : of the sky
    least_snr : by which a pixel of larger error must differ from the sky, to count all the same
    """

    most_error: float
    level: float
    least_snr: float

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        if pixels.error is None:
            return pixels
        hopeless = self.are_hopeless(pixels.science, pixels.error)
        if not hopeless.any():
            return pixels
        error = np.where(hopeless, np.float32(np.inf), pixels.error)
        return replace(pixels, error=error, masked=pixels.masked | hopeless)

    def are_hopeless(
        self, science: NDArray[np.float32], error: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Which pixels tell nothing, as (rows, cols)."""
        with np.errstate(invalid="ignore"):
            seen = np.abs(science - self.level) >= self.least_snr * error
            found: NDArray[np.bool_] = np.isfinite(error) & (error > self.most_error) & ~seen
        return found
