"""Few counts are split as they are: into Poisson ones, independent given the truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.rehearsal import _drawn_noise
from dip_pipeline.restoration.noise.laws import split_along
from dip_pipeline.restoration.problem import Effort, FitOptions
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.crops import Batch
from dip_pipeline.restoration.views.lessons import _SPLIT_STRENGTH, by_thinning
from dip_pipeline.restoration.views.regions import PixelNoise, measure_sky, prepare
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.noise_kernel import NoiseKernel

SLOPE, DARK, STARS = 2.0, -3.0, 1.0
CHANCE = 1 / (1 + _SPLIT_STRENGTH**2)


def counted(rate, seed=1, side=256):
    """Crops of an even rate, of which a star's light was taken off; and what is to be expected."""
    counts = torch.poisson(
        torch.full((2, 1, side, side), rate), torch.Generator().manual_seed(seed)
    )
    taken = SLOPE * STARS * torch.ones_like(counts)
    noise = PixelNoise(SLOPE * taken, SLOPE, DARK, counted=True)
    one, covariance = torch.ones_like(counts), torch.zeros(2, 33, 33)
    return Batch(DARK + SLOPE * counts - taken, one, one, one, covariance, noise), counts


@pytest.mark.parametrize("rate", [0.3, 5.0])
def test_copies_are_counts_and_independent(rate):
    batch, counts = counted(rate)
    draws = by_thinning(batch.observed, batch.noise, torch.Generator().manual_seed(2))
    assert torch.equal(
        draws, by_thinning(batch.observed, batch.noise, torch.Generator().manual_seed(2))
    )
    for draw in draws.chunk(2):
        first, second = split_along(batch.observed, draw, _SPLIT_STRENGTH)
        kept, others = (
            ((copy - DARK) / SLOPE + STARS) * share
            for copy, share in ((first, CHANCE), (second, 1 - CHANCE))
        )
        for part in (kept, others):
            torch.testing.assert_close(part, part.round(), atol=1e-3, rtol=0)
            assert float(part.min()) > -0.01
        torch.testing.assert_close(kept + others, counts, atol=1e-3, rtol=0)
        assert float(kept.mean()) == pytest.approx(CHANCE * rate, rel=0.03)
        assert float(kept.var()) == pytest.approx(CHANCE * rate, rel=0.05)
        both = torch.stack([kept.flatten(), others.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.01


def test_rehearsals_draw_few_counts_as_they_come():
    """Photons, of the stars that were taken off, too; no Gaussian is as skew."""
    batch, _ = counted(0.3)
    rate = torch.full_like(batch.observed, DARK + SLOPE * (0.3 - STARS))
    region = SimpleNamespace(noise=batch.noise, observed=rate)
    delivery = SimpleNamespace(delivered=rate, sigma=torch.full_like(rate, 1.7))
    noise = _drawn_noise(region, delivery, torch.Generator().manual_seed(3))
    counts = noise * 1.7 / SLOPE + 0.3
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    assert float(counts.mean()) == pytest.approx(0.3, rel=0.03)
    assert float(counts.var()) == pytest.approx(0.3, rel=0.05)


def law(kind=NoiseKind.POISSON, read_noise_e=None, **more):
    gain = Sourced(1.0, "e/DN", "test")
    read = None if read_noise_e is None else Sourced(read_noise_e, "e", "test")
    return NoiseModel(kind, "test", sensor=Sensor(gain_e_per_dn=gain, read_noise_e=read), **more)


@pytest.mark.parametrize(
    ("noise", "rate", "is_counted"),
    [
        (law(), 0.5, True),
        (law(), 20.0, True),
        (law(), 100.0, False),
        (law(NoiseKind.POISSON_GAUSSIAN, 0.1), 2.0, True),
        (law(NoiseKind.POISSON_GAUSSIAN, 2.0), 2.0, False),
        (law(correlation=NoiseKernel.from_neighbour(0.2, "test")), 2.0, False),
        (NoiseModel(NoiseKind.GAUSSIAN, "test", sigma=Sourced(1.0, "DN", "test")), 2.0, False),
    ],
)
def test_pixels_are_split_so_where_they_are_few_counts_and_nothing_else(
    problem, noise, rate, is_counted
):
    pixels = np.random.default_rng(1).poisson(rate, (64, 64)).astype(np.float32)
    asked = problem(pixels, noise)
    assert prepare(asked, measure_sky([asked])).noise.counted is is_counted


def test_single_photons_of_an_even_sky_do_not_stay(problem):
    """They did where Gaussian draws split them: 0.35 of the noise after so few steps, then 0.7."""
    pixels = np.random.default_rng(4).poisson(0.3, (64, 64)).astype(np.float32)
    options = FitOptions(steps=20, flux_scale_px=0.0, effort=Effort.FAST)
    restored = restore(problem(pixels, law(), options=options))
    assert np.sqrt(((restored.science - 0.3) ** 2).mean() / 0.3) < 0.2
