"""Stars at and beyond a frame's edges where a PSF is undone: how far off pixels there are.

The stars of `lone_stars`, of which the outer ones are cut; restored with room beyond the edges, as
a run does it, and without, where light is mirrored there.

    python -m benchmarks.edges --factor 2 --fwhm 2.7
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.lone_stars import observe_grid
from benchmarks.machine import keep
from benchmarks.scenes import Image, ObservedScene
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.scene.prior import fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.task import Task

_CUT_PX = 14  # on the first side of each axis, 18 on the last: stars lie 9 to 15 px from either
_LEFT_PX = 112
_DISTANCES_PX = (0, 1, 3, 6, 10, 10_000)


def cut(scene: ObservedScene) -> ObservedScene:
    """Cut the outer pixels of a scene; its table of stars keeps those beyond the edges."""
    within = slice(_CUT_PX, _CUT_PX + _LEFT_PX)
    finer = slice(within.start * scene.factor, within.stop * scene.factor)
    stars = scene.stars.copy()
    stars["row"] -= _CUT_PX
    stars["col"] -= _CUT_PX
    return replace(
        scene,
        observed=scene.observed[within, within],
        level=scene.level[within, within],
        sigma=scene.sigma[within, within],
        truth=scene.truth[finer, finer],
        signal=scene.signal[finer, finer],
        stars=stars,
    )


def rows(seed: int, *, factor: int, fwhm_px: float, steps: int) -> Iterator[dict[str, object]]:
    """Restore both ways; a row for each range of distances from the edges."""
    scene = cut(observe_grid(seed, factor=factor, fwhm_px=fwhm_px, pair_fwhm=0.0))
    task = Task.DECONVOLVE if factor == 1 else Task.SUPER_RESOLVE
    options = FitOptions(task=task, steps=steps)
    ways: dict[str, Problem] = {
        "mirrored": replace(scene.problem(options, None), optics=scene.optics),
        "with room": scene.problem(options, scene.optics),
    }
    away_px = _from_edges(scene.truth.shape) // factor
    for way, problem in ways.items():
        prior = fit_scene_prior([problem], scene.observed.shape, seed=seed)
        found = restore_scene(problem, prior)
        off = (found.science - scene.truth) / scene.fine_sigma
        told = found.error / scene.fine_sigma
        for first, last in pairwise(_DISTANCES_PX):
            there = (away_px >= first) & (away_px < last)
            claimed = there & np.isfinite(told)
            yield {
                "way": way,
                "seed": seed,
                "from_px": first,
                "rms": float(np.sqrt(np.mean(off[there] ** 2))),
                "covered": float((np.abs(off) < told)[claimed].mean()),
                "claimed": float(claimed.sum() / there.sum()),
                "risk": found.outcome.risk,
            }


def _from_edges(shape: tuple[int, ...]) -> Image:
    down, across = (np.minimum(np.arange(side), np.arange(side)[::-1]) for side in shape)
    return np.minimum.outer(down, across)


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--factor", type=int, default=1, help="1: deconvolve")
    parser.add_argument("--fwhm", type=float, default=3.0, help="of the PSF, px of the frame")
    parser.add_argument("--steps", type=int, default=200, help="of the fits")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    for seed in map(int, options.seeds.split(",")):
        told = rows(seed, factor=options.factor, fwhm_px=options.fwhm, steps=options.steps)
        for row in told:
            found.append(row)
            print(row, flush=True)
    if options.out:
        keep(options.out, "benchmarks.edges", rows=found)


if __name__ == "__main__":
    main()
