"""Steps of a stack of networks: loss, gradient and optimisers of all at once."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.lr_scheduler import OneCycleLR

from dip_pipeline.restoration.fits import fit_image as alone
from dip_pipeline.restoration.networks.muon import Muon
from dip_pipeline.restoration.networks.recording import adam, repeated, set_rate
from dip_pipeline.restoration.views.lessons import Lesson, losses_of


class Stack(nn.Module):
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
        """Ask each network about its own of (networks, batch, channels, rows, cols)."""

        def one(weights: Mapping[str, Tensor], its_features: Tensor) -> Tensor:
            out: Tensor = functional_call(self._networks[0], dict(weights), (its_features,))
            return out

        answers: Tensor = torch.vmap(one)(self.weights, features)
        return answers

    def take(self, number: int) -> nn.Module:
        """Give one network with its weights as they are now."""
        network = self._networks[number]
        network.load_state_dict({n: w.detach()[number] for n, w in self.weights.items()})
        return network

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


def steps_of(stack: Stack, steps: int) -> Callable[[Lesson], Tensor]:
    """Give what takes one step of a stack on a lesson, and returns the mean loss."""
    return _Steps(stack, _Rates(stack, steps))


def _step(stack: Stack, lesson: Lesson, optimisers: Sequence[torch.optim.Optimizer]) -> Tensor:
    losses = _losses(stack, lesson)
    stack.forget_gradients()
    losses.sum().backward()  # type: ignore[no-untyped-call]
    stack.limit_gradients(alone._GRADIENT_NORM)
    for optimiser in optimisers:
        optimiser.step()
    return losses.detach().mean()


def _losses(stack: Stack, lesson: Lesson) -> Tensor:
    """Loss of each network on its own crops, (networks,); see the fit alone."""
    answers = alone.quick_answer(stack, lesson.seen.features)
    total, count = (
        plane.reshape(len(stack), -1).sum(dim=1)
        for plane in (
            losses_of(answers.flatten(0, 1), lesson.each(lambda plane: plane.flatten(0, 1))),
            lesson.weight.flatten(0, 1),
        )
    )
    losses: Tensor = total / count.clamp(min=1.0)
    return losses


class _Rates:
    """The optimisers of a stack, and the rates of each step: Muon and Adam as in a fit alone.

    On a GPU a rate is a tensor, so that a recorded step finds it.
    """

    def __init__(self, stack: Stack, steps: int) -> None:
        hidden = [
            weight
            for name, weight in stack.weights.items()
            if weight.dim() == 5 and not name.startswith("last.")
        ]
        chosen = {id(weight) for weight in hidden}
        rest = [weight for weight in stack.weights.values() if id(weight) not in chosen]
        most = alone._MUON_RATE, alone._LEARNING_RATE
        self._cycles = [_one_cycle(rate, steps) for rate in most]
        first = torch.tensor(self._cycles[0][0], device=rest[0].device)
        self.optimisers = (
            Muon(hidden, first, momentum=alone._MUON_MOMENTUM, stacked=True),
            adam(rest, self._cycles[1][0], betas=(0.9, 0.99)),
        )
        self._step = 0

    def go_on(self) -> None:
        """Set the rates of the next step."""
        for optimiser, cycle in zip(self.optimisers, self._cycles, strict=True):
            set_rate(optimiser, cycle[self._step])
        self._step += 1


def _one_cycle(most: float, steps: int) -> list[float]:
    """Rates of all steps, as the schedule of a fit alone gives them."""
    nothing = torch.optim.SGD([nn.Parameter(torch.zeros(1))], most)
    schedule = OneCycleLR(
        nothing, most, total_steps=steps + 1, pct_start=alone._WARMING, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        nothing.step()
        schedule.step()
    return rates


class _Steps:
    """Steps of a stack; lessons are copied to one place, where a recorded step finds them."""

    def __init__(self, stack: Stack, rates: _Rates) -> None:
        self._stack = stack
        self._rates = rates
        self._lesson: Lesson | None = None
        weights = list(stack.weights.values())
        self._take = repeated(self._on_the_lesson, weights, rates.optimisers)

    def __call__(self, lesson: Lesson) -> Tensor:
        """Take a step."""
        self._rates.go_on()
        if self._lesson is None:
            self._lesson = lesson.each(torch.clone)
        else:
            self._lesson.keep(lesson)
        return self._take()

    def _on_the_lesson(self) -> Tensor:
        assert self._lesson is not None
        return _step(self._stack, self._lesson, self._rates.optimisers)
