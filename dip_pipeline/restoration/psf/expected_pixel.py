"""What a pixel is expected to be by those around it: of light that came through a PSF, little else.

The spectrum of what a PSF has blurred ends where the PSF's own does, so each pixel follows from
the 24 around it, but for a small share of a star's peak. Of two pixels beside it (`psf_limit`) far
less of it follows: in bright stars they cannot tell a hot pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_REACH_PX = 2
_NOISE = 1e-3  # variance beside that of what is seen of random light
_LEFT = 0.25  # of what a wrong pixel explains: where more is left, it is not what is wrong
_TIMES_NOISE = 2.0  # as much as noise alone leaves, or chance would hide faint ones


@dataclass(frozen=True, slots=True)
class ExpectedPixel:
    """The pixels around one, weighed so that they tell it best of light that a PSF has blurred.

    weights : (5, 5), 0 in the middle
    """

    weights: Image

    @classmethod
    def of(cls, views: Sequence[Image]) -> Self:
        """Find the weights for stars as they are seen at several places in a pixel.

        Least squares over scenes of random light (a Wiener filter from the PSF's autocorrelation).
        """
        side = 2 * max(max(view.shape) for view in views)
        power = sum(np.abs(np.fft.rfft2(view, (side, side))) ** 2 for view in views)
        correlation = np.fft.irfft2(power, (side, side))
        offsets = np.array([at for at in np.ndindex(5, 5) if at != (_REACH_PX, _REACH_PX)])
        offsets -= _REACH_PX
        lags = offsets[:, None] - offsets[None, :]
        among = correlation[lags[..., 0], lags[..., 1]] / correlation[0, 0]
        with_it = correlation[offsets[:, 0], offsets[:, 1]] / correlation[0, 0]
        weights = np.zeros((5, 5))
        flat = np.linalg.solve(among + _NOISE * np.eye(len(offsets)), with_it)
        weights[tuple((offsets + _REACH_PX).T)] = flat
        return cls(weights)

    def farthest(self, views: Sequence[Image]) -> float:
        """Tell how far from its expected light a pixel of a star can be, as share of its peak."""
        wide = [np.pad(view, _REACH_PX) for view in views]
        return max(float(np.abs(view - self._expected(view)).max() / view.max()) for view in wide)

    def excess(self, light: Image, variance: Image, known: Mask, sigmas: float) -> Image:
        """Give how far pixels are from what is expected, beyond so many sigma, (rows, cols).

        A wrong pixel makes others look odd, too: of the one that explains best, among the 25
        around it, how odd all are. -inf elsewhere, where one of them is not known, and where it
        leaves much that noise does not: beside two wrong ones a good pixel may explain most.
        """
        whole = ndimage.binary_erosion(known, np.ones(self.weights.shape, dtype=bool))
        away = light - self._expected(np.where(known, light, 0.0))
        away = np.where(whole, away, 0.0)
        variance = np.where(known, variance, 0.0)
        spread = variance + ndimage.correlate(variance, self.weights**2, mode="nearest")
        answer = -self.weights[::-1, ::-1]  # of all around to one wrong pixel
        answer[_REACH_PX, _REACH_PX] = 1.0
        around = np.ones(answer.shape)
        explained = ndimage.correlate(away, answer) ** 2 / (answer**2).sum()
        left = ndimage.correlate(away**2, around) - explained
        noise = ndimage.correlate(spread, around)
        alone = whole & (left <= _LEFT * explained + _TIMES_NOISE * noise)
        alone &= explained >= ndimage.maximum_filter(explained, answer.shape)
        excess: Image = np.where(alone, np.abs(away) - sigmas * np.sqrt(spread), -np.inf)
        return excess

    def _expected(self, light: Image) -> Image:
        expected: Image = ndimage.correlate(light, self.weights, mode="nearest")
        return expected
