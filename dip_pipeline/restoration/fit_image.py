"""Fit of an image-input network: predict one copy of the observation from the other."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.crops import Batch, CropSource
from dip_pipeline.restoration.features import (
    ANSWER_CHANNELS,
    FEATURE_CHANNELS,
    View,
    estimate,
    view,
)
from dip_pipeline.restoration.networks import build_network
from dip_pipeline.restoration.noise import split_observation
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.regions import PixelNoise
from dip_pipeline.restoration.stopping import JudgedRisk, StepHook, StoppingRule, ignore_step

_SPLIT_STRENGTH = 0.5  # a of y1 = y + a n, y2 = y - n / a
_PAIRS = 4  # crops a step, each seen with n and with -n
_LEARNING_RATE = 3e-3
_GRADIENT_NORM = 0.3
_HUBER_SIGMA = 8.0
_CONTRAST_SIGMA = 30.0
_LOOKS = 8  # at the judged risk, spread over the second half of the steps
_JUDGED_CROPS = 24
_TOLERANCE = 0.1
_PROBE = 0.1  # step of the divergence's finite difference, in sigma
_TRIES = 3
_RISK_OF_A_GOOD_FIT = 1.5  # leaving the frame as it is has a risk of 1
_RISK_OF_A_WRECK = 10.0  # each pixel counts 50 at most, so a fifth of them are spoilt


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, how long it took, why it ended, and its judged risk."""

    network: nn.Module
    steps: int
    stop_reason: StopReason
    risk: float


def fit_image_network(
    fit_on: CropSource,
    judge_on: CropSource,
    options: FitOptions,
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Fitted:
    """Fit a network on crops of one half of the frame, judged on the other.

    A fit worse than the frame itself is tried again with a derived seed and half the learning
    rate; the best try counts.
    """
    best = None
    for attempt in range(_TRIES):
        derived = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
        rate = _LEARNING_RATE / 2**attempt
        fitted = _fit_once(fit_on, judge_on, options, seed=derived, rate=rate, on_step=on_step)
        if best is None or math.isnan(best.risk) or fitted.risk < best.risk:
            best = fitted
        if best.risk < _RISK_OF_A_GOOD_FIT:
            break
    assert best is not None
    return best


def _fit_once(
    fit_on: CropSource,
    judge_on: CropSource,
    options: FitOptions,
    *,
    seed: int,
    rate: float,
    on_step: StepHook,
) -> Fitted:
    kind = options.network_kind
    network = build_network(kind, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=seed).to(fit_on.device)
    generator = Generator().manual_seed(seed)
    steps = options.step_limit
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    jury = _Jury(judge_on, generator)
    rule = JudgedRisk(patience=_LOOKS, tolerance=_TOLERANCE)
    looks = {steps - round(i * steps / 2 / _LOOKS) for i in range(_LOOKS)}
    best: dict[str, Tensor] = {}
    reason = None
    step = 0
    for step in range(1, steps + 1):
        loss = _pair_loss(network, fit_on.draw(_PAIRS), generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        on_step(step, steps, loss)
        if step in looks:
            reason, best = _look(network, jury, rule, step, best)
            if reason is not None:
                break
    if best:
        network.load_state_dict(best)
    risk = jury.risk(network)
    if not risk < _RISK_OF_A_WRECK:
        reason = StopReason.DIVERGED
    return Fitted(network, step, reason or _ending(rule, step), risk)


def _look(
    network: nn.Module, jury: "_Jury", rule: StoppingRule, step: int, best: dict[str, Tensor]
) -> tuple[StopReason | None, dict[str, Tensor]]:
    """Judge the network once; keep a copy of its weights if they are the best so far."""
    reason = rule.update(step, jury.risk(network))
    if rule.best_step == step:
        best = copy.deepcopy(network.state_dict())
    return reason, best


def _ending(rule: StoppingRule, step: int) -> StopReason:
    return StopReason.STEP_LIMIT if rule.best_step == step else StopReason.JUDGED_RISK


def _pair_loss(network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
    """Huber loss between the estimate from one copy and the other copy, in units of sigma.

    Each crop comes with n and with -n: the part of the target's noise that is the same for both
    cancels in the gradient, which is left with what the network does to n.
    """
    noise_free = torch.zeros_like(batch.observed)
    draw, _ = split_observation(noise_free, batch.sigma, 1.0, generator)
    noise = torch.cat([draw, -draw])
    twice = [
        plane.repeat(2, 1, 1, 1)
        for plane in (batch.observed, batch.sigma, batch.known, batch.weight, batch.noise.floor)
    ]
    observed, sigma, known, weight, floor = twice
    law = PixelNoise(floor, batch.noise.slope, batch.noise.dark_level)
    seen = view(observed + _SPLIT_STRENGTH * noise, law, known)
    target = observed - noise / _SPLIT_STRENGTH
    residual = (estimate(network(seen.features), seen) - target) / sigma
    each = nnf.huber_loss(
        residual, torch.zeros_like(residual), delta=_HUBER_SIGMA, reduction="none"
    )
    weight = weight * _share_of_contrast(seen)
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def _share_of_contrast(seen: View) -> Tensor:
    """Weight that fades where a pixel stands far above its surroundings, in sigma.

    In the cores of bright stars a small change of a weight moves the image by many sigma: they
    would rule the gradient, and restraint keeps their own pixels in the end.
    """
    contrast = (seen.copies[:, :1] - seen.copies[:, -1:]) / (_CONTRAST_SIGMA * seen.sigma)
    return 1 / (1 + contrast**2)


class _Jury:
    """Estimates the risk on crops that the network was not fitted on; the draw never changes.

    Stein's unbiased estimate, |f(y) - y|^2 - 1 + 2 div f in units of sigma, with the divergence
    from one probe; Ramani et al. 2008, IEEE Trans. Image Process. 17(9), 1540.
    """

    def __init__(self, judge_on: CropSource, generator: Generator) -> None:
        self.batch = None if judge_on.empty else judge_on.draw(_JUDGED_CROPS)
        if self.batch is not None:
            zeros = torch.zeros_like(self.batch.sigma)
            self.probe, _ = split_observation(zeros, zeros + 1.0, 1.0, generator)

    def risk(self, network: nn.Module) -> float:
        """Estimated mean squared error over sigma squared; 0 where there is nothing to judge."""
        if self.batch is None:
            return 0.0
        batch = self.batch
        network.eval()
        with torch.no_grad():
            plain = _apply(network, batch.observed, batch)
            moved = _apply(network, batch.observed + _PROBE * batch.sigma * self.probe, batch)
        network.train()
        slope = (moved - plain) / (_PROBE * batch.sigma)
        each = ((plain - batch.observed) / batch.sigma) ** 2 - 1 + 2 * self.probe * slope
        shown = batch.known * (batch.weight > 0)
        # A few cores that the sigma does not describe must not decide when to stop.
        return float((each.clamp(-50, 50) * shown).sum() / shown.sum().clamp(min=1.0))


def _apply(network: nn.Module, observed: Tensor, batch: Batch) -> Tensor:
    seen = view(observed, batch.noise, batch.known)
    return estimate(network(seen.features), seen)
