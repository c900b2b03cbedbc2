"""Adam for a processor, and what all optimisers of our own have in common.

torch's own load its compiler with their first step: a second of every command, and 70 MB.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-8  # keeps steps finite where no gradient came yet


class LightOptimiser(torch.optim.Optimizer):
    """An optimiser that does without torch's compiler."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in weights, a list or an iterator of them, with the settings of all others."""
        group = self.defaults | param_group
        group["params"] = list(group["params"])
        self.param_groups.append(group)


class Adam(LightOptimiser):
    """Kingma & Ba 2015, "Adam: a method for stochastic optimization"; to the bit torch's own."""

    def __init__(
        self, weights: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        super().__init__(weights, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight once. The closure must be None: the gradients are there already."""
        assert closure is None
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(())  # a tensor: see `Recorded`
                    state |= {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
                state["step"] += 1
                step, mean, square = float(state["step"]), state["mean"], state["square"]
                mean.lerp_(weight.grad, 1 - first)
                square.mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
                size = group["lr"] / (1 - first**step)
                spread = square.sqrt() / (1 - second**step) ** 0.5
                weight.addcdiv_(mean, spread.add_(_TINY), value=-size)
