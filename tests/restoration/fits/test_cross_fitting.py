import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.asking import windows_of
from dip_pipeline.restoration.fits import cross_fitting
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.networks.architectures import UNet, build_network
from dip_pipeline.restoration.priors.fit_size import folds_for
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, NetworkKind, StopReason
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, FEATURE_CHANNELS

FOLDS = [2, 4]
SHAPES = [(16, 16), (17, 31), (48, 64), (192, 192), (1000, 4000)]


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shares_of_the_networks_sum_to_one_everywhere(shape, folds):
    cross_fit = CrossFit.for_shape(shape, folds)
    region = (min(shape[0], 600), min(shape[1], 600))
    shares = [cross_fit.share(fold, (0, 0), region) for fold in range(folds)]
    torch.testing.assert_close(sum(shares), torch.ones(1, 1, *region))
    assert all((share >= 0).all() for share in shares)
    assert all((share == 0).any() and (share == 1).any() for share in shares)


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("origin", [(5, 0), (64, 37), (100, 220)])
def test_regions_that_overlap_agree_on_the_shares(shape, origin, folds):
    cross_fit = CrossFit.for_shape(shape, folds)
    for fold in range(folds):
        whole = cross_fit.share(fold, (0, 0), (260, 300))
        rows, cols = slice(origin[0], origin[0] + 40), slice(origin[1], origin[1] + 70)
        assert torch.equal(cross_fit.share(fold, origin, (40, 70)), whole[..., rows, cols])


@pytest.mark.parametrize("shape", SHAPES)
def test_of_four_networks_each_is_fitted_on_three_quarters(shape):
    cross_fit = CrossFit.for_shape(shape, 4)
    side = 4 * cross_fit.block_px
    fitted = [
        float((cross_fit.share(f, (0, 0), (side, side)) == 0).double().mean()) for f in (0, 3)
    ]
    assert all(0.5 <= share <= 0.75 for share in fitted)


@pytest.mark.parametrize(("effort", "folds"), [(Effort.FAST, 2), (Effort.NORMAL, 4)])
@pytest.mark.parametrize("origin", [(0, 0), (13, 30)])
def test_no_network_is_fitted_where_it_restores(monkeypatch, problem, law, origin, effort, folds):
    zones = {}

    def note_zone(fit_on, judge_on, options, **more):
        drawn = [fit_on.draw(1) for _ in range(20)]
        assert all(float(batch.weight.sum()) > 0 for batch in drawn)
        network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
        zones[network] = (fit_on._weights[0] > 0, judge_on._weights[0] > 0)
        return Fitted(network, 1, StopReason.STEP_LIMIT, 0.1)

    monkeypatch.setattr(cross_fitting, "fit_image_network", note_zone)
    pixels = np.random.default_rng(1).normal(0, 1, (64, 80))
    options = FitOptions(effort=effort)
    asked = problem(pixels, law.gaussian(1.0), origin=origin, options=options)
    fitted = fit_prior([asked], (64, 80), seed=1)
    assert len(fitted.networks) == fitted.cross_fit.folds == folds
    for fold, network in enumerate(fitted.networks):
        fitted_on, judged_on = zones[network]
        share = fitted.cross_fit.share(fold, origin, (64, 80))
        assert fitted_on.any()
        assert float(share[fitted_on].max()) == 0
        assert float(share[judged_on].min()) == 1


@pytest.mark.parametrize(
    ("pixels", "effort", "folds"),
    [
        (1024**2, Effort.NORMAL, 4),
        (1024**2 + 1, Effort.NORMAL, 2),
        (64**2, Effort.BEST, 4),
        (64**2, Effort.FAST, 2),
    ],
)
def test_small_frames_have_four_networks(pixels, effort, folds):
    assert folds_for(pixels, FitOptions(effort=effort)) == folds


@pytest.mark.parametrize("folds", [2, 4])
@pytest.mark.parametrize("shape", [(48, 60), (150, 210), (256, 256), (1024, 900)])
def test_networks_are_asked_only_where_they_are_used(shape, folds):
    crossed = CrossFit.for_shape(shape, folds)
    shares = [crossed.share(fold, (0, 0), shape) for fold in range(folds)]
    padded = [
        torch.nn.functional.pad(s, (16, 16 - shape[1] % -4, 16, 16 - shape[0] % -4)) for s in shares
    ]
    for share in padded:
        windows = windows_of(share, 4, 16)
        inside = torch.zeros_like(share)
        for core, window in windows:
            inside[(..., *core)] += 1
            for own, seen, side in zip(core, window, share.shape[-2:], strict=True):
                assert seen.start % 4 == 0
                assert seen.stop % 4 == 0
                assert seen.start <= max(0, own.start - 16)
                assert seen.stop >= min(side, own.stop + 16)
        assert (inside[share > 0] == 1).all()
    rows, cols = padded[0].shape[-2:]
    everything = slice(0, rows), slice(0, cols)
    assert windows_of(padded[0], 4, None) == [(everything, everything)]


def test_a_network_is_asked_for_little_where_a_tile_lies_in_a_block_of_another():
    shape = 544, 544
    crossed = CrossFit.for_shape((4096, 4096), 2)
    share = torch.nn.functional.pad(crossed.share(1, (480, 480), shape), (16,) * 4)
    windows = windows_of(share, 4, 16)
    asked = sum((r.stop - r.start) * (c.stop - c.start) for _, (r, c) in windows)
    assert asked < 0.5 * share.numel()


def test_asked_by_windows_networks_say_what_they_say_of_the_whole(problem, law, monkeypatch):
    pixels = np.random.default_rng(2).normal(0, 1, (256, 256))
    pixels[30:40, 60:70] += 30
    asked = problem(pixels, law.gaussian(1.0), options=FitOptions(steps=1, views=1))
    prior = fit_prior([asked], (256, 256), seed=1)
    said = restore(asked, prior).science
    monkeypatch.setattr(UNet, "reach_px", None)
    np.testing.assert_allclose(said, restore(asked, prior).science, atol=2e-4)
