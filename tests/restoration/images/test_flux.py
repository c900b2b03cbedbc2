from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.delivery import (
    _closed,
    _closed_on_light,
    _share_of_light,
    restored_once,
)
from dip_pipeline.restoration.delivering.restraint import NO_RESTRAINT
from dip_pipeline.restoration.images.flux import close_flux, keep_level
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.problem import FitOptions, NetworkKind
from dip_pipeline.restoration.scene.delivery import _corrected
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, FEATURE_CHANNELS
from dip_pipeline.restoration.views.regions import measure_sky, prepare

SHAPE = (1, 1, 96, 96)


def blob(width_px, height):
    axis = torch.arange(96, dtype=torch.float64) - 48
    profile = torch.exp(-0.5 * (axis / width_px) ** 2)
    return height * (profile[:, None] * profile[None, :])[None, None]


@pytest.fixture
def planes():
    """Truth, its dimmed estimate, sigma, and trust in every pixel."""
    truth = blob(4.0, 40.0)
    return truth, truth - blob(5.0, 2.0), torch.ones_like(truth), torch.ones_like(truth)


@pytest.mark.parametrize("scale_px", [1.5, 2.0, 3.0])
def test_closure_puts_back_the_light_that_an_estimate_lost(planes, scale_px):
    truth, dimmed, sigma, trusted = planes
    closed = close_flux(dimmed, truth, sigma, trusted, scale_px)
    lost = float((truth - dimmed).sum())
    assert abs(float((truth - closed).sum())) < 0.01 * lost
    # What is left of a Gaussian loss of width w at its peak is 1 - w^2 / (w^2 + s^2).
    left = float((truth - closed).max() / (truth - dimmed).max())
    assert left == pytest.approx(1 - 25 / (25 + scale_px**2), abs=0.02)


def test_a_scale_of_zero_changes_nothing(planes):
    truth, dimmed, sigma, trusted = planes
    assert torch.equal(close_flux(dimmed, truth, sigma, trusted, 0.0), dimmed)


def test_flagged_pixels_never_come_back(planes):
    truth, dimmed, sigma, trusted = planes
    trusted[..., 40:43, 50] = 0
    hit = truth.clone()
    hit[..., 40:43, 50] += 1e5
    clean = close_flux(dimmed, truth, sigma, trusted, 2.0)
    assert torch.equal(close_flux(dimmed, hit, sigma, trusted, 2.0), clean)


def test_light_is_put_back_around_flagged_pixels_as_elsewhere(planes):
    truth, _, sigma, trusted = planes
    trusted[..., 30:34, :] = 0
    closed = close_flux(truth - 1.0, truth, sigma, trusted, 2.0)
    torch.testing.assert_close(closed, truth)


def test_no_pixel_puts_back_more_than_five_sigma(planes):
    truth, _, sigma, trusted = planes
    by_five, by_many = truth.clone(), truth.clone()
    by_five[..., 20, 20] += 5 * 3.0
    by_many[..., 20, 20] += 1e5
    pair = [close_flux(truth, y, 3.0 * sigma, trusted, 2.0) for y in (by_five, by_many)]
    torch.testing.assert_close(*pair)


def test_the_level_of_diffuse_light_is_kept_whatever_the_networks_took_it_for(planes):
    _, _, sigma, trusted = planes
    diffuse = blob(30.0, 2.0)
    kept = keep_level(torch.zeros_like(diffuse), diffuse, sigma, trusted)
    left = diffuse - kept
    assert float(left.mean().abs()) < 0.03 * float(diffuse.mean())
    # What is left of a Gaussian of width w at its peak is 1 - w^2 / (w^2 + s^2).
    assert float(left.max()) == pytest.approx(2.0 * (1 - 30**2 / (30**2 + 16**2)), abs=0.05)


def test_keeping_the_level_hardly_brings_noise_back(planes):
    truth, _, sigma, trusted = planes
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = keep_level(truth, truth + noise, sigma, trusted)
    # 1 / (2 sqrt(pi) s) in a frame without end; borders are mirrored, so more there.
    assert 0.005 < float((kept - truth).std()) < 0.04


def test_the_noise_of_a_bright_star_does_not_move_the_sky_around_it(planes):
    truth, _, sigma, trusted = planes
    bright = sigma.clone()
    bright[..., 46:51, 46:51] = 50.0
    noisy = truth + 50.0 * (bright > 1)
    moved = keep_level(truth, noisy, bright, trusted) - truth
    assert 0 < float(moved.max()) < 0.01


def test_where_nothing_is_seen_nothing_is_put_back(planes):
    truth, _, sigma, trusted = planes
    nothing = torch.zeros_like(trusted)
    assert torch.equal(keep_level(truth, truth + 1.0, sigma, nothing), truth)


def test_holes_get_the_level_around_them(planes):
    truth, _, sigma, trusted = planes
    trusted[..., 40:52, 40:52] = 0
    hidden = torch.where(trusted > 0, truth, 1e5)
    torch.testing.assert_close(keep_level(truth - 1.0, hidden, sigma, trusted), truth)


def test_no_pixel_moves_the_level_by_more_than_its_three_sigma(planes):
    truth, _, sigma, trusted = planes
    by_three, by_many = truth.clone(), truth.clone()
    by_three[..., 20, 20] += 3 * 2.0
    by_many[..., 20, 20] += 1e5
    pair = [keep_level(truth, y, 2.0 * sigma, trusted) for y in (by_three, by_many)]
    torch.testing.assert_close(*pair)


def test_what_is_delivered_has_the_level_of_the_observation(problem, law):
    """Whatever the networks say of it, and with closure off."""
    noisy = np.random.default_rng(4).normal(0.0, 1.0, (128, 128))
    asked = problem(noisy, law.gaussian(1.0), options=FitOptions(views=1, flux_scale_px=0.0))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.constant_(network.last.bias, -0.5)
    share = torch.ones(1, 1, 128, 128)
    said, delivered = restored_once([network], [share], region, NO_RESTRAINT, asked.options)
    off_by = [float((image - region.observed).mean()) for image in (said, delivered)]
    assert off_by[0] < -0.2  # otherwise this test guards nothing
    assert abs(off_by[1]) < 0.02


def test_what_a_scene_shows_has_the_level_of_the_observation(problem, law):
    noisy = np.random.default_rng(4).normal(0.0, 1.0, (128, 128))
    asked = problem(noisy, law.gaussian(1.0), options=FitOptions(flux_scale_px=0.0))
    region = prepare(asked, measure_sky([asked]))
    dark = torch.full_like(region.observed, -0.5)
    planes = dark, region.observed, torch.zeros_like(dark)
    shown = _corrected(planes, region, NO_RESTRAINT, asked.options)
    assert abs(float((shown - region.observed).mean())) < 0.02


def test_a_star_that_no_network_drew_comes_back_into_a_scene(problem, law):
    """One that the observation is sure of, and at the whole scale the light of a faint one."""
    noisy = np.random.default_rng(4).normal(0.0, 1.0, (96, 96))
    dark = torch.zeros((1, 1, 96, 96))
    for light, scale_px, left in ((blob(1.5, 40.0), 0.0, 0.05), (blob(5.0, 0.8), 2.0, 0.25)):
        asked = problem(noisy, law.gaussian(1.0), options=FitOptions(flux_scale_px=scale_px))
        region = prepare(asked, measure_sky([asked]))
        planes = dark, light.to(dark), dark
        shown = _corrected(planes, region, NO_RESTRAINT, asked.options)
        assert float((planes[1] - shown).max()) < left * float(light.max())


def test_a_faint_star_gets_its_own_light_back_and_the_empty_sky_no_more_noise(problem, law):
    """A star of width 1 px, dimmed by a quarter: a scale of 2 px spreads what was lost."""
    star = blob(1.0, 6.0)[..., 16:80, 16:80].numpy()[0, 0]
    noisy = star + np.random.default_rng(4).normal(0.0, 1.0, star.shape)
    asked = problem(noisy, law.gaussian(1.0), options=FitOptions())
    region = prepare(asked, measure_sky([asked]))
    truth = torch.as_tensor(star)[None, None].to(region.observed)
    dimmed = 0.75 * truth
    once = _closed(dimmed, truth, region, asked.options)
    twice = _closed_on_light(dimmed, truth, region, asked.options)
    near = truth > 0.25 * truth.max()
    lost = float((truth - dimmed)[near].sum())
    left = [float((truth - image)[near].sum()) / lost for image in (once, twice)]
    assert left[0] > 0.6
    assert left[1] < 0.6 * left[0]
    # In a wide aperture there is no more light than was observed.
    assert abs(float((twice - truth).sum())) < 0.02 * float((truth - dimmed).sum())
    far = truth < 1e-3
    once = _closed(dimmed, region.observed, region, asked.options)
    twice = _closed_on_light(dimmed, region.observed, region, asked.options)
    assert float((once - dimmed)[far].std()) > 0.05  # noise that the wider scale let through
    assert float((twice - once)[far].std()) < 0.02


def test_a_flux_scale_of_zero_leaves_light_alone(problem, law):
    star = blob(1.0, 6.0)[0, 0].numpy()
    asked = problem(star, law.gaussian(1.0), options=FitOptions(flux_scale_px=0.0))
    region = prepare(asked, measure_sky([asked]))
    dimmed = 0.5 * region.observed
    assert torch.equal(_closed_on_light(dimmed, region.observed, region, asked.options), dimmed)


@pytest.fixture
def guided(problem, law):
    """An empty region that has a guide, and how it is to be closed."""
    noisy = np.random.default_rng(4).normal(0.0, 1.0, (96, 96))
    asked = problem(noisy, law.gaussian(1.0), options=FitOptions(flux_scale_px=2.0))
    region = prepare(asked, measure_sky([asked]))
    return replace(region, guides=torch.zeros(1, 2, 96, 96)), asked.options


def test_with_a_guide_the_flux_of_what_stands_out_is_closed_bright_or_dark(guided):
    """And from empty sky no noise comes back."""
    region, options = guided
    nothing = torch.zeros_like(region.observed)
    assert torch.equal(_closed(nothing, region.observed, region, options), nothing)
    for height in (8.0, -8.0):
        truth = blob(3.0, height).to(nothing)
        closed = _closed(0.75 * truth, truth, region, options)
        left = (truth - closed)[..., 48, 48] / (0.25 * height)
        assert abs(float(left)) < 0.5
    starry = replace(region, stars=blob(3.0, 8.0).to(nothing))
    closed = _closed(nothing, blob(3.0, 2.0).to(nothing), starry, options)
    assert float(closed[..., 48, 48]) > 1.0


def test_light_beside_what_stands_out_belongs_to_it():
    contrast = torch.zeros(1, 1, 9, 9)
    contrast[..., 4, 4] = 2.0
    for within_px in (1, 2):
        share = _share_of_light(contrast, within_px)
        near = slice(4 - within_px, 5 + within_px)
        assert bool((share[..., near, near] == 1).all())
        assert float(share.sum()) == (2 * within_px + 1) ** 2


def test_faint_light_is_closed_on_the_whole_scale_and_that_of_stars_on_the_half_one(guided):
    region, options = guided
    region = region.without_guides()
    nothing = torch.zeros_like(region.observed)
    diffuse = torch.full_like(nothing, 0.4)
    torch.testing.assert_close(_closed_on_light(nothing, diffuse, region, options), diffuse)
    lost = blob(1.0, 0.8).to(nothing)  # beneath a star that was taken off
    starry = replace(region, stars=10 * lost)
    mended = [
        float(_closed_on_light(nothing, lost, one, options)[..., 48, 48])
        for one in (region, starry)
    ]
    assert mended[1] > 1.5 * mended[0]
