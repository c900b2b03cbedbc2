import pytest
import torch

from dip_pipeline.restoration.operators import Identity, Masked

SHAPE = (1, 1, 13, 17)


def operators():
    weight = (torch.rand(SHAPE[-2:], generator=torch.Generator().manual_seed(3)) > 0.3).double()
    return {"identity": Identity(), "masked": Masked(Identity(), weight)}


def draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", operators())
def test_the_adjoint_moves_an_operator_to_the_other_side(name):
    operator, x, y = operators()[name], draw(1), draw(2)
    left = (operator.forward(x) * y).sum()
    right = (x * operator.adjoint(y)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", operators())
def test_the_adjoint_agrees_with_autograd(name):
    operator, x, y = operators()[name], draw(1).requires_grad_(), draw(2)
    (gradient,) = torch.autograd.grad(operator.forward(x), x, y)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-12, atol=1e-12)


def test_masked_pixels_are_not_observed():
    masked = operators()["masked"]
    hidden = masked.weight == 0
    x = draw(1)
    assert (masked.forward(x)[..., hidden] == 0).all()
    torch.testing.assert_close(masked.forward(x)[..., ~hidden], x[..., ~hidden], rtol=0, atol=0)
