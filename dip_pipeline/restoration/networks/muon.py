"""Muon: momentum whose every update of a weight matrix is made orthogonal.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". A fit of a few
hundred steps gets about as far as one of twice as many by Adam.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dip_pipeline.restoration.networks.optimisers import LightOptimiser

# Coefficients of the quintic iteration (Jordan et al. 2024): steep at zero, so five rounds do.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


class Muon(LightOptimiser):
    """Nesterov momentum, orthogonalised; for convolution kernels, seen as (out, in * rows * cols).

    lr : spectral norm of a step, before the correction for tall matrices; a tensor, where it is to
        be found by a step recorded on a GPU
    stacked : kernels of several networks at once, (networks, out, in, rows, cols)
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float | Tensor,
        *,
        momentum: float = 0.9,
        stacked: bool = False,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._before = 2 if stacked else 1  # axes of a weight that stay in its matrices

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight once. The closure must be None: the gradients are there already."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"])
                matrices = ahead.flatten(self._before)
                size = max(1.0, matrices.shape[-2] / matrices.shape[-1]) ** 0.5
                update = orthogonalised(matrices).reshape(weight.shape)
                rate = group["lr"] * size
                if isinstance(rate, Tensor):
                    weight.sub_(update * rate)
                else:
                    weight.sub_(update, alpha=rate)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Bring all singular values near 1 (0.7 to 1.2), by Newton and Schulz's iteration.

    matrix : (rows, cols), or (networks, rows, cols)
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    plus_product = torch.addmm if x.dim() == 2 else torch.baddbmm
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        polynomial = plus_product(gram, gram, gram, beta=b, alpha=c)
        x = plus_product(x, polynomial, x, beta=a)
    result: Tensor = x.mT if tall else x
    return result
