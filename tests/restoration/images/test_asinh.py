"""Asinh made of what a processor computes fast: as exact as torch's."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.images.asinh import asinh


def test_it_is_right_to_rounding_from_faint_to_bright():
    bright = torch.logspace(-30, 17, 10_000)
    values = torch.cat([bright, -bright, torch.zeros(1)])
    wanted = np.arcsinh(values.double().numpy())
    np.testing.assert_allclose(asinh(values).numpy(), wanted, rtol=2e-7, atol=0)


def test_what_is_not_a_number_stays_so_and_nothing_is_infinite():
    answer = asinh(torch.tensor([float("nan"), float("inf"), -1e38, 1e38, -0.0]))
    assert torch.isnan(answer[0])
    assert torch.isfinite(answer[1:]).all()
    assert answer[2] == -answer[3] < -42
    assert torch.signbit(answer[4])


@pytest.mark.parametrize("value", [-3.0, 0.5, 100.0])
def test_its_slope_is_right(value):
    at = torch.tensor([value], requires_grad=True)
    asinh(at).sum().backward()
    assert at.grad.item() == pytest.approx((1 + value**2) ** -0.5, rel=1e-5)
