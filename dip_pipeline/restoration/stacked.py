"""Several small networks fitted as one stack: for GPUs, which one alone leaves idle.

The weights of many lie stacked, and each step of all is one step on stacks: the same crops, the
same noise, the same steps as `fit_image_network` takes for each of them alone, whose settings
these are. Nothing of one network enters another: every draw comes from its own seed, the norm of
the gradient is its own, and it keeps its own best look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.optim.lr_scheduler import OneCycleLR

from dip_pipeline.restoration import fit_image as alone
from dip_pipeline.restoration.crops import Batch, CropSource
from dip_pipeline.restoration.features import (
    answer_channels,
    estimate,
    feature_channels,
    view,
)
from dip_pipeline.restoration.fitted import Fitted
from dip_pipeline.restoration.muon import Muon, orthogonalised
from dip_pipeline.restoration.networks import build_network
from dip_pipeline.restoration.noise import split_observation
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.regions import PixelNoise
from dip_pipeline.restoration.stopping import JudgedRisk


@dataclass(frozen=True, eq=False, slots=True)
class Half:
    """One network to fit: on what, and on what it is judged."""

    seed: int
    fit_on: CropSource
    judge_on: CropSource

    @property
    def likeness(self) -> tuple[object, ...]:
        """Equal for those whose crops fit into one batch."""
        root = self.fit_on.regions[0].noise.root
        return self.fit_on.crop_px, None if root is None else root.shape, self.fit_on.guide_planes


def seed_of(entropy: list[int]) -> int:
    """Derive a seed."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class _Look(NamedTuple):
    step: int
    weights: Mapping[str, Tensor]


@dataclass(slots=True)
class _Member:
    """What is remembered of one network of a stack."""

    jury: alone._Jury
    rule: JudgedRisk = field(
        default_factory=lambda: JudgedRisk(alone._LOOKS, tolerance=alone._TOLERANCE)
    )
    best: _Look | None = None
    ended: tuple[int, StopReason] | None = None

    def look(self, network: nn.Module, step: int) -> None:
        """Judge it once; keep a copy of its weights if they are the best so far."""
        if self.ended is not None:
            return
        reason = self.rule.update(step, self.jury.risk(network))
        if self.rule.best_step == step:
            weights = {name: weight.clone() for name, weight in network.state_dict().items()}
            self.best = _Look(step, weights)
        if reason is not None:
            self.ended = step, reason

    def fitted(self, network: nn.Module, steps: int) -> Fitted:
        """Give it with its best weights."""
        if self.best is not None:
            network.load_state_dict(dict(self.best.weights))
        risk = self.jury.risk(network)
        step, reason = self.ended or (steps, alone._ending(self.rule, steps))
        if not risk < alone._RISK_OF_A_WRECK:
            reason = StopReason.DIVERGED
        return Fitted(network, step, reason, risk)


def fit_stack(halves: Sequence[Half], options: FitOptions) -> list[Fitted]:
    """Fit networks side by side, all with as many steps; their likeness must be the same."""
    steps = options.step_limit
    seeds = [seed_of([half.seed, 0]) for half in halves]
    generators = [Generator().manual_seed(seed) for seed in seeds]
    planes = halves[0].fit_on.guide_planes
    channels = feature_channels(planes), answer_channels(planes)
    networks = [build_network(options.network_kind, *channels, seed=seed) for seed in seeds]
    stack = _Stack([network.to(halves[0].fit_on.device) for network in networks])
    members = [
        _Member(alone._Jury(half.judge_on, generator))
        for half, generator in zip(halves, generators, strict=True)
    ]
    optimisers, schedules = stack.one_cycle(steps)
    looks = {steps - round(i * steps / 2 / alone._LOOKS) for i in range(alone._LOOKS)}
    for step in range(1, steps + 1):
        batches = [half.fit_on.draw(alone._PAIRS, misled=True) for half in halves]
        losses = _losses(stack, batches, generators)
        stack.forget_gradients()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        stack.limit_gradients(alone._GRADIENT_NORM)
        for optimiser in optimisers:
            optimiser.step()
        for schedule in schedules:
            schedule.step()
        if step in looks:
            for number, member in enumerate(members):
                member.look(stack.take(number), step)
            if all(member.ended for member in members):
                break
    return [member.fitted(stack.take(i), steps) for i, member in enumerate(members)]


class _Stack(nn.Module):
    """Networks of one kind; every weight of theirs is (networks, *its own shape)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._networks = tuple(networks)
        every = [dict(network.named_parameters()) for network in networks]
        self.weights = {
            name: nn.Parameter(torch.stack([one[name].detach() for one in every]))
            for name in every[0]
        }

    def __len__(self) -> int:
        return len(self._networks)

    def forward(self, features: Tensor) -> Tensor:
        """Ask each network about its own part of (2 * networks * pairs, channels, rows, cols)."""

        def one(weights: Mapping[str, Tensor], its_features: Tensor) -> Tensor:
            out: Tensor = functional_call(self._networks[0], dict(weights), (its_features,))
            return out

        return _side_by_side(torch.vmap(one)(self.weights, _by_network(features, len(self))))

    def take(self, number: int) -> nn.Module:
        """Give one network with its weights as they are now."""
        network = self._networks[number]
        network.load_state_dict({n: w.detach()[number] for n, w in self.weights.items()})
        return network

    def one_cycle(self, steps: int) -> tuple[list[torch.optim.Optimizer], list[OneCycleLR]]:
        """Muon for the kernels of all layers but the last, Adam for the rest; one cycle each."""
        hidden = [
            weight
            for name, weight in self.weights.items()
            if weight.dim() == 5 and not name.startswith("last.")
        ]
        chosen = {id(weight) for weight in hidden}
        rest = [weight for weight in self.weights.values() if id(weight) not in chosen]
        optimisers: list[torch.optim.Optimizer] = [
            _StackedMuon(hidden, alone._MUON_RATE, momentum=alone._MUON_MOMENTUM),
            torch.optim.Adam(rest, alone._LEARNING_RATE, betas=(0.9, 0.99)),
        ]
        schedules = [
            OneCycleLR(
                one,
                one.defaults["lr"],
                total_steps=steps + 1,
                pct_start=alone._WARMING,
                cycle_momentum=False,
            )
            for one in optimisers
        ]
        return optimisers, schedules

    def forget_gradients(self) -> None:
        """Begin a step."""
        for weight in self.weights.values():
            weight.grad = None

    def limit_gradients(self, most: float) -> None:
        """Scale the gradient of each network down to that norm at most."""
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        squares = torch.stack([(g.flatten(1) ** 2).sum(dim=1) for g in gradients]).sum(dim=0)
        scale = (most / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))


class _StackedMuon(Muon):
    """Muon for kernels (networks, out, in, rows, cols)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight once; the closure must be None."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"])
                matrices = ahead.flatten(2)
                size = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
                update = torch.vmap(orthogonalised)(matrices).reshape(weight.shape)
                weight.sub_(update, alpha=group["lr"] * size)


def _losses(stack: _Stack, batches: Sequence[Batch], generators: Sequence[Generator]) -> Tensor:
    """Loss of each network on its own crops; see `_pair_loss` of the fit alone, (networks,)."""
    draws = []
    for batch, generator in zip(batches, generators, strict=True):
        none = torch.zeros_like(batch.observed)
        draws.append(split_observation(none, batch.sigma, 1.0, generator, batch.noise.root)[0])
    batch, draw = _joined(batches), torch.cat(draws)
    noise = torch.cat([draw, -draw])
    observed, sigma, known, weight = (
        plane.repeat(2, 1, 1, 1)
        for plane in (batch.observed, batch.sigma, batch.known, batch.weight)
    )
    covariance = batch.covariance.repeat(2, 1, 1)
    recorrupted = observed + alone._SPLIT_STRENGTH * noise
    guides = None if batch.guides is None else batch.guides.repeat(2, 1, 1, 1)
    seen = view(recorrupted, batch.noise.repeated(2), known, covariance, guides=guides)
    target = observed - noise / alone._SPLIT_STRENGTH

    residual = (estimate(alone.quick_answer(stack, seen.features), seen) - target) / sigma
    each = nnf.huber_loss(
        residual, torch.zeros_like(residual), delta=alone._HUBER_SIGMA, reduction="none"
    )
    weight = weight * alone._share_of_contrast(seen)
    total, count = (
        _by_network(plane, len(stack)).flatten(1).sum(dim=1) for plane in (each * weight, weight)
    )
    return total / count.clamp(min=1.0)


def _by_network(planes: Tensor, networks: int) -> Tensor:
    """Bring (sign * networks * pairs, ...) to (networks, sign * pairs, ...)."""
    apart = planes.reshape(2, networks, -1, *planes.shape[1:]).transpose(0, 1)
    return apart.flatten(1, 2)


def _side_by_side(planes: Tensor) -> Tensor:
    """Undo `_by_network`."""
    apart = planes.reshape(len(planes), 2, -1, *planes.shape[2:]).transpose(0, 1)
    return apart.flatten(0, 2)


def _joined(batches: Sequence[Batch]) -> Batch:
    """Lay batches end to end; their numbers of a noise law are a tensor each."""

    def cat(planes: Iterable[Tensor | float | None]) -> Tensor:
        return torch.cat([plane for plane in planes if isinstance(plane, Tensor)])

    roots = [batch.noise.root for batch in batches]
    noise = PixelNoise(
        cat(batch.noise.floor for batch in batches),
        cat(batch.noise.slope for batch in batches),
        cat(batch.noise.dark_level for batch in batches),
        None if roots[0] is None else torch.cat([root for root in roots if root is not None]),
    )
    return Batch(
        observed=cat(batch.observed for batch in batches),
        sigma=cat(batch.sigma for batch in batches),
        known=cat(batch.known for batch in batches),
        weight=cat(batch.weight for batch in batches),
        covariance=cat(batch.covariance for batch in batches),
        noise=noise,
        guides=None if batches[0].guides is None else cat(batch.guides for batch in batches),
    )
