import numpy as np
import pytest
import torch

from dip_pipeline.restoration import cross_fitting, fit_prior
from dip_pipeline.restoration.features import ANSWER_CHANNELS, FEATURE_CHANNELS
from dip_pipeline.restoration.fitted import Fitted
from dip_pipeline.restoration.networks import build_network
from dip_pipeline.restoration.problem import NetworkKind, StopReason
from dip_pipeline.restoration.regions import CrossFit

SHAPES = [(16, 16), (17, 31), (48, 64), (192, 192), (1000, 4000)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shares_of_the_two_networks_sum_to_one_everywhere(shape):
    cross_fit = CrossFit.for_shape(shape)
    region = (min(shape[0], 300), min(shape[1], 300))
    shares = [cross_fit.share(half, (0, 0), region) for half in (0, 1)]
    torch.testing.assert_close(shares[0] + shares[1], torch.ones(1, 1, *region))
    assert all((share >= 0).all() for share in shares)
    assert all((share == 0).any() and (share == 1).any() for share in shares)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("origin", [(5, 0), (64, 37), (100, 220)])
def test_regions_that_overlap_agree_on_the_shares(shape, origin):
    cross_fit = CrossFit.for_shape(shape)
    for half in (0, 1):
        whole = cross_fit.share(half, (0, 0), (260, 300))
        rows, cols = slice(origin[0], origin[0] + 40), slice(origin[1], origin[1] + 70)
        assert torch.equal(cross_fit.share(half, origin, (40, 70)), whole[..., rows, cols])


@pytest.mark.parametrize("origin", [(0, 0), (13, 30)])
def test_no_network_is_fitted_where_it_restores(monkeypatch, problem, law, origin):
    zones = []

    def note_zone(fit_on, judge_on, options, **more):
        drawn = [fit_on.draw(1) for _ in range(20)]
        assert all(float(batch.weight.sum()) > 0 for batch in drawn)
        zones.append((fit_on._weights[0] > 0, judge_on._weights[0] > 0))
        network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
        return Fitted(network, 1, StopReason.STEP_LIMIT, 0.1)

    monkeypatch.setattr(cross_fitting, "fit_image_network", note_zone)
    pixels = np.random.default_rng(1).normal(0, 1, (64, 80))
    asked = problem(pixels, law.gaussian(1.0), origin=origin)
    fitted = fit_prior([asked], (64, 80), seed=1)
    for half, (fitted_on, judged_on) in enumerate(zones):
        share = fitted.cross_fit.share(half, origin, (64, 80))
        assert fitted_on.any()
        assert float(share[fitted_on].max()) == 0
        assert float(share[judged_on].min()) == 1
    assert not (zones[0][0] & zones[1][0]).any()
