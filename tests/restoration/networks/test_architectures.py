import pytest
import torch

from dip_pipeline.restoration.networks.architectures import NETWORKS, build_network
from dip_pipeline.restoration.problem import NetworkKind
from dip_pipeline.restoration.views.features import (
    ANSWER_CHANNELS,
    FEATURE_CHANNELS,
    estimate,
    view,
)
from dip_pipeline.restoration.views.regions import PixelNoise

KINDS = sorted(NETWORKS)
COVARIANCE = torch.zeros(1, 21, 21)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_answer(kind):
    """A network whose last layer does not start at zero."""
    network = build_network(kind, 3, 2, seed=1)
    torch.nn.init.constant_(network.last.weight, 0.1)
    return network.eval()


def test_every_kind_of_network_but_auto_is_in_the_table():
    assert set(NETWORKS) == set(NetworkKind) - {NetworkKind.AUTO}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (32, 48), (16, 96)])
def test_networks_keep_the_size(kind, shape):
    assert build_network(kind, 3, 2, seed=1)(draw(2, 3, *shape)).shape == (2, 2, *shape)


@pytest.mark.parametrize("shape", [(16, 16), (28, 28), (37, 53)])
def test_the_hourglass_takes_any_size(shape):
    network = build_network(NetworkKind.HOURGLASS, 3, 2, seed=1)
    assert network(draw(1, 3, *shape)).shape == (1, 2, *shape)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_starts_at_its_base_image(kind):
    network = build_network(kind, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    observed = 10 * draw(1, 1, 32, 32)
    noise = PixelNoise(torch.ones(1, 1, 32, 32), 0.1, -3.0)
    seen = view(observed, noise, torch.ones_like(observed), COVARIANCE)
    base = estimate(torch.zeros(1, ANSWER_CHANNELS, 32, 32), seen)
    assert torch.equal(estimate(network(seen.features), seen), base)


def test_whatever_the_mixture_a_constant_image_keeps_its_level():
    observed = torch.full((1, 1, 32, 32), 12.5)
    noise = PixelNoise(torch.ones_like(observed), 0.1, -3.0)
    answer = 5 * draw(1, ANSWER_CHANNELS, 32, 32)
    answer[:, -1] = 0  # no residual
    seen = view(observed, noise, torch.ones_like(observed), COVARIANCE)
    torch.testing.assert_close(estimate(answer, seen), observed, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_weights_depend_on_the_seed_alone(kind):
    first = build_network(kind, 3, 2, seed=1).state_dict()
    torch.rand(7)
    again = build_network(kind, 3, 2, seed=1).state_dict()
    other = build_network(kind, 3, 2, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_a_network_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    build_network(NetworkKind.UNET, 3, 2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def cut_at_the_bottom(network, size_px):
    """Blank every plane of the least size: only skip connections can pass it."""

    def blank(module, inputs, output):
        return torch.zeros_like(output) if output.shape[-1] == size_px else None

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(blank)


@pytest.mark.parametrize(("kind", "bottom_px", "passes"), [("hourglass", 4, 0), ("unet", 16, 1)])
def test_nothing_passes_the_hourglass_but_through_its_waist(kind, bottom_px, passes):
    network = with_answer(NetworkKind(kind))
    cut_at_the_bottom(network, bottom_px)
    outputs = [network(draw(1, 3, 64, 64, seed=seed)) for seed in (1, 2)]
    assert torch.equal(*outputs) is not bool(passes)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_cut_both_networks_see_their_input(kind):
    network = with_answer(kind)
    assert not torch.equal(*(network(draw(1, 3, 64, 64, seed=seed)) for seed in (1, 2)))
