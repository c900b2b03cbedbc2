import numpy as np
import pytest
import torch

from dip_pipeline.restoration.images.spectral import (
    NOTHING_LOST,
    LostLight,
    Trial,
    _noise_spectrum,
    _sum_of_waves,
    _waves,
    filtered,
    least_loss,
)
from dip_pipeline.restoration.images.spikes import find_spikes
from dip_pipeline.restoration.noise.correlation import draw_noise, root_of
from dip_pipeline.sensor.noise_kernel import NoiseKernel

ALWAYS = LostLight((0.0,), (0.2,))


def white(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stars(side, peak):
    """A grid of stars of that peak, in sigma."""
    rows, cols = np.mgrid[:side, :side] % 16 - 7.5
    image = peak * np.exp(-(rows**2 + cols**2) / (2 * 1.3**2))
    return torch.from_numpy(image).float()[None, None]


def test_nothing_is_put_back_where_nothing_is_lost():
    truth, noise, one = stars(32, 50.0), white(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    assert torch.equal(NOTHING_LOST.put_back(truth, truth + noise, one, one), truth)


def test_a_dark_image_takes_nothing_of_the_noise():
    dark, noise, one = torch.zeros(1, 1, 40, 40), white(1, 1, 40, 40), torch.ones(1, 1, 40, 40)
    assert torch.equal(ALWAYS.put_back(dark, noise, one, one), dark)


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_lost_light_comes_back_and_little_noise_with_it(share):
    truth, noise, one = stars(96, 60.0), white(1, 1, 96, 96), torch.ones(1, 1, 96, 96)
    dimmed = share * truth
    back = LostLight((0.0,), (1 - share,)).put_back(dimmed, truth + noise, one, one)
    error = float(((back - truth) ** 2).mean())
    assert error < 0.5 * float(((dimmed - truth) ** 2).mean())
    assert error < 0.6  # the observation's is 1


def test_what_a_network_drew_without_light_is_taken_off():
    """Where nothing is kept but what the gains pass, ripples of the network's own go."""
    truth, noise, one = stars(96, 60.0), white(1, 1, 96, 96), torch.ones(1, 1, 96, 96)
    rippled = truth + 0.5 * white(1, 1, 96, 96, seed=5)
    wiener = LostLight((0.0,), (0.7,), (0.0,)).put_back(rippled, truth + noise, one, one)
    kept = LostLight((0.0,), (0.7,), (1.0,)).put_back(rippled, truth + noise, one, one)
    errors = [float(((image - truth) ** 2).mean()) for image in (wiener, kept, rippled)]
    assert errors[0] < 0.8 * min(errors[1:])


def test_pixels_that_are_not_trusted_give_nothing():
    truth, one = stars(32, 50.0), torch.ones(1, 1, 32, 32)
    trusted = one.clone()
    trusted[..., 10:14, :] = 0
    spoilt = torch.where(trusted > 0, truth, 1e6)
    torch.testing.assert_close(ALWAYS.put_back(truth, spoilt, one, trusted), truth)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("rows", "cols"),
    [([24], [24]), ([24, 24], [24, 25]), ([22, 23, 24, 25], [22, 23, 24, 25]), (range(48), 24)],
    ids=["hot pixel", "two", "track", "column"],
)
def test_no_noise_comes_back_around_what_is_sharper_than_light(rows, cols, sign):
    """A hot pixel is of all frequencies: a disc of 15 px was left as noisy as it was observed."""
    one, noise = torch.ones(1, 1, 48, 48), white(1, 1, 48, 48)
    spikes = torch.zeros(1, 1, 48, 48)
    spikes[..., rows, cols] = 300.0 * sign
    back = ALWAYS.put_back(0.9 * spikes, spikes + noise, one, one)
    beside = spikes[0, 0] == 0
    assert float((back - spikes)[0, 0][beside].pow(2).mean()) < 1e-3
    torch.testing.assert_close(back[0, 0][~beside], (spikes + noise)[0, 0][~beside])
    masked = one.clone()
    masked[..., rows, cols] = 0  # what is masked does not come back
    back = ALWAYS.put_back(0.9 * spikes, spikes + noise, one, masked)
    torch.testing.assert_close(back[0, 0][~beside], 0.9 * spikes[0, 0][~beside])


@pytest.mark.parametrize("fwhm_px", [1.3, 2.0, 3.0])
def test_stars_are_no_spikes_however_they_lie_on_the_pixels(fwhm_px):
    rows, cols = np.mgrid[:96, :96].astype(float)
    light = np.zeros((96, 96))
    for number, (row, col) in enumerate((r, c) for r in range(8, 96, 16) for c in range(8, 96, 16)):
        far2 = (rows - row - number / 36) ** 2 + (cols - col - number % 5 / 5) ** 2
        light += 300 * np.exp(-4 * np.log(2) * far2 / fwhm_px**2)
    image = torch.from_numpy(light).float()[None, None]
    assert not find_spikes(image, torch.ones_like(image)).any()


def test_a_part_is_filtered_as_in_the_whole():
    truth, noise = stars(160, 40.0), white(1, 1, 160, 160)
    one = torch.ones_like(truth)
    planes = (0.8 * truth, 0.2 * truth + noise, one, 0.2 * one, 0.5 * one)
    parts = [plane[..., 40:120, 32:128] for plane in planes]
    whole = filtered(*planes[:3], planes[3:], None)
    part = filtered(*parts[:3], tuple(parts[3:]), None)
    torch.testing.assert_close(part[..., 8:-8, 8:-8], whole[..., 48:112, 40:120], atol=1e-5, rtol=0)


def test_the_sum_of_all_windows_is_the_image_times_their_number():
    image = white(1, 1, 40, 48)
    back = _sum_of_waves(torch.nn.functional.conv2d(image, _waves()))
    torch.testing.assert_close(
        back[..., 7:-7, 7:-7] / 64, image[..., 7:-7, 7:-7], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_the_noise_of_each_wave_is_what_draws_show(correlation):
    root = root_of(NoiseKernel.from_neighbour(correlation, "test"))
    like = torch.zeros(1, 1, 512, 512)
    noise = draw_noise(like, torch.Generator().manual_seed(3), root)
    seen = torch.nn.functional.conv2d(noise, _waves()).var(dim=(2, 3))
    np.testing.assert_allclose(seen[0], _noise_spectrum(root).ravel(), rtol=0.12)


def trial(share, side=96):
    """A network that returns so much of the light, whatever the noise, in a known field."""
    truth, noise, probe = (
        stars(side, 60.0),
        white(1, 1, side, side),
        white(1, 1, side, side, seed=2),
    )
    one, step = torch.ones_like(truth), 0.1
    estimate = share * truth

    def filtered_by(lost):
        return tuple(
            lost.put_back(estimate, truth + noise + move, one, one) for move in (0.0, step * probe)
        )

    def risk_of(images):
        plain, moved = images
        return (plain - truth - noise) ** 2 + 2 * probe * (moved - plain) / step

    return Trial(filtered_by, one, estimate, one, risk_of)


def test_the_rate_follows_what_the_networks_lose():
    rates = {share: least_loss([trial(share)]).rates for share in (1.0, 0.95, 0.7)}
    assert max(rates[1.0]) <= 0.025  # the smallest there is
    assert 0 < rates[0.95][-1] < rates[0.7][-1]


def test_too_few_pixels_put_nothing_back():
    assert least_loss([trial(0.7, side=7)]) == NOTHING_LOST
