"""Rehearsal: restore the restored image under fresh noise, where every error is known.

The parametric bootstrap (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 6)
tells how errors are distributed. It knows nothing of what the restoration lost, for its truth is
the restored image; how much larger the real errors are is measured on the frame, smoothed: noise
averages out over a few pixels, most of what a restoration gets wrong does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from dip_pipeline.restoration.delivering.delivery import Delivery
from dip_pipeline.restoration.delivering.lacking import lacking_of
from dip_pipeline.restoration.delivering.uncertainty import (
    MEASURED_SCALE_PX,
    Evidence,
    LitErrors,
    light_of,
    tabulate_by_light,
)
from dip_pipeline.restoration.images.smoothing import ring_mean, smooth
from dip_pipeline.restoration.noise import twinning
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.views.regions import Region

_DRAWS = 2
_MOST_PIXELS = 600_000


def error_table(
    deliver: Callable[[Region], Tensor],
    regions: Sequence[Region],
    deliveries: Sequence[Delivery],
    *,
    seed: int,
) -> LitErrors:
    """Measure the error of restored pixels by predictor and brightness, on some regions of a frame.

    deliver : restores a region, observation and all
    """
    evidence: list[Evidence] = []
    lights: list[np.ndarray] = []
    pixels = 0
    for number, (region, delivery) in enumerate(zip(regions, deliveries, strict=True)):
        if pixels < _MOST_PIXELS:
            evidence.append(_of_region(deliver, region, delivery, seed=seed + number))
            light = light_of(delivery.delivered, region.stars, delivery.sigma)
            lights.append(light[region.trusted > 0].cpu().numpy())
        pixels += region.observed.numel()
    return tabulate_by_light(Evidence.joined(evidence), np.concatenate(lights))


@dataclass(frozen=True, slots=True)
class _Draw:
    """One rehearsal; planes (1, 1, rows, cols) in units of sigma."""

    noise: Tensor
    error: Tensor


def _of_region(
    deliver: Callable[[Region], Tensor],
    region: Region,
    delivery: Delivery,
    *,
    seed: int,
) -> Evidence:
    draws = [
        _rehearse(deliver, region, delivery, seed=int(state))
        for state in np.random.SeedSequence([seed, 7]).generate_state(_DRAWS)
    ]

    def smoothed(plane: Tensor) -> Tensor:
        return smooth(region.trusted * plane, MEASURED_SCALE_PX)

    judged = region.trusted > 0

    def column(plane: Tensor) -> np.ndarray:
        values: np.ndarray = plane[judged].double().cpu().numpy()
        return values

    residual = smoothed((delivery.delivered - region.observed) / delivery.sigma)
    noise = sum(smoothed(draw.noise) ** 2 for draw in draws) / len(draws)
    # Not the delivery's own probe: the predictor was made with it, and where that draw happened
    # to come through, both would be large.
    passed = sum(smoothed(draw.noise) * smoothed(draw.error) for draw in draws) / len(draws)
    measured = residual**2 - noise + 2 * passed
    lacking = [
        lacking_of(region, delivery.delivered, delivery.sigma, draw.noise, draw.error)
        for draw in draws
    ]
    return Evidence(
        predictor=column(delivery.predictor),
        rehearsed=np.stack([column(draw.error.abs()) for draw in draws]),
        rehearsed_smooth=np.mean([column(smoothed(draw.error) ** 2) for draw in draws], axis=0),
        measured_smooth=column(measured),
        lacking=np.mean([column(plane) for plane in lacking], axis=0),
    )


def _drawn_noise(region: Region, delivery: Delivery, generator: Generator) -> Tensor:
    """Draw the noise of what is delivered, in sigma: of few counts, as they come."""
    if not region.noise.counted:
        return draw_noise(region.observed, generator, region.noise.root)
    expected = region.noise.counts(delivery.delivered).cpu()
    drawn = torch.poisson(expected, generator=generator) - expected
    return region.noise.slope * drawn.to(region.observed) / delivery.sigma


def _rehearse(
    deliver: Callable[[Region], Tensor], region: Region, delivery: Delivery, *, seed: int
) -> _Draw:
    generator = Generator().manual_seed(seed)
    noise = _drawn_noise(region, delivery, generator)
    observed = delivery.delivered + delivery.sigma * noise
    drawn = replace(region, observed=observed, sigma=region.noise.sigma(ring_mean(observed)))
    if region.scale.twin and region.guides is not None:
        # Its noise is in the result, too, and the same in all draws if it were left as it is.
        other = draw_noise(region.observed, generator, region.noise.root)
        seen = region.observed, delivery.delivered, region.sigma
        drawn = replace(
            drawn, guides=twinning.redrawn(region.guides, *seen, other, region.noise.root)
        )
    return _Draw(noise, (deliver(drawn) - delivery.delivered) / delivery.sigma)
