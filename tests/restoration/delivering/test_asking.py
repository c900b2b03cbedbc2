"""What networks are asked, and where nobody asks them."""

import dataclasses

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering import asking
from dip_pipeline.restoration.delivering.asking import ask_networks
from dip_pipeline.restoration.images.filling import WIDE, fill
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.problem import FitOptions, NetworkKind
from dip_pipeline.restoration.views import features
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, FEATURE_CHANNELS
from dip_pipeline.restoration.views.regions import measure_sky, prepare


def test_below_a_bright_star_a_hole_is_filled_from_around_it(problem, law):
    """Whatever networks say there: they see no pixel of it, and have seen nothing like it."""
    pixels = np.random.default_rng(3).normal(0.0, 1.0, (64, 64))
    masked = np.zeros((64, 64), bool)
    masked[30:36] = True
    asked = problem(pixels, law.gaussian(1.0), masked=masked, options=FitOptions(views=1))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.constant_(network.last.bias, 3.0)
    bright, faint = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    bright[..., 20:40] = 50.0
    faint[..., 20:40] = 0.5
    said, told = (
        ask_networks(
            [network],
            [torch.ones(1, 1, 64, 64)],
            dataclasses.replace(region, stars=stars),
            asked.options,
            seed=1,
        ).plain
        for stars in (bright, faint)
    )
    filled = fill(region.observed, region.known, region.covariance, WIDE)
    below = (1 - region.known) * (bright > 0) > 0
    torch.testing.assert_close(said[below], filled[below])
    assert (told[below] - filled[below]).abs().min() > 0.1
    torch.testing.assert_close(said[~below], told[~below])


def test_what_cannot_be_noise_is_as_it_was_observed_whatever_networks_say(problem, law):
    """They say that all is 20 sigma fainter than it is; where a pixel is masked nobody objects."""
    pixels = np.random.default_rng(3).normal(0.0, 1.0, (64, 64))
    masked = np.zeros((64, 64), bool)
    masked[20:40, 20:40] = True
    asked = problem(pixels, law.gaussian(1.0), masked=masked, options=FitOptions(views=1))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.zeros_(network.last.bias)
    network.last.bias.data[-1] = -20.0  # the residual
    said = ask_networks([network], [torch.ones(1, 1, 64, 64)], region, asked.options, seed=1).plain
    known = region.known > 0
    torch.testing.assert_close(said[known], region.observed[known], atol=1e-4, rtol=1e-4)
    assert float(said[..., 26:34, 26:34].max()) < -15


def test_holes_are_filled_and_features_laid_out_once_for_all_views(problem, law, monkeypatch):
    """Filling takes longer than the networks do; from which side a hole is seen is no matter."""
    masked = np.zeros((64, 64), bool)
    masked[30:36] = True
    pixels = np.random.default_rng(3).normal(0.0, 1.0, (64, 64))
    asked = problem(pixels, law.gaussian(1.0), masked=masked, options=FitOptions(views=8))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    filled = []
    monkeypatch.setattr(asking, "fill", lambda *given: filled.append(1) or fill(*given))
    monkeypatch.setattr(features, "fill", lambda *given: filled.append(1) or fill(*given))
    seen = []
    monkeypatch.setattr(asking, "view", lambda *given: seen.append(1) or features.view(*given))
    ask_networks([network], [torch.ones(1, 1, 64, 64)], region, asked.options, seed=1)
    assert len(filled) == len(seen) == 2  # as it was observed, and slightly moved


@pytest.mark.parametrize("shape", [(64, 64), (48, 64)])
def test_views_asked_for_together_say_what_each_says_alone(problem, law, monkeypatch, shape):
    """A GPU is asked for all views of one shape at once."""
    masked = np.zeros(shape, bool)
    masked[20:23] = True
    pixels = np.random.default_rng(3).normal(5.0, 1.0, shape)
    asked = problem(pixels, law.gaussian(1.0), masked=masked, options=FitOptions(views=8))
    region = prepare(asked, measure_sky([asked]))
    networks = [
        build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=seed)
        for seed in (1, 2)
    ]
    for seed, network in enumerate(networks):
        generator = torch.Generator().manual_seed(seed)
        torch.nn.init.normal_(network.last.weight, std=0.05, generator=generator)
    share = torch.zeros(1, 1, *shape)
    share[..., : shape[1] // 2] = 1.0
    shares = [share, 1 - share]
    alone = ask_networks(networks, shares, region, asked.options, seed=1)
    groups = [[0, 2, 4, 6], [1, 3, 5, 7]] if shape[0] != shape[1] else [range(5), range(5, 8)]
    monkeypatch.setattr(asking, "_together", lambda *_: groups)
    monkeypatch.setattr(
        asking,
        "windows_of",
        lambda share, *_: [((slice(0, share.shape[-2]), slice(0, share.shape[-1])),) * 2],
    )
    together = ask_networks(networks, shares, region, asked.options, seed=1)
    torch.testing.assert_close(together.plain, alone.plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.scatter, alone.scatter, rtol=1e-3, atol=1e-3)
    assert float(alone.scatter.max()) > 0.01


def test_only_a_gpu_is_asked_for_many_views_at_once():
    views = range(8)
    plane = torch.zeros(1, 1, 4, 6)
    assert asking._together(views, plane) == [[number] for number in views]
    there = asking._together(views, plane.to("meta"))
    assert there == [[0, 2, 4, 6], [1, 3, 5, 7]]
    large = torch.zeros(1, 1, 1500, 1400, device="meta")
    assert all(len(group) == 1 for group in asking._together(views, large))


@pytest.mark.parametrize("shape", [(48, 64), (50, 63)])
def test_views_are_turned_back_before_they_are_averaged(problem, law, shape):
    """A network that answers nothing gives a symmetric mean: the same from every side."""
    pixels = np.random.default_rng(3).normal(5.0, 1.0, shape)
    asked = problem(pixels, law.gaussian(1.0))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    once, often = (
        ask_networks([network], [torch.ones(1, 1, *shape)], region, options, seed=1)
        for options in (FitOptions(views=1), FitOptions(views=8))
    )
    torch.testing.assert_close(often.plain, once.plain, rtol=1e-4, atol=1e-4)
    assert float(often.scatter.max()) < 1e-3
