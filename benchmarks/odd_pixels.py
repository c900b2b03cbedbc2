"""One wrong pixel in the core of each bright star: how often it is found, and what else is.

Of the stars of `lone_stars` of S/N 300 and 1000 one pixel, in the middle or beside it, counts too
much or too little by a share of the star's height. Found by the PSF (`PsfLimit`); by pairs: by two
pixels beside each alone.

    python -m benchmarks.odd_pixels
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.lone_stars import SKY_DN, SNRS, observe_grid
from benchmarks.machine import keep
from dip_pipeline.restoration.psf.psf_limit import PsfLimit

WIDTHS_PX = (2.0, 2.5, 3.0, 4.0)
SHARES = (-0.5, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.5)
_LEAST_SNR = 300.0
_NEVER = (1e9, 1e9)


def row(fwhm_px: float, share: float, seeds: list[int]) -> dict[str, float]:
    """Look for the wrong pixels of some frames."""
    counts = {"wrong": 0, "found_by_pairs": 0, "found": 0, "found_falsely": 0}
    for seed in seeds:
        scene = observe_grid(seed, factor=1, fwhm_px=fwhm_px, pair_fwhm=0.0)
        observed, wrong = scene.observed.astype(np.float64), np.zeros(scene.observed.shape, bool)
        for number, star in enumerate(scene.stars):
            if SNRS[number % len(SNRS)] < _LEAST_SNR:
                continue
            row, col = round(star["row"]), round(star["col"])
            at = (row, col + number // len(SNRS) % 2)
            observed[at] += share * (observed[row, col] - SKY_DN)
            wrong[at] = True
        sigma = scene.detector.sigma_dn(np.maximum(observed, 1.0))
        assert scene.optics.psf is not None
        limit = PsfLimit.of(scene.optics.psf, 1)
        known = np.ones(wrong.shape, bool)
        found, by_pairs = (
            each.too_sharp(observed, sigma, known).found
            for each in (limit, replace(limit, over=_NEVER))
        )
        counts["wrong"] += int(wrong.sum())
        counts["found_by_pairs"] += int((by_pairs & wrong).sum())
        counts["found"] += int((found & wrong).sum())
        counts["found_falsely"] += int((found & ~wrong).sum())
    return {"fwhm_px": fwhm_px, "share": share, **counts}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,3,5")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = []
    for fwhm_px in WIDTHS_PX:
        for share in SHARES:
            found.append(row(fwhm_px, share, seeds))
            print(found[-1], flush=True)
    if options.out:
        keep(options.out, "benchmarks.odd_pixels", rows=found)


if __name__ == "__main__":
    main()
