"""What a restoration is judged by: the images, and the truth where it is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ConfigError

Image = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What only a simulation knows.

    level : noiseless level of each pixel, sky and pedestal included
    signal : noiseless light of the sources alone
    sigma : true standard deviation of each pixel's noise
    stars : structured, with fields row, col, flux_dn; empty or None where there are none
    """

    level: Image
    signal: Image
    sigma: Image
    stars: NDArray[np.void] | None = None

    @property
    def on_source(self) -> Mask:
        """Pixels where the noiseless signal is above one sigma."""
        bright: Mask = self.signal > self.sigma
        return bright


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One restored frame beside its input; images are (rows, cols), in the frame's unit.

    sigma : standard deviation of the noise, as the restoration believed it
    error : error plane of the restored pixels
    masked : pixels that carried no information
    saturated : pixels left alone because they are saturated
    """

    observed: Image
    restored: Image
    sigma: Image
    error: Image | None = None
    masked: Mask | None = None
    saturated: Mask | None = None
    truth: Truth | None = None

    def __post_init__(self) -> None:
        shape = self.observed.shape
        for name in ("restored", "sigma", "error", "masked", "saturated"):
            image = getattr(self, name)
            if image is not None and image.shape != shape:
                raise ConfigError(
                    f"{name} is {image.shape}, the observed frame {shape}: need the same shape"
                )

    @property
    def usable(self) -> Mask:
        """Pixels that carried information: neither masked nor saturated, finite."""
        good: Mask = np.isfinite(self.observed) & np.isfinite(self.sigma) & (self.sigma > 0)
        for bad in (self.masked, self.saturated):
            if bad is not None:
                good &= ~bad
        return good

    @property
    def residual(self) -> Image:
        """(observed - restored) / sigma, NaN where a pixel carried no information."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (self.observed - self.restored) / self.sigma
        return np.where(self.usable, ratio, np.nan)
