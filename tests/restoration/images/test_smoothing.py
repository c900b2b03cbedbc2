import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dip_pipeline.restoration.images.smoothing import fill_unknown, ring_mean, smooth


def draw(*shape, seed=1):
    return torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("shape", [(64, 64), (16, 90), (90, 16), (17, 31), (1, 1), (1, 40)])
def test_smoothing_keeps_shape_and_constants(shape, sigma_px):
    constant = torch.full((2, 1, *shape), 7.25, dtype=torch.float64)
    torch.testing.assert_close(smooth(constant, sigma_px), constant)


@pytest.mark.parametrize("sigma_px", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(64, 64), (40, 70), (30, 660)])
def test_smoothing_is_a_gaussian_with_mirrored_borders(shape, sigma_px):
    planes = draw(*shape)
    expected = gaussian_filter(planes[0, 0].numpy(), sigma_px, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(smooth(planes, sigma_px)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("place", [(0, 0), (0, 20), (20, 0), (3, 39), (39, 39)])
def test_smoothing_treats_rows_and_columns_alike(place):
    point = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    point[(..., *place)] = 1.0
    turned = smooth(point.transpose(-1, -2), 3.0).transpose(-1, -2)
    torch.testing.assert_close(smooth(point, 3.0), turned, rtol=0, atol=1e-15)


def test_smoothing_conserves_the_flux_of_a_source():
    source = torch.zeros(1, 1, 60, 60, dtype=torch.float64)
    source[..., 29:32, 30:33] = 5.0
    assert float(smooth(source, 3.0).sum()) == pytest.approx(45.0, rel=1e-12)


def test_filling_leaves_known_pixels_untouched():
    planes = draw(40, 50)
    known = (draw(40, 50, seed=2) > 0.2).double()
    filled = fill_unknown(planes, known)
    assert torch.equal(filled[known > 0], planes[known > 0])
    assert torch.isfinite(filled).all()


def test_what_lies_under_unknown_pixels_does_not_matter():
    planes = draw(40, 50)
    known = (draw(40, 50, seed=2) > 0.2).double()
    spoilt = torch.where(known > 0, planes, torch.full_like(planes, float("nan")))
    assert torch.equal(fill_unknown(planes, known), fill_unknown(spoilt, known))


@pytest.mark.parametrize("hole_px", [1, 2, 4, 9])
def test_filling_a_constant_gives_the_constant(hole_px):
    planes = torch.full((1, 1, 48, 48), 1000.0, dtype=torch.float64)
    known = torch.ones_like(planes)
    known[..., 20 : 20 + hole_px, 20 : 20 + hole_px] = 0
    known[..., :, 5] = 0
    filled = fill_unknown(planes * known, known)
    torch.testing.assert_close(filled, planes, rtol=1e-4, atol=0)


def test_where_nothing_is_known_the_fallback_stands():
    planes = draw(20, 30)
    nothing = torch.zeros_like(planes)
    torch.testing.assert_close(
        fill_unknown(planes, nothing, 3.5), torch.full_like(planes, 3.5), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("place", [(0, 0), (0, 9), (10, 10), (19, 29)])
def test_the_ring_mean_of_a_pixel_does_not_contain_it(place):
    planes = draw(20, 30)
    changed = planes.clone()
    changed[(..., *place)] += 1e6
    assert float(ring_mean(changed)[(..., *place)]) == float(ring_mean(planes)[(..., *place)])


def test_the_ring_mean_is_the_mean_of_eight_neighbours():
    planes = draw(20, 30)
    window = planes[0, 0, 4:7, 9:12]
    expected = (float(window.sum()) - float(window[1, 1])) / 8
    assert float(ring_mean(planes)[0, 0, 5, 10]) == pytest.approx(expected, rel=1e-12)
