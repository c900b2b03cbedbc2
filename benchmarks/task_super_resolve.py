"""Super-resolution x2 of simulated fields, against interpolation and Richardson-Lucy.

The truth is the scene on pixels of half the size, seen through the same PSF, of FWHM 1.8 pixels of
the observation; the observation is the sum of it over 2 x 2 pixels, under noise. Richardson-Lucy
undoes what the coarse pixel blurs and the fine one does not, stopped at its best, and a spline
interpolates, before or after, whichever is better.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.interpolating import lanczos, lucy, restored_by_bm3d, spline
from benchmarks.scenes import Image, ObservedScene, averaged, best_of, figures, observed_level
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.prior import fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene
from dip_pipeline.task import Task

FACTOR = 2
FWHM_PX = 1.8
KINDS = ("crowded", "galaxies", "nebula")
KNOWN_FIELDS = (*KINDS, *(f"{kind}-deep" for kind in KINDS))
SIDE_PX = 512  # as of the fields that are denoised: smaller ones hold too few stars
DEEP = 16  # exposures
_STOPS = (1, 2, 3, 5, 8, 12, 20, 32)
# Variance of a pixel's width less that of half of it, in squares of the pixel: as three taps.
_EXCESS_VARIANCE = (1 - 1 / FACTOR**2) / 12


def rows(
    seed: int,
    *,
    fields: tuple[str, ...] = KINDS,
    side_px: int = SIDE_PX,
    steps: int | None = None,
) -> list[dict[str, object]]:
    """Restore fields of a seed by all methods; those named -deep are means of 16 exposures."""
    found: list[dict[str, object]] = []
    for name in fields:
        kind, _, deep = name.partition("-")
        exposures = DEEP if deep else 1
        found += field_rows(kind, seed, side_px=side_px, steps=steps, exposures=exposures)
    return found


def field_rows(
    kind: str, seed: int, *, side_px: int, steps: int | None, exposures: int = 1
) -> list[dict[str, object]]:
    """Restore one field by all methods."""
    scene = observe_fine(kind, seed, side_px=side_px, exposures=exposures)
    started = time.monotonic()
    ours = _restored(scene, steps)
    seconds = time.monotonic() - started
    results = [*peers_of(scene, steps), ("dip super-resolve", ours)]
    name = kind if exposures == 1 else f"{kind}-deep"
    return [
        {
            "field": name,
            "seed": seed,
            "side_px": side_px,
            "method": method,
            **figures(scene, result),
            "seconds": seconds if method == "dip super-resolve" else None,
        }
        for method, result in results
    ]


def observe_fine(kind: str, seed: int, *, side_px: int, exposures: int = 1) -> ObservedScene:
    """Draw a field on fine pixels, and observe it on coarse ones."""
    options = SceneOptions(
        kind,
        shape=(side_px, side_px),
        seed=seed,
        psf=MoffatPsf(FWHM_PX),
        saturated_star=False,
    )
    scene = draw_scene(options)
    detector = averaged(DetectorOptions(defects=False), exposures)
    truth = scene.render(FACTOR)
    level = truth.reshape(side_px, FACTOR, side_px, FACTOR).sum(axis=(1, 3))
    rng = np.random.default_rng([seed, KINDS.index(kind), exposures])
    sigma = detector.sigma_dn(level)
    return ObservedScene(
        kind=kind,
        seed=seed,
        observed=observed_level(level, detector, rng),
        level=level,
        truth=truth,
        signal=truth - options.sky_dn / FACTOR**2,
        sigma=sigma,
        stars=scene.stars_inside(),
        detector=detector,
        exposures=exposures,
        optics=Optics(factor=FACTOR),
    )


def _restored(scene: ObservedScene, steps: int | None) -> Image:
    options = FitOptions(task=Task.SUPER_RESOLVE, steps=steps)
    problem = scene.problem(options, scene.optics)
    prior = fit_scene_prior([problem], scene.observed.shape, seed=scene.seed)
    return restore_scene(problem, prior).science.astype(np.float64)


def peers_of(scene: ObservedScene, steps: int | None) -> Iterator[tuple[str, Image]]:
    """Finer frames by what interpolates and sharpens, of the noisy frame and of denoised ones."""
    frames = {
        "noisy": scene.observed,
        "BM3D": restored_by_bm3d(scene.observed, scene.detector),
        "dip denoise": scene.denoised(FitOptions(steps=steps)),
    }
    for name, frame in frames.items():
        yield f"spline of {name}", spline(frame, FACTOR)
        yield f"Lanczos of {name}", lanczos(frame, FACTOR)
        yield f"Richardson-Lucy and spline of {name}", _best_lucy(frame, scene)


def _best_lucy(frame: Image, scene: ObservedScene) -> Image:
    def stopped(image: Image, share: float, last: Callable[[Image], Image]) -> Iterator[Image]:
        taps = np.array([share, 1 - 2 * share, share])
        for _, found in lucy(image, np.outer(taps, taps), _STOPS):
            yield last(found)

    before = stopped(frame, _EXCESS_VARIANCE / 2, lambda found: spline(found, FACTOR))
    fine_share = _EXCESS_VARIANCE * FACTOR**2 / 2
    after = stopped(spline(frame, FACTOR), fine_share, lambda found: found)
    return best_of([("", result) for result in (*before, *after)], scene)[1]
