"""Steps of a stack of networks: loss, gradient and optimisers of all at once."""

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.lr_scheduler import OneCycleLR

from dip_pipeline.restoration import fit_image as alone
from dip_pipeline.restoration.lessons import Lesson, losses_of
from dip_pipeline.restoration.muon import Muon

log = logging.getLogger(__name__)

_REHEARSALS = 3  # steps taken before one is recorded: libraries choose their ways in the first


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
    rates = _Rates(stack, steps)
    device = next(iter(stack.weights.values())).device
    if device.type == "cuda":
        return _Recorded(stack, rates)

    def take_step(lesson: Lesson) -> Tensor:
        rates.go_on()
        return _step(stack, lesson, rates.optimisers)

    return take_step


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
        on_gpu = rest[0].device.type == "cuda"
        most = alone._MUON_RATE, alone._LEARNING_RATE
        self._cycles = [_one_cycle(rate, steps) for rate in most]
        first = [torch.tensor(cycle[0], device=rest[0].device) for cycle in self._cycles]
        self.optimisers = (
            Muon(hidden, first[0], momentum=alone._MUON_MOMENTUM, stacked=True),
            torch.optim.Adam(rest, first[1], betas=(0.9, 0.99), capturable=on_gpu),
        )
        self._step = 0

    def go_on(self) -> None:
        """Set the rates of the next step."""
        for optimiser, cycle in zip(self.optimisers, self._cycles, strict=True):
            for group in optimiser.param_groups:
                group["lr"].fill_(cycle[self._step])
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


class _Recorded:
    """A step of a stack, recorded once on a GPU and played again on other lessons.

    Where it cannot be recorded (another release of torch or cuDNN), steps are taken one by one.
    """

    def __init__(self, stack: Stack, rates: _Rates) -> None:
        self._stack = stack
        self._rates = rates
        self._lesson: Lesson | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss = torch.empty(0)

    def __call__(self, lesson: Lesson) -> Tensor:
        """Take a step; the tensor that is returned changes with the next one."""
        self._rates.go_on()
        if self._lesson is None:
            self._lesson = lesson.each(torch.clone)
            self._try_to_record(self._lesson)
        if self._graph is None:
            return _step(self._stack, lesson, self._rates.optimisers)
        self._lesson.keep(lesson)
        self._graph.replay()
        return self._loss

    def _try_to_record(self, lesson: Lesson) -> None:
        """Record a step; weights, and what optimisers remember, are as before afterwards."""
        weights = self._stack.weights.values()
        kept = [weight.detach().clone() for weight in weights]
        try:
            self._graph = self._record(lesson)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("steps cannot be recorded on this GPU, so they take longer: %s", error)
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
            for optimiser in self._rates.optimisers:
                for state in optimiser.state.values():
                    for remembered in state.values():
                        remembered.zero_()

    def _record(self, lesson: Lesson) -> torch.cuda.CUDAGraph:
        optimisers = self._rates.optimisers
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_REHEARSALS):
                _step(self._stack, lesson, optimisers)
        torch.cuda.current_stream().wait_stream(aside)
        self._stack.forget_gradients()
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._loss = _step(self._stack, lesson, optimisers)
        return graph
