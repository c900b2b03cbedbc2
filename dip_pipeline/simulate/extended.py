"""Light that is not points: Sersic galaxies and filamentary nebulosity."""

from dataclasses import dataclass

import numpy as np
from astropy.modeling.models import Sersic2D
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from dip_pipeline.simulate.psf import MoffatPsf

FINE = 4  # galaxies are drawn on at least this many samples per nominal pixel and axis ...
LARGE_PX = 12.0  # ... half as many from this half-light radius on
EDGE_RADII = 7.0  # a galaxy fades to nothing between this many half-light radii ...
END_RADII = 8.0  # ... and this many
PSF_RADIUS_PX = 18.0
GALAXY = np.dtype(
    [
        ("row", "f8"),
        ("col", "f8"),
        ("flux_dn", "f8"),
        ("radius_px", "f8"),  # half-light radius along the major axis
        ("sersic_n", "f8"),
        ("ellipticity", "f8"),  # 1 - axis ratio
        ("angle_rad", "f8"),  # major axis, from the column axis towards growing rows
        ("arms", "f8"),  # contrast of two spiral arms, 0 for none
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Nebula:
    """Nebulosity as seen through the PSF: surface brightness, DN per nominal pixel.

    samples : values at the centres of nominal pixels on a periodic grid that is larger than the
        frame; smooth at the scale of the PSF, so Fourier interpolation gives it anywhere.
    """

    samples: NDArray[np.float64]

    def render(self, shape: tuple[int, int], oversample: int = 1) -> NDArray[np.float64]:
        """Light in each (fine) pixel of a frame of `shape` nominal pixels, DN."""
        spectrum = fft.fft2(self.samples)
        for axis, size in enumerate(self.samples.shape):
            spectrum = _refine(spectrum, axis, size, oversample)
        fine: NDArray[np.float64] = fft.ifft2(spectrum).real
        return fine[: shape[0] * oversample, : shape[1] * oversample]


def _refine(
    spectrum: NDArray[np.complex128], axis: int, size: int, oversample: int
) -> NDArray[np.complex128]:
    """Integrate over fine pixels along one axis: box filter, shift, zero padding.

    The sum over fine pixels of ifft carries 1 / (size * oversample) where the samples had
    1 / size: exactly the share of a nominal pixel that a fine one covers.
    """
    cycles = np.fft.fftfreq(size)  # per nominal pixel
    shift_px = 0.5 / oversample - 0.5  # centre of the first fine pixel
    factor = np.sinc(cycles / oversample) * np.exp(2j * np.pi * cycles * shift_px)
    spectrum = np.moveaxis(spectrum, axis, -1) * factor
    padded = np.zeros((*spectrum.shape[:-1], size * oversample), dtype=complex)
    padded[..., np.rint(cycles * size).astype(int)] = spectrum
    return np.moveaxis(padded, -1, axis)


def draw_nebula(
    shape: tuple[int, int],
    brightness_dn: float,
    *,
    filaments: float,
    psf: MoffatPsf,
    rng: np.random.Generator,
) -> Nebula:
    """Draw nebulosity: clouds of many scales, and filaments where smooth fields change sign.

    brightness_dn : 99th percentile of its surface brightness, DN per nominal pixel
    filaments : share of filaments against diffuse clouds, 0 to 1
    """
    high, wide = (fft.next_fast_len(max(16, int(1.25 * size))) for size in shape)
    grid = (high, wide)
    clouds = np.exp(1.1 * _power_law_field(grid, 3.6, rng))
    bends = [12.0 * _power_law_field(grid, 4.0, rng) for _ in range(2)]
    ridges = np.zeros(grid)
    for slope, width, weight in ((4.2, 0.035, 0.5), (3.8, 0.05, 0.35), (3.4, 0.10, 0.15)):
        level = _warp(_power_law_field(grid, slope, rng), bends)
        ridges += weight / (1 + (level / width) ** 2)
    light = clouds * ((1 - filaments) * 0.35 + filaments * ridges)
    light = np.maximum(_see_through(light, psf), 0.0)
    return Nebula(light * (brightness_dn / np.percentile(light, 99)))


def _power_law_field(
    grid: tuple[int, int], slope: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Periodic Gaussian random field of mean 0 and scatter 1, power falling as k ** -slope."""
    rows = np.fft.fftfreq(grid[0])[:, None] * max(grid)
    cols = np.fft.rfftfreq(grid[1])[None, :] * max(grid)
    wavenumber = np.hypot(rows, cols)
    wavenumber[0, 0] = np.inf
    # Scales above a third of the grid are held back: else one gradient is all there is to see.
    amplitude = (wavenumber**2 + 3.0**2) ** (-slope / 4) * np.isfinite(wavenumber)
    field: NDArray[np.float64] = fft.irfft2(fft.rfft2(rng.standard_normal(grid)) * amplitude, grid)
    field /= field.std()
    return field


def _warp(field: NDArray[np.float64], bends: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Displace a periodic field by two others, in pixels: straight ridges become curled ones."""
    rows, cols = np.indices(field.shape, dtype=np.float64)
    warped: NDArray[np.float64] = ndimage.map_coordinates(
        field, [rows + bends[0], cols + bends[1]], order=1, mode="grid-wrap"
    )
    return warped


def _see_through(light: NDArray[np.float64], psf: MoffatPsf) -> NDArray[np.float64]:
    """Convolve a periodic field with the PSF."""
    rows, cols = (size * np.fft.fftfreq(size) for size in light.shape)
    kernel = psf.density(rows[:, None], cols[None, :])
    seen: NDArray[np.float64] = fft.irfft2(
        fft.rfft2(light) * fft.rfft2(kernel / kernel.sum()), light.shape
    )
    return seen


def add_galaxy(
    image: NDArray[np.float64], galaxy: np.void, *, psf: MoffatPsf, oversample: int = 1
) -> None:
    """Add a Sersic galaxy seen through the PSF; what falls beyond the border is lost.

    galaxy : one element of an array of dtype GALAXY
    """
    fine = FINE if galaxy["radius_px"] < LARGE_PX else FINE // 2
    per_fine = -(-fine // oversample)  # samples per fine pixel and axis
    step_px = 1 / (per_fine * oversample)
    radius_px = END_RADII * galaxy["radius_px"] + PSF_RADIUS_PX
    corner = [
        int(np.floor((galaxy[axis] - radius_px + 0.5) * oversample)) for axis in ("row", "col")
    ]
    side = int(np.ceil(2 * radius_px * oversample)) + 1
    samples = np.arange(side * per_fine) * step_px + step_px / 2 - 0.5
    light = _intrinsic(
        galaxy,
        (samples + corner[0] / oversample - galaxy["row"])[:, None],
        (samples + corner[1] / oversample - galaxy["col"])[None, :],
    )
    light *= galaxy["flux_dn"] / light.sum()
    offsets = np.arange(-round(PSF_RADIUS_PX / step_px), round(PSF_RADIUS_PX / step_px) + 1)
    kernel = psf.density(offsets[:, None] * step_px, offsets[None, :] * step_px)
    seen = signal.fftconvolve(light, kernel / kernel.sum(), mode="same")
    stamp = seen.reshape(side, per_fine, side, per_fine).sum(axis=(1, 3))
    low = [max(0, -start) for start in corner]
    high = [min(side, size - start) for start, size in zip(corner, image.shape, strict=True)]
    if low[0] < high[0] and low[1] < high[1]:
        image[
            corner[0] + low[0] : corner[0] + high[0], corner[1] + low[1] : corner[1] + high[1]
        ] += stamp[low[0] : high[0], low[1] : high[1]]


def _intrinsic(
    galaxy: np.void, rows_px: NDArray[np.float64], cols_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Surface brightness before the PSF, in arbitrary units; offsets from the centre."""
    radius, angle = galaxy["radius_px"], galaxy["angle_rad"]
    light: NDArray[np.float64] = Sersic2D.evaluate(
        cols_px, rows_px, 1.0, radius, galaxy["sersic_n"], 0.0, 0.0, galaxy["ellipticity"], angle
    )
    along = cols_px * np.cos(angle) + rows_px * np.sin(angle)
    across = (rows_px * np.cos(angle) - cols_px * np.sin(angle)) / (1 - galaxy["ellipticity"])
    radii = np.hypot(along, across) / radius
    if galaxy["arms"] > 0:
        # Two logarithmic arms, pitch 20 degrees, outside the bulge.
        phase = 2 * (np.arctan2(across, along) - np.log(radii + 0.05) / np.tan(np.radians(20)))
        light = light * (1 + galaxy["arms"] * np.cos(phase) * (1 - np.exp(-(radii**2) / 0.15)))
    taper = np.clip((END_RADII - radii) / (END_RADII - EDGE_RADII), 0.0, 1.0)
    faded: NDArray[np.float64] = light * taper
    return faded
