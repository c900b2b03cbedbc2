"""The published network and recipe are what was published."""

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.optics import DecimationKind
from dip_pipeline.restoration.networks import published
from dip_pipeline.restoration.networks.published import (
    PUBLISHED_FINER,
    Look,
    PublishedFit,
    PublishedHourglass,
    PublishedRecipe,
    fit_published,
    psnr_db,
)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(side=64):
    """Three colours of a smooth picture, and the same under noise."""
    rows, cols = np.mgrid[:side, :side] / side
    clean = np.stack([0.5 + 0.3 * np.sin(4 * rows + k) * np.cos(3 * cols) for k in range(3)])
    return clean, clean + 0.1 * np.random.default_rng(1).standard_normal(clean.shape)


@pytest.fixture
def narrow(monkeypatch):
    """The network at a sixteenth of its width, for the recipe's own laws."""

    class Narrow(PublishedHourglass):
        def __init__(self, channels_in, channels_out, *, skip_channels):
            super().__init__(channels_in, channels_out, skip_channels=skip_channels, width=8)

    monkeypatch.setattr(published, "PublishedHourglass", Narrow)


# 2.2 million in the paper's setting; the digits follow from the layers it lists.
@pytest.mark.parametrize(("skip_channels", "count"), [(4, 2_217_831), (0, 2_192_515)])
def test_the_network_has_the_published_number_of_parameters(skip_channels, count):
    network = PublishedHourglass(32, 3, skip_channels=skip_channels)
    assert sum(weights.numel() for weights in network.parameters()) == count


@pytest.mark.parametrize("skip_channels", [4, 0])
def test_the_output_has_the_size_of_the_code_and_lies_between_0_and_1(skip_channels):
    network = PublishedHourglass(32, 3, skip_channels=skip_channels, width=8)
    out = network(draw(1, 32, 64, 96)).detach()
    assert out.shape == (1, 3, 64, 96)
    assert 0 < float(out.min()) < float(out.max()) < 1


def test_the_waist_is_a_thirty_second_of_the_image():
    network = PublishedHourglass(32, 3, width=8)
    sides = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    network(draw(1, 32, 128, 128))
    assert min(sides) == 4


@pytest.mark.parametrize(("skip_channels", "passes"), [(4, True), (0, False)])
def test_only_skip_connections_pass_the_waist(skip_channels, passes):
    network = PublishedHourglass(32, 3, skip_channels=skip_channels, width=8)
    deepest = network.levels.below.below.below.below
    deepest.down.register_forward_hook(lambda _m, _i, out: torch.zeros_like(out))
    if deepest.skip is not None:
        deepest.skip.register_forward_hook(lambda _m, _i, out: torch.zeros_like(out))
    outputs = [network(draw(1, 32, 64, 64, seed=seed)) for seed in (1, 2)]
    assert torch.equal(*outputs) is not passes


@pytest.mark.usefixtures("narrow")
def test_the_code_is_uniform_and_each_step_adds_fresh_noise_to_it(monkeypatch):
    seen = []
    inner = PublishedHourglass.forward
    monkeypatch.setattr(
        PublishedHourglass, "forward", lambda self, code: seen.append(code) or inner(self, code)
    )
    fit_published(picture()[1], PublishedRecipe(steps=3), seed=2)
    codes = torch.cat(seen)
    assert codes.shape == (3, 32, 64, 64)
    assert float(codes.mean()) == pytest.approx(0.05, abs=1e-3)
    # Uniform from 0 to 0.1, variance 0.01 / 12, and the jitter, 1 / 900.
    assert float(codes.var()) == pytest.approx(0.01 / 12 + 1 / 900, rel=0.02)
    assert float((codes[0] - codes[1]).var()) == pytest.approx(2 / 900, rel=0.02)


@pytest.mark.usefixtures("narrow")
def test_the_recipe_denoises_and_reports_each_look():
    clean, noisy = picture()
    fit = fit_published(
        noisy,
        PublishedRecipe(steps=60),
        seed=2,
        judge=lambda image: psnr_db(image, clean),
        look_every=25,
    )
    assert [look.step for look in fit.looks] == [25, 50, 60]
    assert fit.looks[-1].last == pytest.approx(psnr_db(fit.last, clean))
    assert fit.looks[-1].averaged == pytest.approx(psnr_db(fit.averaged, clean))
    assert fit.best.last > psnr_db(noisy, clean) + 1
    assert 0 < fit.looks[0].seconds < fit.seconds


@pytest.mark.usefixtures("narrow")
def test_the_running_average_keeps_99_parts_of_the_past():
    noisy = picture()[1]
    one, two = (fit_published(noisy, PublishedRecipe(steps=steps), seed=2) for steps in (1, 2))
    np.testing.assert_array_equal(one.averaged, one.last)
    np.testing.assert_allclose(two.averaged, 0.99 * one.last + 0.01 * two.last, atol=1e-6)


def test_a_collapsed_step_is_taken_back():
    network = torch.nn.Linear(1, 1)
    guard = published._Guard(network, fallback_db=5.0)
    guard.check(1.0)
    good = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    guard.check(3.1)  # 4.9 dB worse: no collapse
    np.testing.assert_allclose(network.weight.detach(), good + 1)
    with torch.no_grad():
        network.weight += 1
    guard.check(9.9)  # 5.04 dB worse than the last good one
    np.testing.assert_allclose(network.weight.detach(), good + 1)


def test_the_best_look_may_be_any_of_them():
    looks = (Look(1, 0.1, 20.0, 19.0), Look(2, 0.2, 22.0, 21.0), Look(3, 0.3, 21.0, 23.0))
    fit = PublishedFit(np.zeros(1), np.zeros(1), 0.3, looks)
    assert (fit.best.step, fit.best_averaged.step) == (2, 3)


@pytest.mark.parametrize("shape", [(64, 64), (3, 32, 64), (3, 64, 80)])
def test_sides_that_do_not_suit_the_network_are_refused_in_one_line(shape):
    with pytest.raises(RestorationError, match=r"multiples of 32 px.*crop it$"):
        fit_published(np.zeros(shape), seed=1)


def test_ten_decibels_are_a_tenth_of_the_mean_square():
    truth = np.zeros(100)
    assert psnr_db(truth + 0.1, truth) == pytest.approx(20.0)


def test_a_finer_picture_is_drawn_on_factor_times_the_pixels(narrow):
    coarse = picture(side=16)[0]
    recipe = PublishedRecipe(steps=2, factor=4)
    fit = fit_published(coarse, recipe, seed=1)
    assert fit.last.shape == fit.averaged.shape == (3, 64, 64)


def test_a_finer_picture_is_compared_with_the_coarse_one_through_the_low_pass(narrow):
    clean = picture(side=64)[0]
    lanczos = Decimation(DecimationKind.LANCZOS, 4)
    coarse = lanczos.forward(torch.from_numpy(clean)[:, None])[:, 0].numpy()
    recipe = PublishedRecipe(steps=80, factor=4)
    fit = fit_published(coarse, recipe, seed=1)
    again = lanczos.forward(torch.from_numpy(fit.averaged).double()[:, None])[:, 0].numpy()
    assert psnr_db(again, coarse) > 20
    assert psnr_db(fit.averaged, clean) > 20


def test_a_picture_whose_finer_sides_do_not_suit_the_network_is_refused():
    with pytest.raises(RestorationError, match="divided by 4"):
        fit_published(picture(side=18)[0], PublishedRecipe(steps=1, factor=4), seed=1)


def test_the_published_recipe_of_finer_pixels_is_that_of_the_notebook():
    recipe = PUBLISHED_FINER
    assert (recipe.steps, recipe.learning_rate, recipe.jitter) == (2000, 0.01, 0.03)
    assert (recipe.skip_channels, recipe.factor) == (4, 4)
