"""A PSF measured on a frame's own stars: how much of its light is elsewhere, and what that costs.

    python -m benchmarks.own_psf --seeds 1,3,5 --out benchmarks/results/own-psf.json

Fields of 512 x 512 px are drawn with PSFs of several shapes, which are measured by `measure_psf`
and by photutils' EPSFBuilder (twice oversampled, the stars that ours is told, what stands out
beside their Moffat profile masked). Then a field is deconvolved with its true PSF, with the
measured one,
and with a Gaussian of the measured width.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import task_deconvolve
from benchmarks.machine import keep
from benchmarks.scenes import figures
from dip_pipeline.restoration.forward.gaussian_psf import gaussian_psf
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.psf.own_psf import OwnPsf, StarField, measure_psf
from dip_pipeline.restoration.stars.common_shape import alike_stars, measure_shape
from dip_pipeline.restoration.stars.star_shape import (
    AS_GAUSSIANS,
    FittedStar,
    StarShape,
    fit_bright_stars,
)
from dip_pipeline.simulate import MoffatPsf

Image = NDArray[np.float64]
Profile = Callable[[Image, Image], Image]

SIDE_PX = 512
REACH_PX = 25
SKY_DN, READ_NOISE_DN = 100.0, 5.0
_STARS = {"60 stars": (60, 3.0), "600 stars": (600, 2.0)}
_MOST_STARS = 120
_MIDDLES = (np.arange(5) - 2) / 5  # of the fifths of a pixel
_PIXEL_VARIANCE_PX2 = 1 / 12
_CORE_SHARE = 0.02


def _moffat(fwhm_px: float, beta: float) -> Profile:
    return MoffatPsf(fwhm_px, beta).density


def _elliptical(rows: Image, cols: Image) -> Image:
    return StarShape(0.10, 0.01, 0.14, 3.0).profile(rows, cols)


def _coma(rows: Image, cols: Image) -> Image:
    core, tail = _moffat(2.8, 3.0), _moffat(3.8, 3.0)
    both: Image = core(rows, cols) + 0.6 * tail(rows - 1.3, cols - 0.9)
    return both


def _donut(rows: Image, cols: Image) -> Image:
    radius = np.hypot(rows, cols)
    ring: Image = np.exp(-0.5 * (radius - 2.2) ** 2) + 0.02 * (1 + (radius / 4) ** 2) ** -2.5
    return ring


def _spikes(rows: Image, cols: Image) -> Image:
    core, arms = _moffat(2.2, 2.5)(rows, cols), ((rows, cols), (cols, rows))
    for along, across in arms:
        core = core + 0.006 * np.exp(-np.abs(along) / 8 - 0.5 * (across / 0.7) ** 2)
    return core


def _gaussian(rows: Image, cols: Image) -> Image:
    light: Image = np.exp(-4 * np.log(2) * (rows**2 + cols**2) / 3.0**2)
    return light


PROFILES: dict[str, Profile] = {
    "Moffat, FWHM 2.7 px": _moffat(2.7, 3.0),
    "Moffat, FWHM 4.5 px, wide wings": _moffat(4.5, 2.6),
    "Moffat, FWHM 1.5 px": _moffat(1.5, 3.0),
    "elliptical": _elliptical,
    "Gaussian": _gaussian,
    "coma": _coma,
    "spikes": _spikes,
    "donut of defocus": _donut,
}


def drawn(profile: Profile, away: Image, reach_px: int) -> Image:
    """Light of pixels around a star, not normalised; away : where it is from the middle, px."""
    offsets = np.arange(-reach_px, reach_px + 1, dtype=np.float64)
    rows, cols = offsets - away[0], offsets - away[1]
    light: Image = np.sum(
        [
            profile(rows[:, None] + down, cols[None, :] + across)
            for down in _MIDDLES
            for across in _MIDDLES
        ],
        axis=0,
    )
    return light


def drawn_field(profile: Profile, count: int, faintest: float, seed: int) -> StarField:
    """Draw stars of 10^faintest to 10^5 DN at any place, Poisson and read noise, no sky."""
    rng = np.random.default_rng(seed)
    light = np.zeros((SIDE_PX + 2 * REACH_PX,) * 2)
    total = drawn(profile, np.zeros(2), 60).sum()
    for _ in range(count):
        place = rng.uniform(0, SIDE_PX - 1, 2)
        row, col = np.round(place).astype(int)
        stamp = drawn(profile, place - np.round(place), REACH_PX) / total
        flux = 10 ** rng.uniform(faintest, 5)
        light[row : row + stamp.shape[0], col : col + stamp.shape[1]] += flux * stamp
    light = light[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    sigma = np.sqrt(light + SKY_DN + READ_NOISE_DN**2)
    seen = light + sigma * rng.standard_normal(light.shape)
    return StarField(seen, sigma, np.ones(light.shape, bool))


def fitted_stars(field: StarField) -> list[FittedStar]:
    """Fit the stars as `dip psf` does."""
    return fit_bright_stars(
        field.light, field.sigma, field.trusted, most=_MOST_STARS, most_beta=AS_GAUSSIANS
    )


def misplaced(profile: Profile, kernel: Image) -> float:
    """Half the sum of differences from the truth, the centres of both cores laid on each other."""
    reach, offsets = kernel.shape[0] // 2, np.arange(kernel.shape[0]) - kernel.shape[0] // 2

    def centre(light: Image) -> Image:
        core = np.where(light > _CORE_SHARE * light.max(), light, 0.0)
        middle: Image = np.array([core.sum(1) @ offsets, core.sum(0) @ offsets]) / core.sum()
        return middle

    wanted, away = centre(kernel), np.zeros(2)
    for _ in range(5):
        truth = drawn(profile, away, reach)
        away = away + wanted - centre(truth)
    return 0.5 * float(np.abs(kernel - truth / truth.sum()).sum())


def of_photutils(field: StarField, fitted: list[FittedStar], reach_px: int) -> Image:
    """Measure the PSF by EPSFBuilder, on the stars that agree on a shape."""
    from photutils.psf import EPSFBuilder, EPSFStar, EPSFStars

    shape = measure_shape(fitted)
    assert shape is not None
    cut = []
    for star in alike_stars(fitted, shape):
        spans = [slice(at - reach_px, at + reach_px + 1) for at in star.at]
        if min(s.start for s in spans) < 0 or max(s.stop for s in spans) > SIDE_PX:
            continue
        light, sigma = field.light[tuple(spans)], field.sigma[tuple(spans)]
        offsets = np.arange(-reach_px, reach_px + 1, dtype=np.float64)
        rows, cols = offsets - star.cutout.place[0], offsets - star.cutout.place[1]
        profile = shape.at(rows[:, None], cols[None, :])
        rim = np.hypot(rows[:, None], cols[None, :]) > 0.8 * reach_px
        light = light - np.median(light[rim])
        off = np.abs(light - star.height * profile)
        other = off > np.hypot(5 * sigma, 0.1 * star.height * np.sqrt(profile))
        middle = (reach_px + star.cutout.place[1], reach_px + star.cutout.place[0])
        cut.append(EPSFStar(light, weights=np.where(other, 0, 1 / sigma), cutout_center=middle))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built, _ = EPSFBuilder(oversampling=2, progress_bar=False)(EPSFStars(cut))
    first = [side // 2 % 2 for side in built.data.shape]
    kernel: Image = np.asarray(built.data, np.float64)[first[0] :: 2, first[1] :: 2]
    kernel /= kernel.sum()
    return kernel


def shape_rows(seeds: list[int]) -> Iterator[dict[str, object]]:
    """Measure every profile in sparse and in crowded fields; medians over seeds."""
    for name, profile in PROFILES.items():
        for crowding, (count, faintest) in _STARS.items():
            found: list[tuple[float, float, float]] = []
            stars = []
            for seed in seeds:
                field = drawn_field(profile, count, faintest, seed)
                fitted = fitted_stars(field)
                own = measure_psf(field, fitted, factor=1)
                if own is None:
                    continue
                peer = of_photutils(field, fitted, own.kernel.shape[0] // 2)
                errors = [misplaced(profile, kernel) for kernel in (own.kernel, peer)]
                found.append((errors[0], own.doubt, errors[1]))
                stars.append(own.stars)
            ours, doubt, peers = (statistics.median(column) for column in zip(*found, strict=True))
            yield {
                "psf": name,
                "field": crowding,
                "fields_measured": len(found),
                "stars": statistics.median(stars),
                "misplaced": ours,
                "told": doubt,
                "misplaced_by_epsfbuilder": peers,
            }


def deconvolved_rows(seeds: list[int], side_px: int, steps: int) -> Iterator[dict[str, object]]:
    """Deconvolve fields with their PSF, with the measured one, and with a Gaussian."""
    for kind in task_deconvolve.KINDS:
        for seed in seeds:
            scene = task_deconvolve.observe_blurred(kind, seed, side_px=side_px)
            level = float(np.median(scene.observed))
            known = np.ones(scene.observed.shape, bool)
            field = StarField(scene.observed - level, np.asarray(scene.sigma), known)
            own = measure_psf(field, fitted_stars(field), factor=1)
            assert own is not None
            for name, kernel in _kernels(scene.optics.psf, own).items():
                told = replace(scene, optics=Optics(factor=1, psf=kernel.astype(np.float32)))
                result = task_deconvolve.restored(told, steps)
                yield {
                    "field": kind,
                    "seed": seed,
                    "psf": name,
                    "stars": own.stars,
                    **figures(scene, result),
                    "deepest_ring_sigma": task_deconvolve.deepest_ring(scene, result),
                }


def _kernels(true: NDArray[np.floating] | None, own: OwnPsf) -> dict[str, NDArray[np.floating]]:
    assert true is not None
    pixel_px2 = _PIXEL_VARIANCE_PX2 * 8 * np.log(2)
    gaussian = gaussian_psf(float(np.sqrt(own.shape.fwhm_px**2 - pixel_px2)))
    return {"true": true, "measured": own.kernel, "Gaussian of its width": gaussian}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,3,5")
    parser.add_argument("--side", type=int, default=256, help="of the fields to deconvolve, px")
    parser.add_argument("--steps", type=int, default=100, help="of their fits")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    shapes, tasks = [], []
    for row in shape_rows(seeds):
        shapes.append(row)
        print(row, flush=True)
    for row in deconvolved_rows(seeds, options.side, options.steps):
        tasks.append(row)
        print(row, flush=True)
    if options.out:
        keep(options.out, "benchmarks.own_psf", shapes=shapes, deconvolved=tasks)


if __name__ == "__main__":
    main()
