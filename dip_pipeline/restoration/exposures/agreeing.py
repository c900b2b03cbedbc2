"""How far exposures agree with the scene that was solved for from all of them.

All planes are (1, 1, rows, cols), in the light of the reference, units of its noise.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.exposure_tallies import Tally
from dip_pipeline.restoration.exposures.rejecting import Verdict
from dip_pipeline.restoration.exposures.solving import Observation
from dip_pipeline.restoration.images.smoothing import smooth

_SCALE_PX = 1.0  # over which squares are averaged; stars are hardly narrower
_BY_CHANCE = 1.0  # of the expected square, that the mean of so few may lie above it
_LEAST_COUNT = 1.5  # exposures that tell of each other
_LEAST_WEIGHT = 1e-9  # of the largest; less is none
_WINDOW_PX = 3  # around a pixel, in which a star's light changes by one share
_ALIKE = 0.25  # of its own change, that those around show of a star that varies
_SHOWN = 2.5  # of a dark pixel's noise, that the scene has of a star
_FEWEST_LIT = 6  # pixels of it that tell of that
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
    square of what all leave is s^2 (K - 1) / K^2: its root over K - 1. Of a star that varies pixels
    are left out as if they were hit: what their mean with all others would have more is added.
    """
    excess, chance, weight, squared, unused, left_out = (torch.zeros_like(scene) for _ in range(6))
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
        if observation.missing is not None:
            lit = expected * (observation.weight + observation.missing).sqrt() > _SHOWN
            of_star = observation.missing * _star_left_out(verdict, lit, expected, left)
            unused = unused + back(observation.missing * (of_star != 0))
            left_out = left_out + back(of_star)
    largest = float(weight.max().clamp(min=1e-30))
    known = weight > _LEAST_WEIGHT * largest
    count = torch.where(known, weight**2 * factor**2 / squared.clamp(min=1e-30), 0.0)
    mean = smooth(weight, _SCALE_PX * factor).clamp(min=_LEAST_WEIGHT * largest)
    beyond = smooth(excess - _BY_CHANCE * chance, _SCALE_PX * factor) / mean
    error = (beyond.clamp(min=0.0) / (count - 1).clamp(min=1.0)).sqrt()
    error = torch.where(count > _LEAST_COUNT, error, 0.0)
    return torch.hypot(error, _varying(left_out, unused, weight, largest)), tuple(tallies)


def _varying(left_out: Tensor, unused: Tensor, weight: Tensor, largest: float) -> Tensor:
    """By how much a mean with all that was left out of stars would differ."""
    return left_out.abs() / (weight + unused).clamp(min=_LEAST_WEIGHT * largest)


def _star_left_out(verdict: Verdict, lit: Tensor, expected: Tensor, left: Tensor) -> Tensor:
    """Light that pixels which were left out of a star have beyond the scene's, if it varies.

    lit : True where the scene has light
    The middle of the share by which the lit pixels around are brighter, or fainter, times what the
    scene has: cosmic rays hit few of them.
    """
    lit = lit & verdict.valid
    out = lit & (verdict.agrees < 1)
    found = torch.zeros_like(left)
    places = out.flatten().nonzero()[:, 0]
    if not len(places):
        return found
    reach = _WINDOW_PX // 2
    shares = nnf.pad(torch.where(lit, left / expected, torch.nan), 4 * (reach,), value=torch.nan)
    around = nnf.unfold(shares, _WINDOW_PX)[0][:, places]
    told = torch.isfinite(around).sum(dim=0) >= _FEWEST_LIT
    share = torch.where(told, around.nanmedian(dim=0).values, 0.0)
    own, light = left.flatten()[places], expected.flatten()[places]
    # Around the core of a star, where little was left out, the scene has half of the change.
    alike = share * light / own > _ALIKE
    found.view(-1)[places] = torch.where(alike, own, share * light)
    return found


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
