"""Several small networks fitted as one stack: for GPUs, which one alone leaves idle.

The weights of many lie stacked, and each step of all is one step on stacks: the same crops, the
same noise, the same steps as `fit_image_network` takes for each of them alone, whose settings
these are. Nothing of one network enters another: every draw comes from its own seed, the norm of
the gradient is its own, and it keeps its own best look.

Small networks leave a GPU waiting for its next order, so the lessons of many steps are laid out at
once, and the orders of a step are recorded once and played again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import torch
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.fits import fit_image as alone
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stack_steps import Stack, steps_of
from dip_pipeline.restoration.fits.stopping import JudgedRisk, StepHook, ignore_step
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.noise.correlation import correlate, draw_white
from dip_pipeline.restoration.problem import FitOptions, InputKind, NetworkKind, StopReason
from dip_pipeline.restoration.views.crops import Batch, CropSource
from dip_pipeline.restoration.views.features import answer_channels, feature_channels
from dip_pipeline.restoration.views.lessons import Lesson, both_ways, by_thinning, lay_lesson
from dip_pipeline.restoration.views.regions import PixelNoise

_CROPS_AT_ONCE = {"cpu": 1, "cuda": 1024}  # of as many steps as that; of one step at least


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
        shape = None if root is None else root.shape
        return self.fit_on.crop_px, shape, self.fit_on.guide_planes, self.fit_on.counted


def seed_of(entropy: list[int]) -> int:
    """Derive a seed."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@dataclass(slots=True)
class _Member:
    """What is remembered of one network of a stack."""

    jury: alone._Jury
    rule: JudgedRisk = field(
        default_factory=lambda: JudgedRisk(alone._LOOKS, tolerance=alone._TOLERANCE)
    )
    best: alone.Look | None = None
    ended: tuple[int, StopReason] | None = None

    def look(self, network: nn.Module, step: int) -> None:
        """Judge it once; keep a copy of its weights if they are the best so far."""
        if self.ended is not None:
            return
        risk = self.jury.risk(network)
        reason = self.rule.update(step, risk)
        if self.rule.best_step == step:
            weights = {name: weight.clone() for name, weight in network.state_dict().items()}
            self.best = alone.Look(step, weights, risk)
        if reason is not None:
            self.ended = step, reason

    def fitted(self, network: nn.Module, steps: int) -> Fitted:
        """Give it with its best weights."""
        risk = alone.judged_best(network, self.jury, self.best)
        step, reason = self.ended or (steps, alone._ending(self.rule, steps))
        if not risk < alone._RISK_OF_A_WRECK:
            reason = StopReason.DIVERGED
        return Fitted(network, step, reason, risk)


def can_be_stacked(options: FitOptions) -> bool:
    """Whether such networks can be fitted in a stack.

    The hourglass normalises by running means, which a stack does not keep.
    """
    return options.input is InputKind.IMAGE and options.network_kind is NetworkKind.UNET


def stacks_pay(device: torch.device, options: FitOptions) -> bool:
    """Whether the networks of one frame are best fitted in a stack: a GPU waits for its orders."""
    return device.type == "cuda" and can_be_stacked(options)


def fit_all(
    halves: Sequence[Half],
    options: FitOptions,
    again: Callable[[int], Fitted],
    on_step: StepHook = ignore_step,
) -> list[Fitted]:
    """Fit networks, those that are alike in one stack.

    again : fits one of them alone, from the beginning and with further tries: for those whose fit
        is no good
    """
    fits: dict[int, Fitted] = {}
    groups: dict[object, list[int]] = {}
    for place, half in enumerate(halves):
        groups.setdefault(half.likeness, []).append(place)
    for places in groups.values():
        stacked = fit_stack([halves[place] for place in places], options, on_step)
        fits.update(zip(places, stacked, strict=True))
    for place in range(len(halves)):
        if not fits[place].risk < alone._RISK_OF_A_GOOD_FIT:
            fits[place] = again(place)
    return [fits[place] for place in range(len(halves))]


def fit_stack(
    halves: Sequence[Half], options: FitOptions, on_step: StepHook = ignore_step
) -> list[Fitted]:
    """Fit networks side by side, all with as many steps; their likeness must be the same."""
    steps = options.step_limit
    seeds = [seed_of([half.seed, 0]) for half in halves]
    generators = [Generator().manual_seed(seed) for seed in seeds]
    planes = halves[0].fit_on.guide_planes
    channels = feature_channels(planes), answer_channels(planes)
    networks = [build_network(options.network_kind, *channels, seed=seed) for seed in seeds]
    stack = Stack([network.to(halves[0].fit_on.device) for network in networks])
    members = [
        _Member(alone._Jury(half.judge_on, generator))
        for half, generator in zip(halves, generators, strict=True)
    ]
    at_once = max(1, _CROPS_AT_ONCE[halves[0].fit_on.device.type] // (alone._PAIRS * len(halves)))
    take_step = steps_of(stack, steps)
    looks = {steps - round(i * steps / 2 / alone._LOOKS) for i in range(alone._LOOKS)}
    step, ended = 0, False
    while step < steps and not ended:
        for lesson in _lessons(halves, generators, min(at_once, steps - step)):
            step += 1
            on_step(step, steps, take_step(lesson))
            if step in looks:
                for number, member in enumerate(members):
                    member.look(stack.take(number), step)
                ended = all(member.ended for member in members)
                if ended:
                    break
    return [member.fitted(stack.take(i), steps) for i, member in enumerate(members)]


def _lessons(halves: Sequence[Half], generators: Sequence[Generator], steps: int) -> list[Lesson]:
    """Lay out the lessons of some steps; planes are (networks, 2 * pairs, channels, rows, cols)."""
    pairs = alone._PAIRS
    batches = [
        half.fit_on.cut([half.fit_on.choose(misled=True) for _ in range(steps * pairs)])
        for half in halves
    ]
    batch = _joined(batches)
    drawn = _drawn(batches, batch, generators, steps)
    both, networks = 2, len(halves)

    def by_step(plane: Tensor) -> Tensor:
        apart = plane.reshape(both, networks, steps, pairs, *plane.shape[1:])
        ordered = apart.permute(2, 1, 0, 3, 4, 5, 6)
        return ordered.reshape(steps, networks, both * pairs, *plane.shape[1:])

    lesson = lay_lesson(batch, drawn).each(by_step)
    return [lesson.each(itemgetter(step)) for step in range(steps)]


def _drawn(
    batches: Sequence[Batch], joined: Batch, generators: Sequence[Generator], steps: int
) -> Tensor:
    """Draw the noise that splits crops, by the generator of each network."""
    own = [(*each, step) for each in zip(batches, generators, strict=True) for step in range(steps)]
    if joined.noise.counted:
        twice = [_thinned(batch, generator, step).chunk(2) for batch, generator, step in own]
        return torch.cat([torch.cat(draws) for draws in zip(*twice, strict=True)])
    whites = [
        draw_white((alone._PAIRS, *batch.observed.shape[1:]), generator, batch.noise.root)
        for batch, generator, _ in own
    ]
    white = correlate(torch.cat(whites).to(joined.sigma), joined.noise.root)
    return both_ways(joined.sigma * white)


def _thinned(batch: Batch, generator: Generator, step: int) -> Tensor:
    """Split the crops of one step, as they are where a network is fitted alone."""
    crops = slice(step * alone._PAIRS, (step + 1) * alone._PAIRS)
    noise = batch.noise
    assert isinstance(noise.slope, Tensor)
    assert isinstance(noise.dark_level, Tensor)
    own = PixelNoise(noise.floor[crops], noise.slope[crops], noise.dark_level[crops], counted=True)
    return by_thinning(batch.observed[crops], own, generator)


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
        counted=batches[0].noise.counted,
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
