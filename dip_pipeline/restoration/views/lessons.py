"""Lessons for a network: what it sees of crops, and what it is to say of them.

A lesson does not depend on the network, so many can be laid out at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from dip_pipeline.restoration.images.filling import fill
from dip_pipeline.restoration.noise.laws import split_along
from dip_pipeline.restoration.views.crops import Batch
from dip_pipeline.restoration.views.features import View, estimate, view
from dip_pipeline.restoration.views.regions import PixelNoise

_SPLIT_STRENGTH = 0.5  # a of y1 = y + a n, y2 = y - n / a
_HUBER_SIGMA = 8.0
_CONTRAST_SIGMA = 30.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """Crops as a network sees them, and the other copy of them; planes (batch, 1, rows, cols).

    sigma : what the difference is measured in; weight : of each pixel
    """

    seen: View
    target: Tensor
    sigma: Tensor
    weight: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> "Lesson":
        """Change all planes alike."""
        planes = (change(plane) for plane in (self.target, self.sigma, self.weight))
        return Lesson(self.seen.each(change), *planes)

    def keep(self, other: "Lesson") -> None:
        """Take the planes of another one of the same shapes into the memory of this one."""
        for mine, its in zip(self._planes, other._planes, strict=True):
            mine.copy_(its)

    @property
    def _planes(self) -> list[Tensor]:
        seen = self.seen
        planes = [seen.features, seen.copies, seen.sigma, self.target, self.sigma, self.weight]
        return planes if seen.guided is None else [*planes, seen.guided]


def both_ways(noise: Tensor) -> Tensor:
    """Give a draw of the noise of crops and its negative, for `lay_lesson`.

    The part of the target's noise that is the same for both cancels in the gradient, which is left
    with what the network does to the draw.
    """
    return torch.cat([noise, -noise])


def by_thinning(observed: Tensor, noise: PixelNoise, generator: Generator) -> Tensor:
    """Draw twice, for `lay_lesson`, what splits crops of few counts into independent copies.

    Of y counts T are drawn, each with the chance p = 1 / (1 + a^2). T / p and (y - T) / (1 - p) are
    independent given the truth, and Poisson; they are y + a n and y - n / a of n = (T / p - y) / a.
    """
    chance = 1 / (1 + _SPLIT_STRENGTH**2)
    counts = noise.counts(observed).round().cpu()
    chances = torch.full_like(counts, chance)
    draws = [
        (torch.binomial(counts, chances, generator=generator) / chance - counts) / _SPLIT_STRENGTH
        for _ in range(2)
    ]
    return torch.cat([noise.slope * draw.to(observed) for draw in draws])


def lay_lesson(batch: Batch, both: Tensor) -> Lesson:
    """Split crops into two copies, along two draws of their noise.

    both : draws, in units of the image, (2 * batch, 1, rows, cols); see `both_ways`, `by_thinning`
    """
    observed, sigma, known, weight = (
        plane.repeat(2, 1, 1, 1)
        for plane in (batch.observed, batch.sigma, batch.known, batch.weight)
    )
    first, target = split_along(observed, both, _SPLIT_STRENGTH)
    filled = fill(first, batch.known, batch.covariance)
    guides = None if batch.guides is None else batch.guides.repeat(2, 1, 1, 1)
    covariance = batch.covariance.repeat(2, 1, 1)
    seen = view(filled, batch.noise.repeated(2), known, covariance, None, guides)
    return Lesson(seen, target, sigma, weight * _share_of_contrast(seen))


def losses_of(answer: Tensor, lesson: Lesson) -> Tensor:
    """Huber loss of an answer at each pixel, in units of sigma, times the pixel's weight."""
    residual = (estimate(answer, lesson.seen) - lesson.target) / lesson.sigma
    each = nnf.huber_loss(
        residual, torch.zeros_like(residual), delta=_HUBER_SIGMA, reduction="none"
    )
    return each * lesson.weight


def _share_of_contrast(seen: View) -> Tensor:
    """Weight that fades where a pixel stands far above its surroundings, in sigma.

    In the cores of bright stars a small change of a weight moves the image by many sigma: they
    would rule the gradient, and restraint keeps their own pixels in the end.
    """
    contrast = (seen.copies[:, :1] - seen.copies[:, -1:]) / (_CONTRAST_SIGMA * seen.sigma)
    return 1 / (1 + contrast**2)
