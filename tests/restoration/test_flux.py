import pytest
import torch

from dip_pipeline.restoration.flux import close_flux

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
