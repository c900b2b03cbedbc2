import numpy as np
import pytest
import torch
from scipy import ndimage

from dip_pipeline.restoration.delivering.restraint import (
    NO_RESTRAINT,
    Restraint,
    believable,
    least_risk,
)
from dip_pipeline.restoration.images.spectral import StarLight
from dip_pipeline.restoration.noise.correlation import draw_noise, root_of
from dip_pipeline.sensor.noise_kernel import NoiseKernel


def planes(*values):
    return [torch.tensor(row, dtype=torch.float32)[None, None, None] for row in values]


def test_without_restraint_the_networks_image_is_taken():
    estimate, observed, sigma, trusted = planes([1.0, 50.0], [9.0, 9.0], [1.0, 1.0], [1.0, 1.0])
    assert torch.equal(NO_RESTRAINT.apply(estimate, observed, sigma, trusted), estimate)


def test_bright_pixels_are_mixed_by_their_share():
    estimate, observed, sigma, trusted = planes(
        [1.0, 200.0, 200.0], [3.0, 240.0, 240.0], [1.0, 2.0, 2.0], [1.0, 1.0, 0.0]
    )
    mixed = Restraint((10.0, 100.0), (1.0, 0.25)).apply(estimate, observed, sigma, trusted)
    # Faint: the network's; bright: a quarter of its correction; not trusted: the network's.
    np.testing.assert_allclose(mixed.ravel(), [1.0, 230.0, 200.0], rtol=1e-6)


def test_light_of_stars_that_were_taken_off_counts_as_brightness():
    """What is left of a bright star is faint, and its noise is that of its light."""
    estimate, observed, sigma, trusted, light = planes([0.0], [40.0], [2.0], [1.0], [200.0])
    restraint = Restraint((10.0, 100.0), (1.0, 0.25))
    mixed = restraint.apply(estimate, observed, sigma, trusted, StarLight(off=light))
    assert float(mixed) == pytest.approx(30.0)


@pytest.mark.parametrize("passed", [0.0, 0.4])
@pytest.mark.parametrize("bias_sigma", [0.5, 1.0, 3.0])
def test_the_share_is_that_of_least_true_risk(bias_sigma, passed):
    """A network that passes on a share of the noise, and is off: x = truth + bias + share noise."""
    rng = np.random.default_rng(6)
    noise = rng.standard_normal(200_000)
    found = bias_sigma + passed * noise
    responses = np.full(noise.size, passed)
    restraint = least_risk(np.full(noise.size, 50.0), (found - noise) ** 2, responses)
    tried = np.linspace(0, 1, 101)
    risks = [np.mean((noise + share * (found - noise)) ** 2) for share in tried]
    assert restraint.shares == pytest.approx((tried[np.argmin(risks)],), abs=0.03)


def test_faint_pixels_are_the_networks_own():
    restraint = least_risk(np.full(1000, 1.0), np.full(1000, 99.0), np.zeros(1000))
    assert restraint.shares == (1.0,)


def test_a_few_bright_pixels_say_nothing_of_those_fainter():
    """A faint glow in a frame of sky, the brightest of it contradicted by noise told too small."""
    brightness = np.repeat([0.1, 2.9, 3.5], [10_000, 1000, 100])
    squares = np.repeat([1.0, 1.0, 2.0], [10_000, 1000, 100])
    restraint = least_risk(brightness, squares, np.zeros(brightness.size))
    estimate, observed, sigma, trusted = planes([1.8, 2.9, 3.5], [9.0] * 3, [1.0] * 3, [1.0] * 3)
    mixed = restraint.apply(estimate, observed, sigma, trusted)
    np.testing.assert_allclose(mixed.ravel(), [1.8, 2.9, 6.25], rtol=1e-6)


def test_no_bright_pixels_no_restraint():
    assert least_risk(np.zeros(3), np.zeros(3), np.zeros(3)) == NO_RESTRAINT


def field(correlation):
    root = root_of(NoiseKernel.from_neighbour(correlation, "test"))
    one = torch.ones(1, 1, 128, 128)
    return draw_noise(one, torch.Generator().manual_seed(1), root), one, root


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_a_residual_that_may_be_noise_is_believed(correlation):
    noise, one, root = field(correlation)
    truth = torch.full_like(noise, 7.0)
    kept = believable(truth, truth + noise, one, one, root)
    torch.testing.assert_close(kept, truth, rtol=1e-6, atol=1e-5)


def test_an_estimate_that_the_observation_contradicts_gives_way_to_it():
    noise, one, root = field(0.0)
    truth = torch.full_like(noise, 7.0)
    wrong = truth.clone()
    wrong[..., 40:60, 40:60] -= 4.0  # each pixel by less than would be seen in it alone
    kept = believable(wrong, truth + noise, one, one, root)
    inside = (..., slice(42, 58), slice(42, 58))
    torch.testing.assert_close(kept[inside], (truth + noise)[inside], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(kept[..., :30, :], truth[..., :30, :], rtol=1e-6, atol=1e-5)


def test_pixels_that_are_not_trusted_contradict_nothing():
    noise, one, root = field(0.0)
    truth, trusted = torch.zeros_like(noise), one.clone()
    observed = truth + noise
    observed[..., 64, :] += 1000.0
    trusted[..., 64, :] = 0
    kept = believable(truth, observed, one, trusted, root)
    torch.testing.assert_close(kept, truth, rtol=1e-6, atol=1e-5)


def test_beside_pixels_that_are_not_trusted_noise_scatters_less_and_a_contradiction_is_seen():
    """From 5 to 8 of the standard deviations that the sum over what is trusted has by noise."""
    shape, half = (24, 20), np.zeros((24, 20))
    half[:12] = 1.0
    draws = np.random.default_rng(3).standard_normal((6000, *shape)) * half
    scatter = ndimage.gaussian_filter(draws, (0, 1, 1))[:, 11, 10].std()
    off = 6.5 * scatter / ndimage.gaussian_filter(half, 1.0)[11, 10]
    trusted = torch.from_numpy(half).float()[None, None]
    one = torch.ones_like(trusted)
    kept = believable(0 * one, off * one, one, trusted, None)
    assert float(kept[0, 0, 11, 10]) / off == pytest.approx(0.5, abs=0.06)
