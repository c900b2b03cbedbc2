import numpy as np
import pytest
import torch

from dip_pipeline.errors import SensorError
from dip_pipeline.restoration.noise.laws import law_for, split_along
from dip_pipeline.sensor import NoiseKind, NoiseModel

PIXELS = 2_000_000
LAWS = [
    "gaussian",
    "error plane",
    "sensor",
    "pedestal",
    "subtracted sky",
    "mean of 4",
    "counts",
    "mean of 4 counts",
    "correlated",
]


def case(name, law):
    """Noise law and noiseless levels of its pixels."""
    levels = torch.linspace(5.0, 60.0, PIXELS, dtype=torch.float64)
    if name == "gaussian":
        return law_for(law.gaussian(3.0)), levels
    if name == "error plane":
        return law_for(law.error_plane, 1 + levels / 20), levels
    if name == "correlated":
        return law_for(law.correlated(law.sensor(gain=2.0, read_noise=3.0))), plane(levels)
    model, offset = {
        "sensor": (law.sensor(gain=2.0, read_noise=3.0), 0),
        "pedestal": (law.sensor(gain=0.5, read_noise=3.0, pedestal=1000.0), 1000),
        "subtracted sky": (law.sensor(gain=2.0, read_noise=3.0, sky=50.0), -45),
        "mean of 4": (law.sensor(gain=2.0, read_noise=3.0, combined=4.0), 0),
        "counts": (law.counts(), 0),
        "mean of 4 counts": (law.counts(gain=2.0, pedestal=100.0, combined=4.0), 100),
    }[name]
    return law_for(model), levels + offset


def plane(levels):
    """Levels as one image; what is left over is left out."""
    return levels[: 1400 * 1400].view(1, 1, 1400, 1400)


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
    most = 4.5 * float(law.kernel.correlation.sum()) ** 0.5 if name == "correlated" else 4.5
    assert standard_errors_from_zero(gradients) < most


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
    wider = law.kernel.widening if name == "correlated" else 1.0
    assert float(relative.mean()) == pytest.approx(1.0, abs=4.5 * wider * error)
    # Of a mean itself the scatter grows by more than that of a mean of squares.
    most = 4.5 * float(law.kernel.correlation.sum()) ** 0.5 if name == "correlated" else 4.5
    assert standard_errors_from_zero(observed - truth) < most


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
    noise = sigma * torch.randn(PIXELS, generator=generator)
    first, second = split_along(observed, noise, strength)
    correlation = np.corrcoef(first / sigma, second / sigma)[0, 1]
    assert abs(correlation) < 4.5 / PIXELS**0.5
    for copy, variance in ((first, 1 + strength**2), (second, 1 + strength**-2)):
        relative = float((copy / sigma).var()) / variance
        assert relative == pytest.approx(1.0, abs=4.5 * (2 / PIXELS) ** 0.5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_split_copies_join_to_the_observation(strength):
    generator = torch.Generator().manual_seed(14)
    observed = 100 * torch.randn(1000, generator=generator, dtype=torch.float64)
    noise = 3 * torch.randn(1000, generator=generator, dtype=torch.float64)
    first, second = split_along(observed, noise, strength)
    torch.testing.assert_close((first + strength**2 * second) / (1 + strength**2), observed)


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


def test_correlated_draws_hang_together_as_the_kernel_says(law):
    noise, truth = case("correlated", law)
    unit = (noise.sample(truth, torch.Generator().manual_seed(15)) - truth).double()
    unit /= noise.variance(truth).sqrt()
    assert float((unit[..., 1:] * unit[..., :-1]).mean()) == pytest.approx(0.4, abs=0.01)


def test_whole_numbers_are_drawn_where_the_pixels_are_rounded(law):
    coarse = law_for(law.sensor(gain=10.0, read_noise=4.0, quantum=1.0))
    truth = torch.linspace(0.0, 1.0, PIXELS, dtype=torch.float64)
    observed = coarse.sample(truth, torch.Generator().manual_seed(16))
    assert torch.equal(observed, observed.round())
    relative = (observed - truth) ** 2 / coarse.variance(truth)
    assert float(relative.mean()) == pytest.approx(1.0, abs=0.01)
    fine = law_for(law.sensor(gain=10.0, read_noise=4.0))
    np.testing.assert_allclose(coarse.variance(truth) - fine.variance(truth), 1 / 12)


def test_no_sigma_of_counts_is_zero_where_levels_are_means_of_eight_pixels(law):
    counts = law_for(law.counts(gain=2.0, pedestal=100.0))
    dark = torch.tensor([counts.dark_level], dtype=torch.float64)
    assert float(counts.variance(dark)) == pytest.approx(0.5**2 / 8)  # an eighth of a count
    assert float(counts.variance(torch.tensor([100.0]))) == 0


def test_counts_need_a_gain():
    with pytest.raises(SensorError, match="--gain"):
        law_for(NoiseModel(NoiseKind.POISSON, "test"))
