"""How the noise of neighbouring pixels hangs together: white, given, or measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import SensorError

Floats = NDArray[np.float64]

MOST_NEIGHBOUR_CORRELATION = 0.7  # more needs a wider kernel than one of 3 x 3 pixels
_GRID_PX = 64  # on which the root of a power spectrum is taken
_MOST_REACH_PX = 8
_SMALLEST_TAP = 2e-3  # rings of the root in which all is smaller are left out


@dataclass(frozen=True, slots=True)
class NoiseKernel:
    """A stationary correlation of the noise, in units of each pixel's sigma.

    root : rows of a square with an odd side, squares summing to 1: white noise of unit variance
        convolved with it has the correlation wanted, and unit variance again
    source : where it was found, in words
    """

    root: tuple[tuple[float, ...], ...] = ((1.0,),)
    source: str = "taken as white"

    def __post_init__(self) -> None:
        root = np.array(self.root, dtype=np.float64)
        square = root.ndim == 2 and root.shape[0] == root.shape[1] and root.shape[0] % 2 == 1
        if not (square and np.isclose((root**2).sum(), 1.0, atol=1e-6)):
            raise SensorError(
                f"noise kernel of shape {root.shape}: need an odd square whose squares sum to 1"
            )

    @classmethod
    def from_neighbour(cls, correlation: float, source: str) -> "NoiseKernel":
        """Kernel whose next pixels along both axes correlate by the given amount, 0 to 0.7.

        Diagonal ones correlate by its square, as after a bilinear resampling of white noise.
        """
        if not 0 <= correlation <= MOST_NEIGHBOUR_CORRELATION:
            raise SensorError(
                f"noise correlation {correlation:g}: need 0 to {MOST_NEIGHBOUR_CORRELATION}"
            )
        if correlation == 0:
            return cls(source=source)
        # 2a / (1 + 2a^2) = correlation of the profile [a, 1, a]; the smaller root.
        a = correlation / (1 + np.sqrt(1 - 2 * correlation**2))
        profile = np.array([a, 1.0, a]) / np.sqrt(1 + 2 * a**2)
        return cls._of(np.outer(profile, profile), source)

    @classmethod
    def from_correlation(cls, correlation: Floats, source: str) -> "NoiseKernel":
        """Kernel with a given correlation by lag, (2 n + 1, 2 n + 1), lag 0 in the middle.

        The root is the transform of the square root of the power spectrum; where a measured
        correlation makes that negative, it is 0.
        """
        reach = len(correlation) // 2
        grid = np.zeros((_GRID_PX, _GRID_PX))
        lags = np.arange(-reach, reach + 1)
        grid[np.ix_(lags, lags)] = correlation
        spectrum = np.fft.fft2(grid).real
        whole = np.fft.ifft2(np.sqrt(np.maximum(spectrum, 0.0))).real
        taps = np.arange(-_MOST_REACH_PX, _MOST_REACH_PX + 1)
        root = whole[np.ix_(taps, taps)]
        root /= np.sqrt((root**2).sum())
        while len(root) > 1 and _outer_ring(root) < _SMALLEST_TAP:
            root = root[1:-1, 1:-1]
        return cls._of(root / np.sqrt((root**2).sum()), source)

    @classmethod
    def _of(cls, root: Floats, source: str) -> "NoiseKernel":
        return cls(tuple(tuple(float(tap) for tap in row) for row in root), source)

    @property
    def is_white(self) -> bool:
        """Whether every pixel has its own noise."""
        return len(self.root) == 1

    @property
    def correlation(self) -> Floats:
        """Correlation by lag, (2 n + 1, 2 n + 1), lag 0 in the middle."""
        root = np.array(self.root)
        side = 2 * len(root) - 1
        spectrum = np.abs(np.fft.rfft2(root, (side, side))) ** 2
        return np.fft.fftshift(np.fft.irfft2(spectrum, (side, side)))

    @property
    def neighbours(self) -> tuple[float, float]:
        """Correlation with the next pixel of the column (a row on), and of the row."""
        if self.is_white:
            return 0.0, 0.0
        correlation = self.correlation
        middle = len(correlation) // 2
        return float(correlation[middle + 1, middle]), float(correlation[middle, middle + 1])

    @property
    def widening(self) -> float:
        """How much wider than for white noise the scatter of a mean of squares is.

        The squares of two Gaussian numbers of correlation r correlate by r^2.
        """
        return float(np.sqrt((self.correlation**2).sum()))

    def passed(self, taps: Floats) -> float:
        """Share of the noise's variance that a filter passes, over what it passes of white noise.

        taps : the filter, a plane.
        """
        root = np.array(self.root)
        shape = (len(taps) + len(root) - 1, taps.shape[1] + len(root) - 1)
        filtered = np.fft.irfft2(np.fft.rfft2(taps, shape) * np.fft.rfft2(root, shape), shape)
        return float((filtered**2).sum() / (taps**2).sum())

    def __str__(self) -> str:
        if self.is_white:
            return f"white ({self.source})"
        column, row = (round(value, 2) + 0.0 for value in self.neighbours)  # no -0.00
        if max(abs(column), abs(row)) < 0.05:
            others = self.correlation
            middle = len(others) // 2
            others[middle, middle] = 0.0
            rows, cols = np.unravel_index(np.abs(others).argmax(), others.shape)
            return (
                f"{others[rows, cols]:.2f} with the pixel {abs(int(rows) - middle)} rows and "
                f"{abs(int(cols) - middle)} columns away ({self.source})"
            )
        return f"{row:.2f} with the next pixel of a row, {column:.2f} of a column ({self.source})"


WHITE = NoiseKernel()


def kernel_asked(text: str) -> NoiseKernel | None:
    """Read what was asked for: auto (None: to be measured), white, or a number from 0 to 0.7.

    Raises SensorError for anything else.
    """
    if text == "auto":
        return None
    if text == "white":
        return NoiseKernel(source="asked for")
    try:
        return NoiseKernel.from_neighbour(float(text), "given")
    except (ValueError, SensorError) as error:
        raise SensorError(
            f"noise correlation {text!r}: need auto, white, or the correlation of neighbouring "
            f"pixels, 0 to {MOST_NEIGHBOUR_CORRELATION}"
        ) from error


def _outer_ring(root: Floats) -> float:
    """Largest magnitude on the border of a square."""
    return float(max(np.abs(side).max() for side in (root[0], root[-1], root[:, 0], root[:, -1])))
