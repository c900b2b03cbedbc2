from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, InputKind, Problem, Restored
from dip_pipeline.restoration.restore import restore
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.simulate import DetectorOptions, SceneOptions, Simulation, simulate

QUICK = FitOptions(steps=2, effort=Effort.FAST)  # two networks for a frame, not four
KERNEL = NoiseKernel.from_neighbour(0.4, "test")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def gaussian(sigma: float) -> NoiseModel:
    return NoiseModel(NoiseKind.GAUSSIAN, "test", sigma=Sourced(sigma, "DN", "test"))


def sensor_noise(
    gain=2.0, read_noise=6.0, pedestal=0.0, sky=0.0, combined=1.0, quantum=None
) -> NoiseModel:
    sensor = Sensor(
        gain_e_per_dn=Sourced(gain, "e/DN", "test"),
        read_noise_e=Sourced(read_noise, "e", "test"),
        pedestal_dn=Sourced(pedestal, "DN", "test"),
        subtracted_sky_dn=Sourced(sky, "DN", "test"),
        n_combined=Sourced(combined, "", "test"),
    )
    step = None if quantum is None else Sourced(quantum, "DN", "test")
    return NoiseModel(NoiseKind.POISSON_GAUSSIAN, "test", sensor=sensor, quantum=step)


def counts(gain=1.0, **more) -> NoiseModel:
    return replace(sensor_noise(gain=gain, **more), kind=NoiseKind.POISSON)


def correlated(noise: NoiseModel) -> NoiseModel:
    return replace(noise, correlation=KERNEL)


def make_problem(pixels, noise, *, options=None, masked=None, saturated=None, **more) -> Problem:
    nothing = np.zeros(np.shape(pixels), dtype=bool)
    return Problem(
        pixels=np.asarray(pixels, dtype=np.float32),
        masked=nothing if masked is None else masked,
        saturated=nothing if saturated is None else saturated,
        noise=noise,
        options=options or QUICK,
        seed=more.pop("seed", 5),
        **more,
    )


@pytest.fixture(scope="session")
def law():
    """Noise models by name of their law."""

    class Laws:
        none = NoiseModel(NoiseKind.NONE, "test")
        error_plane = NoiseModel(NoiseKind.GAUSSIAN, "test", from_error_plane=True)
        gaussian = staticmethod(gaussian)
        sensor = staticmethod(sensor_noise)
        counts = staticmethod(counts)
        kernel = KERNEL
        correlated = staticmethod(correlated)

    return Laws


@pytest.fixture(scope="session")
def problem():
    """A problem from its pixels and noise; nothing masked, QUICK, unless said otherwise."""
    return make_problem


@dataclass(frozen=True)
class Field:
    """A simulated field, its problem, the prior fitted to it and what that made of it."""

    simulation: Simulation
    problem: Problem
    prior: Prior
    restored: Restored
    true_risk: float


def solve(simulation: Simulation, noise: NoiseModel, options: FitOptions) -> Field:
    asked = make_problem(
        simulation.observed_dn,
        noise,
        options=options,
        masked=simulation.masked & ~simulation.saturated,
        saturated=simulation.saturated,
    )
    prior = fit_prior([asked], asked.pixels.shape, seed=asked.seed)
    restored = restore(asked, prior)
    wrong = (restored.science - simulation.truth_dn) / simulation.sigma_true_dn
    judged = ~simulation.masked & ~simulation.saturated
    return Field(simulation, asked, prior, restored, float(np.mean(wrong[judged] ** 2)))


@pytest.fixture(scope="session")
def crowded() -> Field:
    """A crowded field of 192 x 192 pixels with defects, after a short fit."""
    detector = DetectorOptions(gain_e_per_dn=2.0, read_noise_e=6.0)
    simulation = simulate(SceneOptions("crowded", shape=(192, 192), seed=1), detector)
    return solve(simulation, sensor_noise(), FitOptions(steps=40, effort=Effort.FAST))


@pytest.fixture(scope="session")
def crowded_code() -> Field:
    """A crowded field of 96 x 96 pixels, drawn from a code."""
    detector = DetectorOptions(defects=False)
    scene = SceneOptions("crowded", shape=(80, 80), seed=2, saturated_star=False)
    options = FitOptions(input=InputKind.CODE, steps=75)
    return solve(simulate(scene, detector), sensor_noise(), options)
