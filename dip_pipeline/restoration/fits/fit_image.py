"""Fit of an image-input network: predict one copy of the observation from the other."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stopping import JudgedRisk, StepHook, StoppingRule, ignore_step
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.networks.muon import Muon
from dip_pipeline.restoration.networks.optimisers import Adam
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.views.crops import Batch, CropSource
from dip_pipeline.restoration.views.features import (
    answer_channels,
    estimate,
    feature_channels,
    view,
)
from dip_pipeline.restoration.views.lessons import both_ways, by_thinning, lay_lesson, losses_of

_PAIRS = 2  # crops a step, each seen with n and with -n
_LEARNING_RATE = 3e-3  # of what is no convolution kernel, and of the last layer
_MUON_RATE = 0.015
_MUON_MOMENTUM = 0.9
_WARMING = 0.15  # share of the steps in which the rates rise
_GRADIENT_NORM = 0.3
_LOOKS = 6  # at the judged risk, spread over the second half of the steps
_JUDGED_CROPS = 16
_TOLERANCE = 0.1
_PROBE = 0.1  # step of the divergence's finite difference, in sigma
_TRIES = 3
_RISK_OF_A_GOOD_FIT = 1.5  # leaving the frame as it is has a risk of 1
_RISK_OF_A_WRECK = 10.0  # each pixel counts 50 at most, so a fifth of them are spoilt


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
        fitted = _fit_once(
            fit_on, judge_on, options, seed=derived, slowing=2**attempt, on_step=on_step
        )
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
    slowing: float,
    on_step: StepHook,
) -> Fitted:
    kind = options.network_kind
    channels = feature_channels(fit_on.guide_planes), answer_channels(fit_on.guide_planes)
    network = build_network(kind, *channels, seed=seed).to(fit_on.device)
    generator = Generator().manual_seed(seed)
    steps = options.step_limit
    optimisers, schedules = one_cycle(network, steps, slowing)
    jury = _Jury(judge_on, generator)
    rule = JudgedRisk(patience=_LOOKS, tolerance=_TOLERANCE)
    looks = {steps - round(i * steps / 2 / _LOOKS) for i in range(_LOOKS)}
    best: Look | None = None
    reason = None
    step = 0
    for step in range(1, steps + 1):
        loss = _pair_loss(network, fit_on.draw(_PAIRS, misled=True), generator)
        descend(network, loss, optimisers, schedules)
        on_step(step, steps, loss)
        if step in looks:
            reason, best = _look(network, jury, rule, step, best)
            if reason is not None:
                break
    risk = judged_best(network, jury, best)
    if not risk < _RISK_OF_A_WRECK:
        reason = StopReason.DIVERGED
    return Fitted(network, step, reason or _ending(rule, step), risk)


class Look(NamedTuple):
    """A network as it was at a step, and its judged risk there."""

    step: int
    weights: Mapping[str, Tensor]
    risk: float


def _look(
    network: nn.Module, jury: "_Jury", rule: StoppingRule, step: int, best: Look | None
) -> tuple[StopReason | None, Look | None]:
    """Judge the network once; keep a copy of its weights if they are the best so far."""
    risk = jury.risk(network)
    reason = rule.update(step, risk)
    if rule.best_step == step:
        best = Look(step, copy.deepcopy(network.state_dict()), risk)
    return reason, best


def judged_best(network: nn.Module, jury: "_Jury", best: Look | None) -> float:
    """Give the network its best weights, and tell their risk: it was judged when they were kept."""
    if best is None:
        return jury.risk(network)
    network.load_state_dict(best.weights)
    return best.risk


def _ending(rule: StoppingRule, step: int) -> StopReason:
    return StopReason.STEP_LIMIT if rule.best_step == step else StopReason.JUDGED_RISK


def one_cycle(
    network: nn.Module, steps: int, slowing: float
) -> tuple[list[torch.optim.Optimizer], list[OneCycleLR]]:
    """Muon for the kernels of all layers but the last, Adam for the rest; one cycle each."""
    hidden = [
        (name, weight)
        for name, weight in network.named_parameters()
        if weight.dim() == 4 and not name.startswith("last.")
    ]
    names = {name for name, _ in hidden}
    rest = [weight for name, weight in network.named_parameters() if name not in names]
    optimisers: list[torch.optim.Optimizer] = [
        Muon((w for _, w in hidden), _MUON_RATE / slowing, momentum=_MUON_MOMENTUM),
        Adam(rest, _LEARNING_RATE / slowing, betas=(0.9, 0.99)),
    ]
    schedules = [
        OneCycleLR(
            one, one.defaults["lr"], total_steps=steps + 1, pct_start=_WARMING, cycle_momentum=False
        )
        for one in optimisers
    ]
    return optimisers, schedules


def descend(
    network: nn.Module,
    loss: Tensor,
    optimisers: Sequence[torch.optim.Optimizer],
    schedules: Sequence[OneCycleLR],
) -> None:
    """Take one step down a loss; the gradient is cut to a norm."""
    network.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
    for optimiser in optimisers:
        optimiser.step()
    for schedule in schedules:
        schedule.step()


def _pair_loss(network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
    """Huber loss between the estimate from one copy and the other copy, in units of sigma."""
    if batch.noise.counted:
        noise = by_thinning(batch.observed, batch.noise, generator)
    else:
        white = draw_noise(batch.observed, generator, batch.noise.root)
        noise = both_ways(batch.sigma * white)
    lesson = lay_lesson(batch, noise)
    losses = losses_of(quick_answer(network, lesson.seen.features), lesson)
    return losses.sum() / lesson.weight.sum().clamp(min=1.0)


def quick_answer(network: nn.Module, features: Tensor) -> Tensor:
    """Answer in bfloat16 where the processor is faster in it: the same fit."""
    device = features.device
    with torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device)):
        answer: Tensor = network(features)
    return answer.float()


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays there.

    On a processor only with AMX, its matrix unit: AVX-512 multiplies it at half the rate of float32
    (77 against 144 GFLOP/s a core of an Intel Xeon whose AMX is hidden; a step took 12 % longer).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())


class _Jury:
    """Estimates the risk on crops that the network was not fitted on; the draw never changes.

    Stein's unbiased estimate, |f(y) - y|^2 - 1 + 2 div f in units of sigma, with the divergence
    from one probe; Ramani et al. 2008, IEEE Trans. Image Process. 17(9), 1540.
    """

    def __init__(self, judge_on: CropSource, generator: Generator) -> None:
        self.batch = None if judge_on.empty else judge_on.draw(_JUDGED_CROPS)
        if self.batch is not None:
            batch = self.batch
            self.probe = draw_noise(batch.sigma, generator, batch.noise.root)
            # What a network sees does not depend on the network: laid out once for all looks.
            self.plain, self.moved = (
                view(observed, batch.noise, batch.known, batch.covariance, guides=batch.guides)
                for observed in (batch.observed, batch.observed + _PROBE * batch.sigma * self.probe)
            )

    def risk(self, network: nn.Module) -> float:
        """Estimated mean squared error over sigma squared; 0 where there is nothing to judge."""
        if self.batch is None:
            return 0.0
        batch = self.batch
        network.eval()
        with torch.no_grad():
            plain, moved = (
                estimate(network(seen.features), seen) for seen in (self.plain, self.moved)
            )
        network.train()
        slope = (moved - plain) / (_PROBE * batch.sigma)
        each = ((plain - batch.observed) / batch.sigma) ** 2 - 1 + 2 * self.probe * slope
        shown = batch.known * (batch.weight > 0)
        # A few cores that the sigma does not describe must not decide when to stop.
        return float((each.clamp(-50, 50) * shown).sum() / shown.sum().clamp(min=1.0))
