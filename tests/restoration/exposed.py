"""Dithered exposures of a scene of Gaussian stars, with their truth, for the laws of combining."""

from dataclasses import dataclass, replace

import numpy as np

from dip_pipeline.restoration.forward.optics import Exposure, Optics
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.task import Task

SHIFTS = ((0.0, 0.0), (0.5, 0.5), (-0.375, 0.5), (-0.25, -0.875))
SKY = 200.0
SIGMA_PX = 0.9  # of the stars, in pixels of the exposures
NOISE = NoiseModel(
    NoiseKind.POISSON_GAUSSIAN,
    "given",
    sensor=Sensor(
        gain_e_per_dn=Sourced(2.0, "e/DN", "given"), read_noise_e=Sourced(6.0, "e", "given")
    ),
)


@dataclass(frozen=True)
class Sky:
    """Stars: row, col, flux in DN; drawn exactly on any grid."""

    stars: np.ndarray

    def seen(self, shape, shift=(0.0, 0.0), factor=1, blur_px=0.0):
        """Flux a pixel, without the sky, integrated over pixels of 1 / factor.

        blur_px : of seeing, sigma
        """
        from scipy.special import erf

        image = np.zeros([side * factor for side in shape])
        sigma_px = np.hypot(SIGMA_PX, blur_px)
        for row, col, flux in self.stars:
            profiles = []
            for place, by, side in zip((row, col), shift, shape, strict=True):
                edges = np.arange(side * factor + 1) / factor - 0.5 - (place - by)
                profiles.append(np.diff(erf(edges / sigma_px / np.sqrt(2))) / 2)
            image += flux * np.outer(*profiles)
        return image


def draw_sky(shape, count=25, seed=3, brightest=2e4):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-2, np.array(shape) + 2, (count, 2))
    return Sky(np.column_stack([places, 10 ** rng.uniform(2.3, np.log10(brightest), count)]))


def noisy(level, rng):
    return (level + np.sqrt(level / 2 + 9) * rng.standard_normal(level.shape)).astype(np.float32)


def exposed(shape=(48, 52), *, factor=2, noise=True, seed=0, steps=3, sky=None, scales=None):
    """A problem of four exposures, and the truth on the scene's pixels."""
    sky = sky or draw_sky(shape)
    rng = np.random.default_rng(seed)
    scales = scales or [(1.0, SKY)] * len(SHIFTS)
    nothing = np.zeros(shape, bool)
    frames = []
    for shift, (scale, level) in zip(SHIFTS, scales, strict=True):
        seen = scale * sky.seen(shape, shift) + level
        frames.append(noisy(seen, rng) if noise else seen.astype(np.float32))
    exposures = tuple(
        Exposure(
            pixels=frame,
            masked=nothing,
            saturated=nothing,
            noise=NOISE,
            shift_px=shift,
            flux_scale=scale,
            level_offset=level - scale * scales[0][1],
        )
        for frame, shift, (scale, level) in zip(frames[1:], SHIFTS[1:], scales[1:], strict=True)
    )
    problem = Problem(
        pixels=frames[0],
        masked=nothing,
        saturated=nothing,
        noise=NOISE,
        options=FitOptions(task=Task.COMBINE, steps=steps, views=1),
        seed=5,
        optics=Optics(factor, support_px=0.55 * factor * SIGMA_PX),
        exposures=exposures,
    )
    return problem, sky.seen(shape, factor=factor) + SKY / factor**2


def seen_through(sky, blurs_px, shape=(48, 52), *, shifts=SHIFTS, factor=2):
    """A problem of exposures of unlike seeing, and the truth at the seeing of the sharpest."""
    problem, _ = exposed(shape, factor=factor, sky=sky)
    rng = np.random.default_rng(0)
    for number, (shift, blur_px) in enumerate(zip(shifts, blurs_px, strict=True)):
        changes = {"pixels": noisy(sky.seen(shape, shift, blur_px=blur_px) + SKY, rng)}
        if number:
            changes |= {"shift_px": shift, "wider_px2": blur_px**2 - blurs_px[0] ** 2}
        problem = with_exposure(problem, number, **changes)
    sharp = sky.seen(shape, factor=factor, blur_px=min(blurs_px))
    return problem, sharp + SKY / factor**2


def with_exposure(problem, number, **changes):
    """The problem with one of its exposures changed; 0 is the problem's own."""
    if number == 0:
        return replace(problem, **changes)
    others = list(problem.exposures)
    others[number - 1] = replace(others[number - 1], **changes)
    return replace(problem, exposures=tuple(others))


def with_errors_told(problem):
    """The problem, drawn without noise, whose exposures have error planes of their photons."""
    told = replace(NOISE, kind=NoiseKind.GAUSSIAN, from_error_plane=True)
    for number, each in enumerate([problem, *problem.exposures]):
        sigma = np.sqrt(each.pixels / 2 + 9).astype(np.float32)
        problem = with_exposure(problem, number, noise=told, error=sigma)
    return problem
