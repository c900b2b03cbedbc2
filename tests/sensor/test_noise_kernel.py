"""Laws of the noise kernel: unit variance, and the correlation that was wanted."""

import numpy as np
import pytest

from dip_pipeline.errors import SensorError
from dip_pipeline.sensor.noise_kernel import WHITE, NoiseKernel, kernel_asked

LANCZOS = {(0, 1): 0.22, (0, 2): -0.16, (0, 3): 0.04}  # a frame shifted by half a pixel


def table(values, reach=4):
    plane = np.zeros((2 * reach + 1, 2 * reach + 1))
    plane[reach, reach] = 1.0
    for (row, col), value in values.items():
        plane[reach + row, reach + col] = plane[reach - row, reach - col] = value
    return plane


def around(kernel, reach):
    """Its correlation up to some lag, zero where it does not reach."""
    found = np.pad(kernel.correlation, reach)
    middle = len(found) // 2
    inside = slice(middle - reach, middle + reach + 1)
    return found[inside, inside]


@pytest.mark.parametrize("wanted", [0.05, 0.4, 0.7])
def test_a_neighbour_correlation_is_had_exactly(wanted):
    kernel = NoiseKernel.from_neighbour(wanted, "test")
    assert kernel.neighbours == pytest.approx((wanted, wanted))
    assert around(kernel, 1)[0, 0] == pytest.approx(wanted**2)
    assert np.square(kernel.root).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "wanted",
    [
        table(LANCZOS),
        table({(0, 1): 0.5, (1, 0): 0.5, (1, 1): 0.25, (1, -1): 0.25}),
        table({(1, 0): -0.25}),
        table({(0, 1): 0.3, (1, 0): 0.1, (1, 1): 0.1}),
    ],
    ids=["lanczos", "bilinear", "negative", "slanted"],
)
def test_a_correlation_by_lag_is_had_and_the_variance_is_one(wanted):
    kernel = NoiseKernel.from_correlation(wanted, "test")
    np.testing.assert_allclose(around(kernel, 4), wanted, atol=0.01)
    assert np.square(kernel.root).sum() == pytest.approx(1.0)


def test_a_correlation_that_no_noise_can_have_gives_a_kernel_all_the_same():
    kernel = NoiseKernel.from_correlation(table({(0, 1): 0.9}), "test")
    assert np.square(kernel.root).sum() == pytest.approx(1.0)
    assert 0.4 < kernel.neighbours[1] < 0.9


def test_white_noise_is_one_pixel():
    assert WHITE.is_white
    assert WHITE.neighbours == (0.0, 0.0)
    assert WHITE.widening == 1.0
    assert NoiseKernel.from_neighbour(0.0, "test").root == WHITE.root
    assert NoiseKernel.from_correlation(table({}), "test").root == WHITE.root


def test_a_mean_of_squares_scatters_as_much_wider_as_is_said():
    kernel = NoiseKernel.from_neighbour(0.4, "test")
    rng = np.random.default_rng(1)
    spectrum = np.fft.fft2(np.array(kernel.root), (64, 64))
    means = [
        np.mean(np.fft.ifft2(np.fft.fft2(rng.standard_normal((64, 64))) * spectrum).real ** 2)
        for _ in range(400)
    ]
    white = np.sqrt(2 / 64**2)
    assert np.std(means) / white == pytest.approx(kernel.widening, rel=0.15)
    assert kernel.widening > 1.2


def test_a_filter_passes_its_share_of_the_variance():
    kernel = NoiseKernel.from_neighbour(0.4, "test")
    mean_of_two = np.array([[0.5, 0.5]])
    assert kernel.passed(mean_of_two) == pytest.approx(1.4)  # (1 + 0.4) / 2 over 1 / 2
    assert WHITE.passed(mean_of_two) == pytest.approx(1.0)


def test_what_is_asked_for_is_read():
    assert kernel_asked("auto") is None
    assert kernel_asked("white").is_white
    assert kernel_asked("0.25").neighbours == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("text", ["pink", "-0.1", "0.8", "nan", ""])
def test_what_cannot_be_a_correlation_is_refused_in_one_line(text):
    with pytest.raises(SensorError, match=r"need auto, white, or .* 0 to 0\.7") as caught:
        kernel_asked(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("root", [((1.0, 0.0), (0.0, 0.0)), ((2.0,),), ((0.6, 0.8, 0.0),)])
def test_a_root_that_is_none_is_refused(root):
    with pytest.raises(SensorError, match="odd square"):
        NoiseKernel(root)


def test_it_is_said_in_words():
    words = str(NoiseKernel.from_correlation(table(LANCZOS), "measured"))
    assert words == "0.22 with the next pixel of a row, 0.00 of a column (measured)"
    assert str(NoiseKernel(source="asked for")) == "white (asked for)"
    farther = NoiseKernel.from_correlation(table({(0, 2): -0.1}), "measured")
    assert str(farther) == "-0.10 with the pixel 0 rows and 2 columns away (measured)"
