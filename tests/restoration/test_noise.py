import numpy as np
import pytest
import torch

from dip_pipeline.errors import SensorError
from dip_pipeline.restoration.noise import join_copies, law_for, split_observation

PIXELS = 2_000_000
LAWS = ["gaussian", "error plane", "sensor", "pedestal", "subtracted sky", "mean of 4"]


def case(name, law):
    """Noise law and noiseless levels of its pixels."""
    levels = torch.linspace(5.0, 60.0, PIXELS, dtype=torch.float64)
    if name == "gaussian":
        return law_for(law.gaussian(3.0)), levels
    if name == "error plane":
        return law_for(law.error_plane, 1 + levels / 20), levels
    if name == "sensor":
        return law_for(law.sensor(gain=2.0, read_noise=3.0)), levels
    if name == "pedestal":
        return law_for(law.sensor(gain=0.5, read_noise=3.0, pedestal=1000.0)), levels + 1000
    if name == "subtracted sky":
        return law_for(law.sensor(gain=2.0, read_noise=3.0, sky=50.0)), levels - 45
    return law_for(law.sensor(gain=2.0, read_noise=3.0, combined=4.0)), levels


def pixel_gradients(expected, objective):
    expected = expected.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(expected), expected)
    return gradient * expected.numel()


def standard_errors_from_zero(values):
    return abs(float(values.mean())) / float(values.std() / values.numel() ** 0.5)


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_of_the_likelihood_is_zero_in_the_mean_at_the_truth(name, law):
    noise, truth = case(name, law)
    observed = noise.sample(truth, torch.Generator().manual_seed(11))
    gradients = pixel_gradients(truth, lambda expected: noise.nll(expected, observed))
    assert standard_errors_from_zero(gradients) < 4.5


def test_without_its_log_term_the_likelihood_pulls_towards_bright_pixels(law):
    noise, truth = case("sensor", law)
    observed = noise.sample(truth, torch.Generator().manual_seed(11))

    def without_log(expected):
        return (0.5 * (observed - expected) ** 2 / noise.variance(expected)).mean()

    gradients = pixel_gradients(truth, without_log)
    assert standard_errors_from_zero(gradients) > 20  # so 4.5 above is a test with teeth
    assert float(gradients.mean()) < 0


def test_squared_error_is_least_at_the_mean(law):
    noise = law_for(law.none)
    observed = torch.tensor([1.0, 2.0, 6.0, float("nan")])
    gradients = pixel_gradients(torch.full((4,), 3.0), lambda level: noise.nll(level, observed))
    assert float(gradients.sum()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_samples_scatter_as_the_variance_says(name, law):
    noise, truth = case(name, law)
    observed = noise.sample(truth, torch.Generator().manual_seed(12))
    relative = (observed - truth) ** 2 / noise.variance(truth)
    error = float(relative.std() / PIXELS**0.5)
    assert float(relative.mean()) == pytest.approx(1.0, abs=4.5 * error)
    assert standard_errors_from_zero(observed - truth) < 4.5


def test_the_variance_follows_the_formula_of_the_sensor(law):
    noise = law_for(law.sensor(gain=2.0, read_noise=6.0, pedestal=100.0, sky=40.0, combined=4.0))
    levels = torch.tensor([200.0, 100.0, 60.0, 0.0], dtype=torch.float64)
    light = np.array([140.0, 40.0, 0.0, 0.0])
    np.testing.assert_allclose(noise.variance(levels), (light / 2 + 9.0) / 4, rtol=1e-12)


def test_pixels_that_are_not_known_have_no_likelihood(law):
    noise = law_for(law.sensor())
    expected = torch.tensor([10.0, 20.0])
    alone = noise.nll(expected[:1], torch.tensor([12.0]))
    with_nan = noise.nll(expected, torch.tensor([12.0, float("nan")]))
    assert float(alone) == float(with_nan)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_split_copies_are_independent_given_the_truth(strength, law):
    generator = torch.Generator().manual_seed(13)
    sigma = torch.linspace(1.0, 4.0, PIXELS)
    observed = sigma * torch.randn(PIXELS, generator=generator)
    first, second = split_observation(observed, sigma, strength, generator)
    correlation = np.corrcoef(first / sigma, second / sigma)[0, 1]
    assert abs(correlation) < 4.5 / PIXELS**0.5
    for copy, variance in ((first, 1 + strength**2), (second, 1 + strength**-2)):
        relative = float((copy / sigma).var()) / variance
        assert relative == pytest.approx(1.0, abs=4.5 * (2 / PIXELS) ** 0.5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_split_copies_join_to_the_observation(strength):
    generator = torch.Generator().manual_seed(14)
    observed = 100 * torch.randn(1000, generator=generator, dtype=torch.float64)
    copies = split_observation(observed, torch.tensor(3.0), strength, generator)
    torch.testing.assert_close(join_copies(*copies, strength), observed)


def test_noise_without_a_strength_is_not_drawn(law):
    with pytest.raises(SensorError, match="give a noise law"):
        law_for(law.none).sample(torch.zeros(3), torch.Generator())


def test_a_named_error_plane_must_be_there(law):
    with pytest.raises(SensorError, match="error plane"):
        law_for(law.error_plane)


@pytest.mark.parametrize("sigma", [1e-25, 1e25])
def test_no_sigma_is_too_small_or_too_large_to_square(sigma, law):
    variance = law_for(law.gaussian(sigma)).variance(torch.zeros(2, dtype=torch.float64))
    np.testing.assert_allclose(variance.sqrt(), sigma, rtol=1e-12)
