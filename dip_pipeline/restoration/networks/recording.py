"""Steps of a fit, recorded once on a GPU and played again.

There the orders of a step of a small network take longer than the step itself.
"""

import logging
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from dip_pipeline.restoration.networks.optimisers import Adam

log = logging.getLogger(__name__)

_REHEARSALS = 3  # steps taken before one is recorded: libraries choose their ways in the first


def repeated(
    step: Callable[[], Tensor],
    changed: Sequence[Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
) -> Callable[[], Tensor]:
    """Give what takes a step again and again: on a GPU it is recorded, elsewhere the step itself.

    step : reads, and changes, tensors that keep their places; gives the loss
    changed : what it changes, but for gradients and what optimisers remember
    """
    if changed[0].device.type == "cuda":
        return Recorded(step, changed, optimisers)
    return step


def adam(
    weights: Iterable[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """Make an optimiser whose steps can be recorded where its weights lie on a GPU."""
    weights = list(weights)
    device = weights[0].device
    if device.type != "cuda":
        return Adam(weights, rate, betas)
    # A recorded step reads the rate from where it lies.
    return torch.optim.Adam(weights, torch.tensor(rate, device=device), betas, capturable=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Recorded:
    """A step that is recorded when it is first taken, and played again from then on.

    Where it cannot be recorded (another release of torch or cuDNN), steps are taken one by one.
    The loss that is returned changes with the next step.
    """

    def __init__(
        self,
        step: Callable[[], Tensor],
        changed: Sequence[Tensor],
        optimisers: Sequence[torch.optim.Optimizer],
    ) -> None:
        self._step = step
        self._changed = changed
        self._optimisers = optimisers
        self._tried = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss = torch.empty(0)

    def __call__(self) -> Tensor:
        """Take a step."""
        if not self._tried:
            self._try_to_record()
        if self._graph is None:
            return self._step()
        self._graph.replay()
        return self._loss

    def _try_to_record(self) -> None:
        """Record the step; all that it changes is as before afterwards."""
        self._tried = True
        kept = [tensor.detach().clone() for tensor in self._changed]
        remembered = {id(tensor): tensor.clone() for tensor in self._memory()}
        try:
            self._graph = self._record()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("steps cannot be recorded on this GPU, so they take longer: %s", str(error))
        with torch.no_grad():
            for tensor, before in zip(self._changed, kept, strict=True):
                tensor.copy_(before)
            for tensor in self._memory():
                past = remembered.get(id(tensor))
                if past is None:  # made by the first step
                    tensor.zero_()
                else:
                    tensor.copy_(past)

    def _memory(self) -> list[Tensor]:
        """List what the optimisers remember."""
        states = (state for optimiser in self._optimisers for state in optimiser.state.values())
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _record(self) -> torch.cuda.CUDAGraph:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_REHEARSALS):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._loss = self._step()
        return graph
