import pytest
import torch
from torch import nn

from dip_pipeline.restoration.networks.muon import Muon, orthogonalised


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 63), (64, 16), (8, 8)])
def test_all_singular_values_of_an_update_come_near_one(shape):
    stretched = draw(*shape) * torch.logspace(-1.5, 0, shape[1])
    before = torch.linalg.svdvals(stretched)
    after = torch.linalg.svdvals(orthogonalised(stretched))
    assert before.max() / before.min() > 5
    assert float(after.min()) > 0.3
    assert float(after.max()) < 1.3


def test_a_matrix_of_zeros_stays_finite():
    assert torch.equal(orthogonalised(torch.zeros(4, 9)), torch.zeros(4, 9))


def test_the_size_of_a_step_does_not_depend_on_the_size_of_the_gradient():
    moved = []
    for scale in (1e-2, 1e3):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
        weight.grad = scale * draw(8, 4, 3, 3)
        Muon([weight], lr=0.1).step()
        moved.append(weight.detach().clone())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-4)
    assert float(torch.linalg.matrix_norm(moved[0].reshape(8, -1), 2)) < 0.13


def test_it_finds_a_filter_from_what_it_does():
    wanted, seen = draw(6, 3, 3, 3), draw(4, 3, 24, 24, seed=2)
    target = nn.functional.conv2d(seen, wanted)
    weight = nn.Parameter(torch.zeros(6, 3, 3, 3))
    optimiser = Muon([weight], lr=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=60)
    for _ in range(60):
        loss = (nn.functional.conv2d(seen, weight) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    assert float((weight - wanted).detach().norm() / wanted.norm()) < 0.05
