"""From noiseless light to what a sensor reads: photon and read noise, defects, integers."""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.errors import ConfigError

COSMIC_RAYS_PER_PX = 1e-4
# A separable kernel [a, 1, a] of unit norm correlates neighbours by 2a / (1 + 2a^2), at most this.
MAX_NEIGHBOUR_CORRELATION = 0.7


class DataQuality(IntFlag):
    """Why a pixel of a simulated frame is bad; bits of one uint8."""

    BAD_COLUMN = 1
    COSMIC_RAY = 2
    TRAIL = 4
    SATURATED = 8


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """The sensor, and what goes wrong on it.

    saturation_dn : pixels are clipped here
    pedestal_dn : bias level added to every pixel
    defects : bad columns, cosmic rays and a satellite trail
    quantised : whole data numbers, as an analogue-to-digital converter writes them
    neighbour_correlation : of the noise; 0 is white. Above 0 the noise is Gaussian and has the
        same variance at each pixel, as in a drizzled or resampled frame.
    seed : of noise and defects; None takes the scene's
    """

    gain_e_per_dn: float = 2.0
    read_noise_e: float = 6.0
    saturation_dn: float = 60000.0
    pedestal_dn: float = 0.0
    defects: bool = True
    quantised: bool = True
    neighbour_correlation: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (self.gain_e_per_dn > 0 and self.read_noise_e >= 0):
            raise ConfigError(
                f"gain_e_per_dn={self.gain_e_per_dn:g}, read_noise_e={self.read_noise_e:g}: "
                "need a positive gain and a read noise of at least 0"
            )
        if not 0 <= self.neighbour_correlation <= MAX_NEIGHBOUR_CORRELATION:
            raise ConfigError(
                f"neighbour_correlation={self.neighbour_correlation:g}: "
                f"need 0 to {MAX_NEIGHBOUR_CORRELATION}"
            )

    def sigma_dn(self, level_dn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of the noise at a noiseless level, pedestal included."""
        photons = np.maximum(level_dn - self.pedestal_dn, 0.0) / self.gain_e_per_dn
        sigma: NDArray[np.float64] = np.sqrt(
            photons + (self.read_noise_e / self.gain_e_per_dn) ** 2
        )
        return sigma


def noise_kernel(neighbour_correlation: float) -> NDArray[np.float64]:
    """Return the 3 x 3 kernel that turns white noise into noise of the same variance.

    Its horizontal and vertical neighbours correlate by the given amount, diagonal ones by the
    square of it, like those of a drizzled frame. The squares of its elements sum to 1.
    """
    c = neighbour_correlation
    # 2a / (1 + 2a^2) = c, the smaller root.
    a = c / (1 + np.sqrt(1 - 2 * c**2))
    profile = np.array([a, 1.0, a]) / np.sqrt(1 + 2 * a**2)
    return np.outer(profile, profile)


def expose(
    level_dn: NDArray[np.float64],
    options: DetectorOptions,
    rng: np.random.Generator,
    *,
    fwhm_px: float = 2.7,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Read a frame out: observed pixels in DN, and the DataQuality bits of each.

    level_dn : noiseless level, pedestal included; fwhm_px : width of the satellite's trail
    """
    light_dn = level_dn.copy()
    flags = np.zeros(level_dn.shape, np.uint8)
    if options.defects:
        trail_dn = _satellite_trail(level_dn, options, fwhm_px, rng)
        light_dn += trail_dn
        flags[trail_dn > 0.2 * options.sigma_dn(level_dn)] |= np.uint8(DataQuality.TRAIL)
    observed = light_dn + _draw_noise(light_dn, options, rng)
    if options.defects:
        hits_dn = _cosmic_rays(level_dn.shape, rng)
        observed += hits_dn
        flags[hits_dn > 0.5 * options.sigma_dn(level_dn)] |= np.uint8(DataQuality.COSMIC_RAY)
        _break_columns(observed, flags, rng)
    if options.quantised:
        observed = np.clip(np.rint(observed), 0, np.iinfo(np.uint16).max)
    flags[observed >= options.saturation_dn] |= np.uint8(DataQuality.SATURATED)
    return np.minimum(observed, options.saturation_dn).astype(np.float32), flags


def _draw_noise(
    level_dn: NDArray[np.float64], options: DetectorOptions, rng: np.random.Generator
) -> NDArray[np.float64]:
    if options.neighbour_correlation > 0:
        white = rng.standard_normal(level_dn.shape)
        kernel = noise_kernel(options.neighbour_correlation)
        unit: NDArray[np.float64] = ndimage.convolve(white, kernel, mode="wrap")
        return unit * options.sigma_dn(level_dn)
    electrons = np.maximum(level_dn - options.pedestal_dn, 0.0) * options.gain_e_per_dn
    read_e = options.read_noise_e * rng.standard_normal(level_dn.shape)
    noise: NDArray[np.float64] = rng.poisson(electrons) - electrons + read_e
    return noise / options.gain_e_per_dn


def _satellite_trail(
    level_dn: NDArray[np.float64],
    options: DetectorOptions,
    fwhm_px: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw a straight trail across the frame, eight sigma of the sky high, blurred by the PSF."""
    rows, cols = (np.arange(size) for size in level_dn.shape)
    angle = rng.uniform(0.15, 0.6)
    row0, col0 = rng.uniform(0.25, 0.75, 2) * level_dn.shape
    distance = (rows[:, None] - row0) * np.cos(angle) - (cols[None, :] - col0) * np.sin(angle)
    height_dn = 8 * float(np.median(options.sigma_dn(level_dn)))
    width_px = 1.2 * fwhm_px / 2.3548
    trail: NDArray[np.float64] = height_dn * np.exp(-0.5 * (distance / width_px) ** 2)
    return trail


def _cosmic_rays(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw straight tracks, most of them short, with a little diffusion of their charge, DN."""
    image = np.zeros(shape)
    for _ in range(rng.poisson(COSMIC_RAYS_PER_PX * image.size)):
        row, col = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle, length_px = rng.uniform(0, 2 * np.pi), 1 + rng.exponential(5.0)
        along = np.arange(0.0, length_px, 0.25)
        rows = np.floor(row + along * np.sin(angle)).astype(int)
        cols = np.floor(col + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        charge_dn = 10 ** rng.uniform(2.3, 3.6)  # per pixel crossed
        np.add.at(image, (rows[inside], cols[inside]), 0.25 * charge_dn)
    diffused: NDArray[np.float64] = ndimage.gaussian_filter(image, 0.35, truncate=4.0)
    return diffused


def _break_columns(
    observed: NDArray[np.float64], flags: NDArray[np.uint8], rng: np.random.Generator
) -> None:
    """Make one column dead, and one hot from some row on; changes both arrays."""
    rows, cols = observed.shape
    dead, hot = rng.choice(cols, 2, replace=cols < 2)
    first_hot_row = int(rng.uniform(0.2, 0.7) * rows)
    observed[:, dead] = 5.0 + 2.0 * rng.standard_normal(rows)
    observed[first_hot_row:, hot] += 900.0 + 40.0 * rng.standard_normal(rows - first_hot_row)
    flags[:, dead] |= np.uint8(DataQuality.BAD_COLUMN)
    flags[first_hot_row:, hot] |= np.uint8(DataQuality.BAD_COLUMN)
