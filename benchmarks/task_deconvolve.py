"""Deconvolution of simulated fields with a known PSF, against Richardson-Lucy at its best stop.

The truth is the scene as an instrument of a narrower PSF shows it: a Gaussian of FWHM 2 pixels,
sampled at the pixels' middles, which is what `dip deconvolve` aims at (`forward/scene_optics.py`).
The observation is the same sky through a Moffat PSF (FWHM 3.5 pixels), integrated over its pixels,
under noise. Richardson-Lucy is given the kernel between the two, so it aims at the same truth; its
stop is chosen with the truth, with the sky taken off first or not. Nine stars at S/N 100, far from
each other, show rings.
"""

import time
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from benchmarks.interpolating import lucy
from benchmarks.scenes import Image, ObservedScene, best_of, figures
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import remaining_kernel
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.prior import fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import STAR, DetectorOptions, MoffatPsf, Scene, SceneOptions, draw_scene
from dip_pipeline.simulate.psf import add_star
from dip_pipeline.task import Task

FWHM_PX = 3.5
KINDS = ("crowded", "galaxies")
KNOWN_FIELDS = KINDS
SIDE_PX = 192
RING_SNR = 100.0
_RING_STARS = 3  # along each axis
_FINE = 5  # pixels that the sky is drawn on, for one of the frame: odd, so that middles agree
_POINT = MoffatPsf(0.35, 8.0)  # what the sky's points are drawn with
_POINT_PX = 7
_PSF_REACH_PX = 12
_RINGS_PX = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
_STOPS = (5, 10, 15, 20, 30, 40, 60, 80, 110, 150, 200, 300)


def rows(
    seed: int,
    *,
    fields: tuple[str, ...] = KINDS,
    side_px: int = SIDE_PX,
    steps: int | None = None,
) -> list[dict[str, object]]:
    """Restore fields of a seed by all methods."""
    return [row for kind in fields for row in field_rows(kind, seed, side_px=side_px, steps=steps)]


def field_rows(kind: str, seed: int, *, side_px: int, steps: int | None) -> list[dict[str, object]]:
    """Restore one field by all methods."""
    scene = observe_blurred(kind, seed, side_px=side_px)
    started = time.monotonic()
    ours = restored(scene, steps)
    seconds = time.monotonic() - started
    results = [*_peers(scene, steps), ("dip deconvolve", ours, 0)]
    return [
        {
            "field": kind,
            "seed": seed,
            "side_px": side_px,
            "method": method,
            **figures(scene, result),
            "deepest_ring_sigma": deepest_ring(scene, result),
            "lowest_sigma": float(((result - scene.truth) / scene.sigma).min()),
            "iterations": iterations or None,
            "seconds": seconds if method == "dip deconvolve" else None,
        }
        for method, result, iterations in results
    ]


def observe_blurred(kind: str, seed: int, *, side_px: int) -> ObservedScene:
    """Draw a sky of points, see it through two PSFs: the frame's, and the target's."""
    detector = DetectorOptions(defects=False, quantised=False)
    options = SceneOptions(
        kind, shape=(side_px, side_px), seed=seed, psf=_POINT, saturated_star=False
    )
    drawn = draw_scene(options)
    marked = _marked_stars(options, detector)
    near = _near(drawn.stars, marked)
    drawn = Scene(
        options, np.concatenate([drawn.stars[~near], marked]), drawn.galaxies, drawn.nebula
    )
    points = drawn.signal(_FINE)
    target = gaussian_filter(points, _target_sigma_px() * _FINE, truncate=6.0)
    signal = target[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE] * _FINE**2
    spread = _spread(_PSF_REACH_PX * _FINE)
    seen = fftconvolve(points, spread / spread.sum(), mode="same")
    level = seen.reshape(side_px, _FINE, side_px, _FINE).sum(axis=(1, 3)) + options.sky_dn
    rng = np.random.default_rng([seed, KINDS.index(kind), 77])
    electrons = rng.poisson(np.maximum(level, 0) * detector.gain_e_per_dn)
    read_e = detector.read_noise_e * rng.standard_normal(level.shape)
    return ObservedScene(
        kind=kind,
        seed=seed,
        observed=(electrons + read_e) / detector.gain_e_per_dn,
        level=level,
        truth=signal + options.sky_dn,
        signal=signal,
        sigma=detector.sigma_dn(level),
        stars=drawn.stars_inside(),
        detector=detector,
        optics=Optics(factor=1, psf=pixel_psf()),
    )


def pixel_psf() -> NDArray[np.float32]:
    """PSF of the frame as its pixels see it, (25, 25), sum 1: of the points that are drawn."""
    density = fftconvolve(_spread(_PSF_REACH_PX * _FINE + _FINE // 2), _point(), mode="same")
    side = 2 * _PSF_REACH_PX + 1
    pixels = density.reshape(side, _FINE, side, _FINE).mean(axis=(1, 3))
    psf: NDArray[np.float32] = (pixels / pixels.sum()).astype(np.float32)
    return psf


def _spread(reach: int) -> Image:
    """Give what the frame's optics make of a point, out to so many fine pixels."""
    offsets = np.arange(-reach, reach + 1) / _FINE
    return MoffatPsf(FWHM_PX).density(offsets[:, None], offsets[None, :])


@cache
def _point() -> Image:
    """Draw a point of the sky, fine pixels, sum 1: it has a width of its own."""
    light: Image = np.zeros((_POINT_PX * _FINE, _POINT_PX * _FINE))
    add_star(light, (_POINT_PX // 2, _POINT_PX // 2), 1.0, psf=_POINT, oversample=_FINE)
    light /= light.sum()
    return light


def _target_sigma_px() -> float:
    """Give the Gaussian's width that makes the target's star of a point as it is drawn."""
    offsets_px = (np.arange(_POINT_PX * _FINE) - _POINT_PX * _FINE // 2) / _FINE
    variance_px2 = float((_point().sum(axis=1) * offsets_px**2).sum())
    return float(np.sqrt(TARGET_SIGMA_PX**2 - variance_px2))


def deepest_ring(scene: ObservedScene, result: Image) -> float:
    """Lowest mean of (result - truth) / sigma along circles around the marked stars, in sigma.

    Of each circle one pixel wide the mean over all marked stars and directions.
    """
    errors = (result - scene.truth) / scene.sigma
    rows, cols = np.indices(errors.shape)
    marked = _marked_stars(
        SceneOptions(scene.kind, shape=scene.level.shape, seed=scene.seed), scene.detector
    )
    means = []
    for radius_px in _RINGS_PX:
        values = []
        for star in marked:
            distance = np.hypot(rows - star["row"], cols - star["col"])
            values.append(errors[np.abs(distance - radius_px) < 0.5])
        means.append(float(np.concatenate(values).mean()))
    return min(means)


def _marked_stars(options: SceneOptions, detector: DetectorOptions) -> NDArray[np.void]:
    """Stars at S/N 100 of a PSF fit, on a grid, each at its own place in a pixel."""
    rng = np.random.default_rng([options.seed, 5])
    spacing = np.array(options.shape) / _RING_STARS
    stars = np.zeros(_RING_STARS**2, STAR)
    for number, star in enumerate(stars):
        middle = (np.array(divmod(number, _RING_STARS)) + 0.5) * spacing
        star["row"], star["col"] = middle + rng.uniform(-2, 2, 2)
    psf = pixel_psf().astype(np.float64)
    flux_dn = 1.0
    for _ in range(40):  # S/N^2 = F^2 sum(p^2 / variance), the variance with the star's own light
        variance = detector.sigma_dn(flux_dn * psf + options.sky_dn) ** 2
        flux_dn = RING_SNR / float(np.sqrt((psf**2 / variance).sum()))
    stars["flux_dn"] = flux_dn
    return stars


def _near(stars: NDArray[np.void], marked: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which stars lie within 10 px of a marked one: they would hide its rings."""
    down = stars["row"][:, None] - marked["row"][None, :]
    across = stars["col"][:, None] - marked["col"][None, :]
    near: NDArray[np.bool_] = (np.hypot(down, across) < 10).any(axis=1)
    return near


def restored(scene: ObservedScene, steps: int | None) -> Image:
    """Deconvolve a scene with the PSF that it is told."""
    options = FitOptions(task=Task.DECONVOLVE, steps=steps)
    problem = scene.problem(options, scene.optics)
    prior = fit_scene_prior([problem], scene.observed.shape, seed=scene.seed)
    return restore_scene(problem, prior).science.astype(np.float64)


def _peers(scene: ObservedScene, steps: int | None) -> Iterator[tuple[str, Image, int]]:
    """Name, result and iterations of each."""
    frames = {
        "noisy": scene.observed,
        "dip denoise": scene.denoised(FitOptions(steps=steps)),
    }
    kernel = np.maximum(remaining_kernel(pixel_psf()), 0)
    sky_dn = float(np.median(scene.observed))
    for name, frame in frames.items():
        yield name, frame, 0
        tried = [
            (str(count), result)
            for level_dn in (0.0, sky_dn)
            for count, result in lucy(frame, kernel / kernel.sum(), _STOPS, level_dn)
        ]
        count, result = best_of(tried, scene)
        yield f"Richardson-Lucy of {name}", result, int(count)
