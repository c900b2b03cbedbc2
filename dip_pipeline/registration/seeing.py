"""An exposure as registration sees it: its sky taken off, its stars found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ExposureError
from dip_pipeline.registration.stars import Cleaned, Mask, Stars, clean, find_stars


@dataclass(frozen=True, slots=True)
class Seen:
    """One exposure, prepared for registration.

    pixels : (rows, cols), as they were given; usable : of them, neither masked nor hot
    """

    name: str
    pixels: NDArray[np.float32]
    usable: Mask
    cleaned: Cleaned
    stars: Stars

    @property
    def nbytes(self) -> int:
        """Memory that its planes take."""
        planes = self.pixels, self.usable, self.cleaned.light, self.cleaned.unusable
        return sum(plane.nbytes for plane in planes)


def see(name: str, pixels: NDArray[np.float32], masked: Mask) -> Seen:
    """Find sky and stars of an exposure; ExposureError where nothing can be used."""
    if not (np.isfinite(pixels) & ~masked).any():
        raise ExposureError(f"{name}: every pixel is masked or not finite; leave it out")
    cleaned = clean(pixels, masked)
    return Seen(name, pixels, ~cleaned.unusable, cleaned, find_stars(cleaned))
