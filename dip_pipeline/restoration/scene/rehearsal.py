"""Rehearsal of a scene: observe the restored one anew, restore it, and see how wrong that is.

See `rehearsal`. How much larger the real errors are than the rehearsed ones is measured in the
observation, which shows only part of a scene: of the rest nothing can be measured.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from dip_pipeline.restoration.delivering.lacking import lacking_of
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.delivering.uncertainty import (
    MEASURED_SCALE_PX,
    Evidence,
    LitErrors,
    tabulate_by_light,
)
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.scene.delivery import SceneNetworks, observed_anew
from dip_pipeline.restoration.views.regions import Region

_DRAWS = 2


def scene_error_table(
    applied: Sequence[SceneNetworks],
    regions: Sequence[Region],
    restraint: Restraint,
    *,
    seed: int,
) -> LitErrors:
    """Measure the error of a scene's pixels by predictor and brightness, from some regions."""
    found = [
        _of_region(networks, region, restraint, seed=seed + number)
        for number, (networks, region) in enumerate(zip(applied, regions, strict=True))
    ]
    light = np.concatenate([light for _, light in found])
    return tabulate_by_light(Evidence.joined([evidence for evidence, _ in found]), light)


def _of_region(
    networks: SceneNetworks, region: Region, restraint: Restraint, *, seed: int
) -> tuple[Evidence, np.ndarray]:
    optics = scene_optics(networks.optics)
    delivery = networks.deliver(region, restraint, seed=seed)
    judged = optics.repeat(region.trusted) > 0

    def smoothed(plane: Tensor) -> Tensor:
        return smooth(region.trusted * plane, MEASURED_SCALE_PX)

    def column(plane: Tensor) -> np.ndarray:
        values: np.ndarray = plane[judged].double().cpu().numpy()
        return values

    rehearsed, powers, noises, passed, lacking = [], [], [], [], []
    for state in np.random.SeedSequence([seed, 7]).generate_state(_DRAWS):
        generator = Generator().manual_seed(int(state))
        noise = draw_noise(region.observed, generator, region.noise.root)
        drawn = observed_anew(region, delivery, noise)
        scene, _ = networks.restored(drawn.observed, drawn, restraint)
        rehearsed.append(column(((scene - delivery.scene) / delivery.fine_sigma).abs()))
        shown = (optics.observe(scene) - delivery.seen) / delivery.sigma
        lacking.append(lacking_of(region, delivery.seen, delivery.sigma, noise, shown))
        error = smoothed(shown)
        powers.append(error**2)
        noises.append(smoothed(noise) ** 2)
        passed.append(smoothed(noise) * error)
    residual = smoothed((delivery.seen - region.observed) / delivery.sigma)
    measured = residual**2 - _mean(noises) + 2 * _mean(passed)
    evidence = Evidence(
        predictor=column(delivery.predictor),
        rehearsed=np.stack(rehearsed),
        rehearsed_smooth=column(optics.repeat(_mean(powers))),
        measured_smooth=column(optics.repeat(measured)),
        lacking=column(optics.repeat(_mean(lacking))),
    )
    return evidence, column(delivery.light)


def _mean(planes: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(planes)).mean(dim=0)
