"""Fit of a network that answers with a scene: data consistency, and rehearsal.

One observation says nothing of what no observation shows. Two things stand in for it. The scene's
laws do not change when it is moved, turned or seen from farther away, so the network's own
scene, moved, observed again and restored, must come out as it was (equivariant imaging; Chen,
Tachella and Davies 2021, ICCV 4379; for scale Scanvic et al. 2023, arXiv 2312.11232). And stars are
points seen through a known PSF, so any number of them can be drawn into the rehearsed scenes.
"""

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.fits.fit_image import descend, one_cycle, quick_answer
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import SceneOptics, scene_optics
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.scene.features import channels_of, scene_estimate, scene_view
from dip_pipeline.restoration.scene.stars import StarStamps
from dip_pipeline.restoration.views.crops import Batch, CropSource, turn
from dip_pipeline.restoration.views.regions import PixelNoise

_SPLIT_STRENGTH = 0.5  # a of y1 = y + a n, y2 = y - n / a
_CROPS = 2  # a step, each seen with n and with -n
_REHEARSED = 2  # rehearsals of each crop
_HUBER_SIGMA = 8.0
_HUBER_FINE = 4.0
_FARTHEST = 1.6  # a rehearsed scene is seen from up to so many times as far
_TRIES = 3
_JUDGED_CROPS = 8
_PROBE = 0.1
_RISK_OF_A_GOOD_FIT = 1.5
_RISK_OF_A_WRECK = 10.0
_CLAMP = 50.0


class SceneFit:
    """What the fit of one network holds on to: optics at all orientations, stars, draws."""

    def __init__(self, optics: Optics, stars: StarStamps | None, *, seed: int) -> None:
        self.optics = optics
        self.stars = stars
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
        self.generator = Generator().manual_seed(seed)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss of one batch, turned at random as a whole."""
        quarter, flip = int(self.rng.integers(4)), bool(self.rng.integers(2))
        optics = scene_optics(self.optics, quarter, flip=flip)
        turned = _turned(batch, quarter, flip=flip)
        consistency, scene = self._consistency(network, turned, optics)
        stars = None if self.stars is None else self.stars.turned(quarter, flip=flip)
        return consistency + self._rehearsal(network, turned, scene, optics, stars)

    def _consistency(
        self, network: nn.Module, batch: Batch, optics: SceneOptics
    ) -> tuple[Tensor, Tensor]:
        """Loss of the observed scene against the other copy, and the scene itself, detached."""
        draw = draw_noise(batch.observed, self.generator, batch.noise.root) * batch.sigma
        noise = torch.cat([draw, -draw])
        observed, sigma, known, weight = (
            plane.repeat(2, 1, 1, 1)
            for plane in (batch.observed, batch.sigma, batch.known, batch.weight)
        )
        seen = scene_view(
            observed + _SPLIT_STRENGTH * noise,
            batch.noise.repeated(2),
            known,
            batch.covariance.repeat(2, 1, 1),
            optics,
        )
        scene = scene_estimate(quick_answer(network, seen.features), seen, optics)
        target = observed - noise / _SPLIT_STRENGTH
        residual = (optics.observe(scene) - target) / sigma
        loss = _huber(residual, weight * _inside(weight, optics.margin_px), _HUBER_SIGMA)
        return loss, scene.detach().reshape(2, len(draw), *scene.shape[1:]).mean(dim=0)

    def _rehearsal(
        self,
        network: nn.Module,
        batch: Batch,
        scene: Tensor,
        optics: SceneOptics,
        stars: StarStamps | None,
    ) -> Tensor:
        """Loss of known scenes, observed and restored, in units of the fine pixels' noise."""
        scenes = torch.cat([self._moved(scene, optics.factor) for _ in range(_REHEARSED)])
        if stars is not None:
            scenes = scenes + stars.draw(scenes, self.rng)
        floor, known = (
            plane.repeat(_REHEARSED, 1, 1, 1) for plane in (batch.noise.floor, batch.known)
        )
        repeated = batch.noise.repeated(_REHEARSED)
        noise = PixelNoise(floor, repeated.slope, repeated.dark_level, repeated.root)
        level = optics.observe(scenes)
        sigma = noise.sigma(level)
        observed = level + sigma * draw_noise(level, self.generator, noise.root)
        covariance = batch.covariance.repeat(_REHEARSED, 1, 1)
        seen = scene_view(observed, noise, known, covariance, optics)
        restored = scene_estimate(quick_answer(network, seen.features), seen, optics)
        error = (restored - scenes) / (optics.factor * optics.repeat(sigma))
        counted = optics.repeat(_inside(sigma, optics.margin_px))
        return _huber(error, counted, _HUBER_FINE)

    def _moved(self, scene: Tensor, factor: int) -> Tensor:
        """Move scenes by fine pixels, turn them, and look at some of them from farther away."""
        steps = [int(step) for step in self.rng.integers(0, max(2, factor), size=2)]
        moved = torch.roll(scene, steps, dims=(-2, -1))
        moved = turn(moved, int(self.rng.integers(4)), flip=bool(self.rng.integers(2)))
        if self.rng.random() < 0.5:
            return moved
        return _farther(moved, float(self.rng.uniform(1.0, _FARTHEST)))


def fit_scene_network(
    fit_on: CropSource,
    judge_on: CropSource,
    options: FitOptions,
    held: tuple[Optics, StarStamps | None],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Fitted:
    """Fit a network on crops of one half of the frame, judged on the other.

    A fit worse than the frame itself is tried again with a derived seed and half the rate.
    """
    best = None
    for attempt in range(_TRIES):
        derived = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
        fit = SceneFit(*held, seed=derived)
        network, steps = _fit_once(fit_on, options, fit, 2**attempt, derived, on_step)
        risk = _judged(network, judge_on, fit)
        reason = StopReason.STEP_LIMIT if risk < _RISK_OF_A_WRECK else StopReason.DIVERGED
        if best is None or math.isnan(best.risk) or risk < best.risk:
            best = Fitted(network, steps, reason, risk)
        if best.risk < _RISK_OF_A_GOOD_FIT:
            break
    assert best is not None
    return best


def _fit_once(
    fit_on: CropSource,
    options: FitOptions,
    fit: SceneFit,
    slowing: float,
    seed: int,
    on_step: StepHook,
) -> tuple[nn.Module, int]:
    channels = channels_of(scene_optics(fit.optics))
    network = build_network(options.network_kind, *channels, seed=seed).to(fit_on.device)
    steps = options.step_limit
    optimisers, schedules = one_cycle(network, steps, slowing)
    for step in range(1, steps + 1):
        loss = fit.loss(network, fit_on.draw(_CROPS))
        descend(network, loss, optimisers, schedules)
        on_step(step, steps, loss)
    return network, steps


def _judged(network: nn.Module, judge_on: CropSource, fit: SceneFit) -> float:
    """Stein's estimate of the risk of the observed scene, on crops that were not fitted on."""
    if judge_on.empty:
        return 0.0
    batch = judge_on.draw(_JUDGED_CROPS)
    optics = scene_optics(fit.optics)
    probe = draw_noise(batch.sigma, fit.generator, batch.noise.root)
    network.eval()
    with torch.no_grad():
        plain, moved = (
            optics.observe(scene_estimate(network(seen.features), seen, optics))
            for seen in (
                scene_view(observed, batch.noise, batch.known, batch.covariance, optics)
                for observed in (batch.observed, batch.observed + _PROBE * batch.sigma * probe)
            )
        )
    slope = (moved - plain) / (_PROBE * batch.sigma)
    each = ((plain - batch.observed) / batch.sigma) ** 2 - 1 + 2 * probe * slope
    shown = batch.known * (batch.weight > 0) * _inside(batch.known, optics.margin_px)
    return float((each.clamp(-_CLAMP, _CLAMP) * shown).sum() / shown.sum().clamp(min=1.0))


def _turned(batch: Batch, quarter_turns: int, *, flip: bool) -> Batch:
    """Turn all planes of a batch, and the kernel of its noise."""

    def turned(plane: Tensor) -> Tensor:
        return turn(plane, quarter_turns, flip=flip).contiguous()

    noise = batch.noise
    root = None if noise.root is None else turned(noise.root)
    law = PixelNoise(turned(noise.floor), noise.slope, noise.dark_level, root)
    return Batch(
        observed=turned(batch.observed),
        sigma=turned(batch.sigma),
        known=turned(batch.known),
        weight=turned(batch.weight),
        covariance=batch.covariance,
        noise=law,
    )


def _inside(like: Tensor, margin_px: int) -> Tensor:
    """1 but for a margin, where what lies outside a crop would have to be known."""
    margin_px = min(margin_px, min(like.shape[-2:]) // 4)
    inside = torch.zeros_like(like)
    inside[..., margin_px : like.shape[-2] - margin_px, margin_px : like.shape[-1] - margin_px] = 1
    return inside


def _farther(scenes: Tensor, ratio: float) -> Tensor:
    """See scenes from so many times as far, mirrored where they end."""
    theta = torch.eye(2, 3, device=scenes.device)[None].repeat(len(scenes), 1, 1) * ratio
    grid = nnf.affine_grid(theta, list(scenes.shape), align_corners=False)
    return nnf.grid_sample(
        scenes, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )


def _huber(residual: Tensor, weight: Tensor, delta: float) -> Tensor:
    each = nnf.huber_loss(residual, torch.zeros_like(residual), delta=delta, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1.0)
