"""Simulated scenes and their observations: what was seen, what is true, how near a result comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from photutils.aperture import CircularAperture

from benchmarks.machine import usual_device
from dip_pipeline.quality import flux_offsets
from dip_pipeline.restoration.forward.optics import Optics, in_blocks
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.scene.beyond_edges import beyond_edges
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.simulate import DetectorOptions

Image = NDArray[np.float64]

SOURCE_SIGMA = 3.0  # noiseless signal of a pixel on a source, in its noise
BRIGHT_SNR = 30.0
_APERTURE_PX = 4.0  # of the observation
_CENTROID_SIGMA_PX = 1.0
_CENTROID_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class ObservedScene:
    """A scene and what was observed of it; fluxes in DN.

    observed, level, sigma : (rows, cols), pixels as read, noiseless, and their noise
    truth, signal : on the scene's grid, with the sky and without it
    stars : row, col (pixels of the observation), flux_dn
    exposures : averaged into the observation
    """

    kind: str
    seed: int
    observed: Image
    level: Image
    truth: Image
    signal: Image
    sigma: Image
    stars: NDArray[np.void]
    detector: DetectorOptions
    exposures: int = 1
    optics: Optics = field(default_factory=Optics)

    @property
    def factor(self) -> int:
        """Pixels of the scene for one of the observation."""
        return self.optics.factor

    @property
    def fine_sigma(self) -> Image:
        """Noise that a pixel of the scene would have alone: its share of the variance."""
        return in_blocks(self.sigma, self.factor) / self.factor

    @property
    def on_source(self) -> NDArray[np.bool_]:
        """Pixels of the scene that hold more signal than noise, by far."""
        on: NDArray[np.bool_] = self.signal > SOURCE_SIGMA * self.fine_sigma
        return on

    def problem(self, options: FitOptions, optics: Optics | None) -> Problem:
        """Tell a method of ours what it may know; beyond the edges nothing is known."""
        nothing = np.zeros(self.observed.shape, bool)
        problem = Problem(
            pixels=self.observed.astype(np.float32),
            masked=nothing,
            saturated=nothing.copy(),
            noise=_noise_of(self.detector, self.exposures),
            options=options,
            seed=self.seed,
            threads=1,
            device=usual_device(),
            optics=optics,
        )
        return beyond_edges(problem, self.observed.shape)

    def denoised(self, options: FitOptions) -> Image:
        """Our own denoising of the observation, which peers get too."""
        problem = self.problem(options, None)
        prior = fit_prior([problem], problem.pixels.shape, seed=self.seed)
        return restore(problem, prior).science.astype(np.float64)


def observed_level(level: Image, detector: DetectorOptions, rng: np.random.Generator) -> Image:
    """Draw photons and read noise over a level, DN without pedestal."""
    electrons = rng.poisson(level * detector.gain_e_per_dn)
    read_e = detector.read_noise_e * rng.standard_normal(level.shape)
    observed: Image = (electrons + read_e) / detector.gain_e_per_dn
    return observed


def averaged(detector: DetectorOptions, exposures: int) -> DetectorOptions:
    """Describe a detector whose pixels are means of so many exposures."""
    return replace(
        detector,
        gain_e_per_dn=detector.gain_e_per_dn * exposures,
        read_noise_e=detector.read_noise_e * exposures**0.5,
        quantised=False,
    )


def figures(scene: ObservedScene, result: Image) -> dict[str, float]:
    """Figures of a result on the scene's grid: residuals over the true noise, stars."""
    errors = (result - scene.truth) / scene.fine_sigma
    on = scene.on_source
    flux_change, centroid_px, stars = _of_stars(scene, result)
    return {
        "on_sources": _rms(errors[on]),
        "off_sources": _rms(errors[~on]),
        "flux_median_bright": float(np.median(flux_change)) if stars else float("nan"),
        "flux_scatter_bright": float(np.median(np.abs(flux_change))) if stars else float("nan"),
        "centroid_median_px": float(np.median(centroid_px)) if stars else float("nan"),
        "centroid_p95_px": float(np.percentile(centroid_px, 95)) if stars else float("nan"),
        "bright_stars": float(stars),
        "total_flux": float(result.sum() / scene.level.sum() - 1),
    }


def _of_stars(scene: ObservedScene, result: Image) -> tuple[Image, Image, int]:
    """Relative change of flux, and of place in pixels of the observation, of stars above S/N 30."""
    factor = scene.factor
    stars = scene.stars.copy()
    for axis in ("row", "col"):
        stars[axis] = (stars[axis] + 0.5) * factor - 0.5
    bright = stars[_snr(scene) >= BRIGHT_SNR]
    radius_px = _APERTURE_PX * factor
    offsets = flux_offsets(
        result.astype(np.float32),
        scene.truth.astype(np.float32),
        bright,
        scene.fine_sigma.astype(np.float32),
        radius_px=radius_px,
    )
    moved = []
    rows, cols = result.shape
    for star in bright:
        place = np.array([star["row"], star["col"]])
        if (place < radius_px).any() or (place > np.array([rows, cols]) - 1 - radius_px).any():
            continue
        found, true = (_centroid(image, place, factor) for image in (result, scene.truth))
        moved.append(float(np.hypot(*(found - true))) / factor)
    return offsets.offset, np.array(moved), len(moved)


def _snr(scene: ObservedScene) -> Image:
    """Signal-to-noise ratio of the stars, in an aperture."""
    places = np.column_stack([scene.stars["col"], scene.stars["row"]])
    if len(places) == 0:
        return np.zeros(0)
    circles = CircularAperture(places, r=_APERTURE_PX)
    variance = circles.do_photometry(scene.sigma**2)[0]
    ratio: Image = scene.stars["flux_dn"] / np.sqrt(np.maximum(variance, 1e-9))
    return ratio


def _centroid(image: Image, place: Image, factor: int) -> Image:
    """First moments under a Gaussian window that follows them, as SExtractor's windowed ones."""
    reach = 4 * factor
    middle = np.round(place).astype(int)
    rows, cols = (np.arange(at - reach, at + reach + 1) for at in middle)
    stamp = image[np.ix_(rows, cols)]
    stamp = stamp - np.percentile(stamp, 20)
    found = place.copy()
    for _ in range(_CENTROID_ROUNDS):
        square = (rows[:, None] - found[0]) ** 2 + (cols[None, :] - found[1]) ** 2
        weight = stamp * np.exp(-0.5 * square / (_CENTROID_SIGMA_PX * factor) ** 2)
        total = max(float(weight.sum()), 1e-9)
        step = np.array(
            [
                (weight * (rows[:, None] - found[0])).sum() / total,
                (weight * (cols[None, :] - found[1])).sum() / total,
            ]
        )
        found = found + 2 * np.clip(step, -0.5, 0.5)
    return found


def _noise_of(detector: DetectorOptions, exposures: int) -> NoiseModel:
    sensor = Sensor(
        gain_e_per_dn=Sourced(detector.gain_e_per_dn, "e/DN", "simulation"),
        read_noise_e=Sourced(detector.read_noise_e, "e", "simulation"),
        pedestal_dn=Sourced(detector.pedestal_dn, "DN", "simulation"),
    )
    rung = f"known: mean of {exposures}"
    return NoiseModel(NoiseKind.POISSON_GAUSSIAN, rung, sensor=sensor)


def best_of(results: Sequence[tuple[str, Image]], scene: ObservedScene) -> tuple[str, Image]:
    """Pick the result nearest to the truth on sources."""
    on = scene.on_source

    def residual(named: tuple[str, Image]) -> float:
        return _rms(((named[1] - scene.truth) / scene.fine_sigma)[on])

    return min(results, key=residual)


def _rms(values: Image) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
