"""Cosmic rays and hot pixels of simulated frames: how many `--find-cosmics` finds, and what else.

Crowded stars, galaxies and nebulae at four widths of their stars, faint and bright skies. Single
hot pixels, pairs, straight tracks and curved ones, some two pixels wide, of 6 to 1000 sigma of the
sky. Beside it what is found unasked where a PSF is undone (`--fwhm`), before and with the limit
of the PSF; and L.A.Cosmic with the defaults of astroscrappy, which is told gain, read noise and
saturation.

    python -m benchmarks.cosmics --out benchmarks/results/cosmics.json
"""

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import astroscrappy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.machine import keep
from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.frames import Frame, open_frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.psf.sharp_pixels import without_rays, without_too_sharp
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.simulate import (
    DetectorOptions,
    MoffatPsf,
    SceneKind,
    SceneOptions,
    Simulation,
    simulate,
)

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

WIDTHS_PX = (0.9, 1.3, 1.8, 2.5, 4.0)
SKIES = ((20.0, 1.5), (800.0, 3.0))  # DN, and e/DN
SIDE_PX = 384
FULL_DN = 60000.0
_RAYS_PER_PX = 1.2e-3
_SNRS = (5.0, 10.0, 30.0, 1e9)
_STAR_SNR = 30.0


def draw_rays(sigma_dn: float, rng: np.random.Generator) -> Image:
    """Draw hot pixels, pairs, tracks and worms; their charge spreads, that of hot pixels not."""
    charge = np.zeros((SIDE_PX, SIDE_PX))
    for number in range(rng.poisson(_RAYS_PER_PX * charge.size)):
        length_px = (0.0, 0.0, 1.5, 3 + rng.exponential(8), 3 + rng.exponential(8))[number % 5]
        place = rng.uniform(12, SIDE_PX - 12, 2)
        angle = rng.uniform(0, 2 * np.pi)
        one = np.zeros_like(charge)
        for _ in range(1 + int(4 * length_px)):
            one[tuple(place.astype(int))] += 1.0
            angle += rng.normal(0, 0.35) if number % 5 == 4 else 0.0
            place = np.clip(place + 0.25 * np.array([np.sin(angle), np.cos(angle)]), 0, SIDE_PX - 1)
        if number % 5 > 1:
            one = ndimage.gaussian_filter(one, rng.choice([0.25, 0.4, 0.8], p=[0.4, 0.4, 0.2]))
        charge += one / one.max() * sigma_dn * 10 ** rng.uniform(np.log10(6), 3)
    return np.rint(charge)


def find_asked(observed: Image, detector: DetectorOptions, _: float) -> Mask:
    """Find them as `--find-cosmics` does."""
    asked = RunConfig().with_overrides(**{"reading.find_cosmics": True})
    return _masked(observed, detector, asked, lambda frame, _: frame)


def find_by_psf(observed: Image, detector: DetectorOptions, fwhm_px: float) -> Mask:
    """Find them by the limit of a PSF that is undone, alone."""
    config, optics = _undone(fwhm_px)
    return _masked(
        observed, detector, config, lambda frame, noise: without_too_sharp(frame, noise, optics)
    )


def find_beside_psf(observed: Image, detector: DetectorOptions, fwhm_px: float) -> Mask:
    """Find them as where a PSF is undone, and nobody asked to look for them."""
    config, optics = _undone(fwhm_px)

    def both(frame: Frame, noise: NoiseModel) -> Frame:
        return without_too_sharp(without_rays(frame, noise, optics), noise, optics)

    return _masked(observed, detector, config, both)


def find_without_psf(observed: Image, detector: DetectorOptions, _: float) -> Mask:
    """Find them as where pixels are made finer, and no PSF is known."""
    optics = AskedOptics(factor=2)
    return _masked(
        observed, detector, RunConfig(), lambda frame, noise: without_rays(frame, noise, optics)
    )


def _undone(fwhm_px: float) -> tuple[RunConfig, AskedOptics]:
    factor = 2 if fwhm_px > 1 else 3
    task = {"task.name": "super-resolve", "task.factor": factor, "task.fwhm_px": fwhm_px}
    config = RunConfig().with_overrides(**task)
    optics = AskedOptics.of(config)
    assert optics is not None
    return config, optics


def _masked(
    observed: Image,
    detector: DetectorOptions,
    config: RunConfig,
    look: Callable[[Frame, NoiseModel], Frame],
) -> Mask:
    """Mask a frame as a run would, and by what further looks at it."""
    cards = {"GAIN": detector.gain_e_per_dn, "RDNOISE": detector.read_noise_e}
    header = fits.Header(cards | {"SATURATE": FULL_DN, "BUNIT": "adu", "PEDESTAL": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.fits"
        fits.PrimaryHDU(observed.astype("f4"), header).writeto(path)
        frame, noise = settle_frame(open_frame(str(path)), config)
        return look(frame, noise).read(slice(0, SIDE_PX), slice(0, SIDE_PX)).masked


def find_by_defaults(observed: Image, detector: DetectorOptions, _: float) -> Mask:
    """Find them as astroscrappy does where only the sensor is told."""
    gain = detector.gain_e_per_dn
    found, _ = astroscrappy.detect_cosmics(
        observed.astype(np.float32),
        gain=gain,
        readnoise=detector.read_noise_e,
        satlevel=gain * FULL_DN,
    )
    return np.asarray(found, dtype=bool)


def count(found: Mask, simulation: Simulation, charge: Image, full: Mask) -> Counter[str]:
    """Count pixels that were hit and found, by S/N; and stars and sky that are masked falsely."""
    counts: Counter[str] = Counter()
    sigma = simulation.sigma_true_dn.astype(np.float64)
    snr = charge / sigma
    for low, high in pairwise(_SNRS):
        hit = (snr > low) & (snr <= high) & ~full
        counts[f"hit over {low:g} sigma"] = int(hit.sum())
        counts[f"found over {low:g} sigma"] = int((hit & found).sum())
    apart = ~ndimage.maximum_filter((snr > 0.5) | full, 5)
    counts["apart"], counts["apart found"] = int(apart.sum()), int((apart & found).sum())
    light = np.pad(simulation.signal_dn, 3)
    variance = np.pad(sigma**2, 3)
    for star in simulation.stars:
        row, col = round(star["row"]), round(star["col"])
        around = slice(row, row + 7), slice(col, col + 7)
        if not apart[row, col] or light[around].sum() < _STAR_SNR * variance[around].sum() ** 0.5:
            continue
        core = (slice(max(0, row - 1), row + 2), slice(max(0, col - 1), col + 2))
        counts["stars"] += 1
        counts["stars found"] += int((found & apart)[core].any())
    return counts


FINDERS = {
    "--find-cosmics": find_asked,
    "defaults": find_by_defaults,
    "limit of the PSF": find_by_psf,
    "unasked, a PSF undone": find_beside_psf,
    "unasked, finer pixels": find_without_psf,
}


def rows_of(fwhm_px: float, seeds: list[int], names: list[str]) -> list[dict[str, object]]:
    """Measure some ways at one width of the stars."""
    totals: dict[str, Counter[str]] = {name: Counter() for name in names}
    for seed in seeds:
        for kind in SceneKind:
            for sky_dn, gain in SKIES:
                detector = DetectorOptions(gain, defects=False, saturation_dn=FULL_DN)
                scene = SceneOptions(kind, (SIDE_PX, SIDE_PX), seed, sky_dn, MoffatPsf(fwhm_px))
                simulation = simulate(scene, detector)
                rng = np.random.default_rng([seed, 77])
                charge = draw_rays(float(detector.sigma_dn(np.array(sky_dn))), rng)
                observed = np.minimum(simulation.observed_dn + charge, FULL_DN)
                full = observed >= FULL_DN
                for name in names:
                    found = FINDERS[name](observed, detector, fwhm_px)
                    totals[name] += count(found, simulation, charge, full)
    return [{"fwhm_px": fwhm_px, "by": name, **total} for name, total in totals.items()]


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--by", choices=FINDERS, help="one of the ways alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = []
    for fwhm_px in WIDTHS_PX:
        for row in rows_of(fwhm_px, seeds, [options.by] if options.by else list(FINDERS)):
            rows.append(row)
            print(row, flush=True)
    if options.out:
        keep(options.out, "benchmarks.cosmics", rows=rows)


if __name__ == "__main__":
    main()
