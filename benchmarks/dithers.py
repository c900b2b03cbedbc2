"""Dithered exposures of a simulated scene, with the truth on finer pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from dip_pipeline.simulate import (
    DetectorOptions,
    MoffatPsf,
    SceneOptions,
    draw_scene,
    expose,
)
from dip_pipeline.simulate.psf import add_star

FACTOR = 2  # pixels of the truth for one of an exposure
_OVERSAMPLE = 8  # dithers are whole steps of it, so that the truth needs no interpolation
_MARGIN_PX = 4
_SKY_DN = 200.0
_FWHM_PX = 1.8
STEP_PX = 10.0  # of a moving source, from exposure to exposure
_CLEAR_PX = 5  # around its path there is as little light as can be

Plane = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Dithers:
    """Exposures of one scene and its truth; a star at p of exposure k is at p + shifts_px[k].

    truth : (rows, cols) times FACTOR, DN a fine pixel; sigma : of one exposure, DN a coarse one
    hit : pixels with a cosmic ray, by exposure
    levels : each exposure without noise and cosmic rays, DN, with what moves
    moving : where a moving source is, (row, col) of the first exposure's pixels, by exposure
    """

    kind: str
    seed: int
    frames: tuple[NDArray[np.float32], ...]
    shifts_px: tuple[tuple[float, float], ...]
    hit: tuple[NDArray[np.bool_], ...]
    truth: Plane
    sigma: tuple[Plane, ...]
    detector: DetectorOptions
    levels: tuple[Plane, ...]
    moving: tuple[tuple[float, float], ...] = ()

    @property
    def sky(self) -> float:
        """Level without a source, DN a coarse pixel."""
        return _SKY_DN + self.detector.pedestal_dn


def draw_dithers(
    kind: str,
    seed: int,
    side_px: int,
    count: int = 4,
    *,
    moving_snr: float = 0.0,
    blurs_px: Sequence[float] = (),
) -> Dithers:
    """Draw exposures at random dithers of up to a pixel each way; the first is not moved.

    moving_snr : of a source that moves from exposure to exposure over dark sky; 0 for none
    blurs_px : Gaussian of each exposure's seeing beyond that of the truth; none for alike
    """
    side = side_px + 2 * _MARGIN_PX
    options = SceneOptions(
        kind, shape=(side, side), seed=seed, saturated_star=False, psf=MoffatPsf(_FWHM_PX)
    )
    fine = draw_scene(options).signal(_OVERSAMPLE)
    rng = np.random.default_rng([seed, 0xD17])
    steps = rng.integers(-_OVERSAMPLE, _OVERSAMPLE + 1, (count, 2))
    steps[0] = 0
    detector = DetectorOptions(defects=False)
    levels = [
        _summed(gaussian_filter(fine, blur_px * _OVERSAMPLE), step, side_px, _OVERSAMPLE)
        + _SKY_DN
        + detector.pedestal_dn
        for step, blur_px in zip(steps, blurs_px or [0.0] * count, strict=True)
    ]
    moving: tuple[tuple[float, float], ...] = ()
    if moving_snr:
        moving = _path(levels[0], count)
        sigma_dn = float(np.median(detector.sigma_dn(levels[0])))
        for level, place, step in zip(levels, moving, steps / _OVERSAMPLE, strict=True):
            level += moving_snr * sigma_dn * source_at(level.shape, np.asarray(place) - step)
    frames, hits = [], []
    for number, level in enumerate(levels):
        own = np.random.default_rng([seed, number, 0xC05])
        observed, _ = expose(level, detector, own, fwhm_px=_FWHM_PX)
        struck, hit = _struck(observed.astype(np.float32), own)
        frames.append(struck)
        hits.append(hit)
    truth = _summed(fine, steps[0], side_px, _OVERSAMPLE // FACTOR)
    return Dithers(
        kind=kind,
        seed=seed,
        frames=tuple(frames),
        shifts_px=tuple((float(r) / _OVERSAMPLE, float(c) / _OVERSAMPLE) for r, c in steps),
        hit=tuple(hits),
        truth=truth + (_SKY_DN + detector.pedestal_dn) / FACTOR**2,
        sigma=tuple(detector.sigma_dn(level) for level in levels),
        detector=detector,
        levels=tuple(levels),
        moving=moving,
    )


def _path(level: Plane, count: int) -> tuple[tuple[float, float], ...]:
    """Places of a moving source, STEP_PX apart along a row, over the darkest stretch of sky."""
    reach = round(count * STEP_PX / 2)
    size = (2 * _CLEAR_PX + 1, 2 * (reach + _CLEAR_PX) + 1)
    brightest = maximum_filter(level, size)
    brightest[: size[0]], brightest[-size[0] :] = np.inf, np.inf
    brightest[:, : size[1] // 2 + 1], brightest[:, -size[1] // 2 :] = np.inf, np.inf
    row, col = np.unravel_index(int(np.argmin(brightest)), level.shape)
    first = float(col) - STEP_PX * (count - 1) / 2
    return tuple((float(row) + 0.3, first + STEP_PX * number) for number in range(count))


def source_at(shape: tuple[int, ...], place: Plane) -> Plane:
    """Draw a star at (row, col), the sum of its squares 1: that of S/N 1 for noise of 1."""
    star = np.zeros(shape)
    add_star(star, (float(place[0]), float(place[1])), 1.0, psf=MoffatPsf(_FWHM_PX), oversample=1)
    unit: Plane = star / np.sqrt((star**2).sum())
    return unit


def _summed(fine: Plane, step: NDArray[np.int64], side_px: int, pixels: int) -> Plane:
    first = _MARGIN_PX * _OVERSAMPLE + step
    length = side_px * _OVERSAMPLE
    cut = fine[first[0] : first[0] + length, first[1] : first[1] + length]
    count = length // pixels
    summed: Plane = cut.reshape(count, pixels, count, pixels).sum(axis=(1, 3))
    return summed


def _struck(
    frame: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Add cosmic rays: tracks of 1 to 6 pixels of 100 to 3000 DN, one in 400 pixels."""
    hit = np.zeros(frame.shape, bool)
    for _ in range(frame.size // 400):
        row, col = rng.uniform(2, np.array(frame.shape) - 2)
        angle, light = rng.uniform(0, np.pi), 10 ** rng.uniform(2, 3.5)
        for step in range(int(rng.integers(1, 7))):
            place = int(row + step * np.sin(angle)), int(col + step * np.cos(angle))
            if all(0 <= at < side for at, side in zip(place, frame.shape, strict=True)):
                frame[place] += 0 if hit[place] else light
                hit[place] = True
    return frame, hit


def write_exposure(drawn: Dithers, number: int, folder: Path) -> Path:
    """Write one exposure as a telescope's file; returns its path."""
    detector = drawn.detector
    header = fits.Header(
        {
            "BUNIT": "adu",
            "GAIN": detector.gain_e_per_dn,
            "RDNOISE": detector.read_noise_e,
            "PEDESTAL": detector.pedestal_dn,
            "SATURATE": detector.saturation_dn,
            "EXPTIME": 120.0,
            "FILTER": "r",
        }
    )
    path = folder / f"exposure_{number}.fits"
    fits.PrimaryHDU(drawn.frames[number], header).writeto(path)
    return path
