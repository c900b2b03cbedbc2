"""Stars far from each other where a PSF is undone: how far off their cores are, and if errors tell.

Thirty-six stars of some S/N on a grid, seen through a Moffat PSF, restored with it; the truth is
what the scene aims at, stars of `TARGET_SIGMA_PX`. With --pair each is two stars of equal light so
far apart: what looks like one star and is none.

    python -m benchmarks.lone_stars --factor 3 --seeds 1,3,5
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import keep
from benchmarks.scenes import Image, ObservedScene, observed_level
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.prior import fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import STAR, DetectorOptions, MoffatPsf
from dip_pipeline.simulate.psf import add_star
from dip_pipeline.task import Task

SNRS = (30.0, 100.0, 300.0, 1000.0)
SKY_DN = 200.0
SIDE_PX = 144
_CELLS = 6  # along each axis
_JITTER_PX = 3.0
_PSF_REACH_PX = 12
_CORE_PX = 1.6  # of the scene, around a star
_DARK_PX = 8.0


def observe_grid(
    seed: int,
    *,
    factor: int,
    fwhm_px: float,
    pair_fwhm: float,
    snrs: Sequence[float] = SNRS,
) -> ObservedScene:
    """Draw the stars, or pairs `pair_fwhm` FWHM apart; their S/N is that of a PSF fit."""
    detector = DetectorOptions(defects=False, quantised=False)
    psf = MoffatPsf(fwhm_px, 3.0)
    rng = np.random.default_rng([seed, 11])
    stars = np.zeros(_CELLS**2, STAR)
    level, signal = np.full((SIDE_PX, SIDE_PX), SKY_DN), np.zeros((SIDE_PX * factor,) * 2)
    fluxes_dn = [_flux_dn(snr, psf, detector) for snr in snrs]
    for number, star in enumerate(stars):
        middle = (np.array(divmod(number, _CELLS)) + 0.5) * SIDE_PX / _CELLS - 0.5
        place = middle + rng.uniform(-_JITTER_PX, _JITTER_PX, 2)
        star["row"], star["col"] = place
        star["flux_dn"] = fluxes_dn[number % len(snrs)]
        angle = rng.uniform(0, np.pi)
        half = 0.5 * pair_fwhm * fwhm_px * np.array([np.cos(angle), np.sin(angle)])
        for part in (place - half, place + half):
            add_star(level, tuple(part), star["flux_dn"] / 2, psf=psf)
            signal += star["flux_dn"] / 2 * _target(part, signal.shape, factor)
    return ObservedScene(
        kind="grid",
        seed=seed,
        observed=observed_level(level, detector, rng),
        level=level,
        truth=signal + SKY_DN / factor**2,
        signal=signal,
        sigma=detector.sigma_dn(level),
        stars=stars,
        detector=detector,
        optics=Optics(factor=factor, psf=_pixel_psf(psf, factor), summed=True),
    )


def _pixel_psf(psf: MoffatPsf, factor: int) -> NDArray[np.float32]:
    """PSF on the pixels of the scene, odd sides, sum 1."""
    reach = _PSF_REACH_PX * factor
    light = np.zeros((2 * reach + 1,) * 2)
    middle = (reach + 0.5) / factor - 0.5
    add_star(light, (middle, middle), 1.0, psf=psf, oversample=factor)
    kernel: NDArray[np.float32] = (light / light.sum()).astype(np.float32)
    return kernel


def _target(place: Image, shape: tuple[int, ...], factor: int) -> Image:
    """Star of the scene, sum 1; its place on the observation, (row, col)."""
    rows, cols = (
        np.arange(side) - ((at + 0.5) * factor - 0.5) for side, at in zip(shape, place, strict=True)
    )
    down, across = (np.exp(-0.5 * (offset / TARGET_SIGMA_PX) ** 2) for offset in (rows, cols))
    star: Image = np.outer(down, across) / (2 * np.pi * TARGET_SIGMA_PX**2)
    return star


def _flux_dn(snr: float, psf: MoffatPsf, detector: DetectorOptions) -> float:
    """Flux of a star of that S/N, its own noise counted."""
    profile = _pixel_psf(psf, 1).astype(np.float64)
    flux_dn = 1e3
    for _ in range(40):
        sigma_dn = detector.sigma_dn(flux_dn * profile + SKY_DN)
        flux_dn = snr / float(np.sqrt(((profile / sigma_dn) ** 2).sum()))
    return flux_dn


def rows(
    seeds: list[int],
    *,
    factor: int,
    fwhm_px: float,
    pair_fwhm: float,
    steps: int | None,
    snrs: Sequence[float] = SNRS,
) -> Iterator[dict[str, object]]:
    """Restore the stars of each seed; one row for each S/N, and one for the dark between them."""
    task = Task.DECONVOLVE if factor == 1 else Task.SUPER_RESOLVE
    errors: list[Image] = []
    claimed: list[Image] = []
    near: list[Image] = []
    for seed in seeds:
        scene = observe_grid(seed, factor=factor, fwhm_px=fwhm_px, pair_fwhm=pair_fwhm, snrs=snrs)
        problem = scene.problem(FitOptions(task=task, steps=steps), scene.optics)
        prior = fit_scene_prior([problem], scene.observed.shape, seed=seed)
        found = restore_scene(problem, prior)
        errors.append((found.science - scene.truth) / scene.fine_sigma)
        claimed.append(found.error / scene.fine_sigma)
        near.append(_distances_px(scene))
    off, told, distances = np.array(errors), np.array(claimed), np.array(near)
    for number, snr in enumerate(snrs):
        own = distances[:, number :: len(snrs)].min(axis=1) < _CORE_PX
        yield {"snr": snr, "pixels": "cores", **_figures(off[own], told[own])}
    dark = distances.min(axis=1) > _DARK_PX * factor
    yield {"snr": None, "pixels": "between stars", **_figures(off[dark], told[dark])}


def _distances_px(scene: ObservedScene) -> Image:
    """Distance of each pixel of the scene from each star, (stars, rows, cols)."""
    down, across = np.indices(scene.truth.shape)
    factor = scene.factor
    distances: Image = np.array(
        [
            np.hypot(down - (row + 0.5) * factor + 0.5, across - (col + 0.5) * factor + 0.5)
            for row, col in zip(scene.stars["row"], scene.stars["col"], strict=True)
        ]
    )
    return distances


def _figures(off: Image, told: Image) -> dict[str, float]:
    """Residual in the noise of a pixel, and share of the pixels whose error covers it."""
    claimed = np.isfinite(told)
    return {
        "rms": float(np.sqrt(np.mean(off**2))),
        "covered": float((np.abs(off) < told)[claimed].mean()),
        "claimed": float(claimed.mean()),
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,3,5")
    parser.add_argument("--factor", type=int, default=3, help="1: deconvolve")
    parser.add_argument("--fwhm", type=float, default=2.7, help="of the PSF, px of the frame")
    parser.add_argument("--snrs", default=",".join(f"{snr:g}" for snr in SNRS), help="of stars")
    parser.add_argument("--pair", type=float, default=0.0, help="how far apart two are, in FWHM")
    parser.add_argument("--steps", type=int, default=300, help="of the fits")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    for row in rows(
        [int(seed) for seed in options.seeds.split(",")],
        factor=options.factor,
        fwhm_px=options.fwhm,
        pair_fwhm=options.pair,
        steps=options.steps,
        snrs=[float(snr) for snr in options.snrs.split(",")],
    ):
        found.append(row)
        print(row, flush=True)
    if options.out:
        keep(options.out, "benchmarks.lone_stars", rows=found)


if __name__ == "__main__":
    main()
