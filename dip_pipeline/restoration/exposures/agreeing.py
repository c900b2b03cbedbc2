"""How far exposures agree with the scene that was solved for from all of them.

All planes are (1, 1, rows, cols), in the light of the reference, units of its noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dip_pipeline.exposure_tallies import Tally
from dip_pipeline.restoration.exposures.rejecting import Verdict
from dip_pipeline.restoration.exposures.solving import Observation
from dip_pipeline.restoration.images.smoothing import smooth

_SCALE_PX = 1.0  # over which squares are averaged; stars are hardly narrower
_BY_CHANCE = 1.0  # of the expected square, that the mean of so few may lie above it
_LEAST_COUNT = 1.5  # exposures that tell of each other
_LEAST_WEIGHT = 1e-9  # of the largest; less is none
_MEAN_DEVIATION = (2 / torch.pi) ** 0.5  # of sigma, of a normal distribution


def compare(
    scene: Tensor,
    observations: Sequence[Observation | None],
    verdicts: Sequence[Verdict],
    factor: int,
) -> tuple[Tensor, tuple[Tally, ...]]:
    """Hold each exposure against the scene; gives an error of it, and a tally of each.

    observations : None of an exposure without a pixel to use; factor : of the scene's pixels
    The error is by what K exposures show unlike each other: seeing that is no Gaussian, shifts that
    are off, stars that vary. If one of them is off by s, their mean is by s / K, and the mean
    square of what all leave is s^2 (K - 1) / K^2: its root over K - 1.
    """
    excess, chance, weight, squared = (torch.zeros_like(scene) for _ in range(4))
    tallies = []
    for observation, verdict in zip(observations, verdicts, strict=True):
        if observation is None:
            tallies.append(_of_none(verdict))
            continue
        expected = observation.read.forward(scene)
        left = observation.pixels - expected
        tallies.append(_tally(observation, verdict, expected, left))
        back, share = observation.footprint.adjoint, observation.weight
        variance = observation.sigma**2
        excess = excess + back(share * (left**2 - variance))
        chance = chance + back(share * variance)
        weight = weight + back(share)
        squared = squared + back(share**2)
    largest = float(weight.max().clamp(min=1e-30))
    known = weight > _LEAST_WEIGHT * largest
    count = torch.where(known, weight**2 * factor**2 / squared.clamp(min=1e-30), 0.0)
    mean = smooth(weight, _SCALE_PX * factor).clamp(min=_LEAST_WEIGHT * largest)
    beyond = smooth(excess - _BY_CHANCE * chance, _SCALE_PX * factor) / mean
    error = (beyond.clamp(min=0.0) / (count - 1).clamp(min=1.0)).sqrt()
    return torch.where(count > _LEAST_COUNT, error, 0.0), tuple(tallies)


def _of_none(verdict: Verdict) -> Tally:
    """Tally of an exposure that no pixel is used of."""
    return Tally(0, _count(verdict.valid), _count(verdict.valid), 0, 0, 0.0, 0.0)


def _tally(observation: Observation, verdict: Verdict, expected: Tensor, left: Tensor) -> Tally:
    out = verdict.valid & (verdict.agrees < 1)
    shown = verdict.lit & (observation.weight > 0)
    unlike = (left.abs() - _MEAN_DEVIATION * observation.sigma)[shown].sum()
    return Tally(
        number=0,
        pixels=_count(verdict.valid),
        left_out=_count(out),
        lit=_count(verdict.lit),
        lit_left_out=_count(out & verdict.lit),
        light=round(float(expected[shown].sum()), 3),
        unlike=round(max(0.0, float(unlike)), 3),
    )


def _count(mask: Tensor) -> int:
    return int(mask.sum())
