import pytest
import torch

from dip_pipeline.restoration.images import filling
from dip_pipeline.restoration.images.filling import fill, measure_covariance
from dip_pipeline.restoration.images.smoothing import fill_unknown, smooth
from dip_pipeline.restoration.views.crops import turn


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def stars():
    """Sixty stars of a point-spread function of 1.2 px, in white noise of 1."""
    places = torch.randint(0, 96, (60, 2), generator=torch.Generator().manual_seed(3))
    flux = torch.zeros(1, 1, 96, 96)
    flux[0, 0, places[:, 0], places[:, 1]] = torch.logspace(1.5, 2.8, 60)
    truth = smooth(flux, 1.2)
    return truth, truth + draw(1, 1, 96, 96)


def with_a_column(planes):
    known = torch.ones_like(planes)
    known[..., 20] = 0
    known[..., 57] = 0
    return known


def test_a_column_through_stars_is_filled_better_than_by_an_average(stars):
    truth, observed = stars
    known = with_a_column(observed)
    seen = observed * known
    kriged = fill(seen, known, measure_covariance(seen, known))
    planes = (kriged, fill_unknown(seen, known))
    missed = ((plane - truth)[known == 0].square().mean() for plane in planes)
    assert next(missed) < 0.5 * next(missed)


def test_holes_that_are_filled_in_parts_are_filled_as_at_once(stars, monkeypatch):
    _, observed = stars
    known = with_a_column(observed)
    covariance = measure_covariance(observed * known, known)
    at_once = fill(observed * known, known, covariance)
    monkeypatch.setattr(filling, "_CHUNK", 48)  # of 192: parts of one size
    in_parts = fill(observed * known, known, covariance)
    torch.testing.assert_close(in_parts, at_once, rtol=1e-4, atol=1e-4)


def test_known_pixels_stay_and_what_lies_under_the_mask_is_not_used(stars):
    _, observed = stars
    known = with_a_column(observed)
    covariance = measure_covariance(observed * known, known)
    spoilt = torch.where(known > 0, observed, 1e6)
    filled = fill(spoilt, known, covariance)
    assert torch.equal(filled[known > 0], observed[known > 0])
    assert torch.equal(filled, fill(observed, known, covariance))


@pytest.mark.parametrize(("turns", "flip"), [(1, False), (2, True), (3, False)])
def test_a_turned_frame_is_filled_alike(stars, turns, flip):
    _, observed = stars
    known = with_a_column(observed)
    covariance = measure_covariance(observed, known)
    turned = fill(turn(observed, turns, flip=flip), turn(known, turns, flip=flip), covariance)
    straight = turn(fill(observed, known, covariance), turns, flip=flip)
    torch.testing.assert_close(turned, straight, rtol=1e-3, atol=1e-3)


def test_frames_of_a_batch_have_their_own_covariance(stars):
    _, observed = stars
    known = with_a_column(observed)
    tables = torch.cat([measure_covariance(observed, known), torch.eye(33)[None]])
    both = fill(observed.repeat(2, 1, 1, 1), known.repeat(2, 1, 1, 1), tables)
    for number in (0, 1):
        alone = fill(observed, known, tables[number : number + 1])
        torch.testing.assert_close(both[number : number + 1], alone)


def test_holes_too_wide_get_an_average_and_all_stays_finite():
    observed = torch.full((1, 1, 64, 64), 5.0)
    known = torch.ones_like(observed)
    known[..., 10:40, 10:40] = 0
    filled = fill(observed, known, measure_covariance(observed, known))
    assert bool(torch.isfinite(filled).all())
    assert float((filled - 5).abs().max()) < 1.5
    nothing = torch.zeros_like(observed)
    assert bool(torch.isfinite(fill(observed, nothing, torch.zeros(1, 33, 33))).all())


def test_a_prediction_stays_within_reach_of_what_is_seen():
    """Bright pixels that no smooth light explains, under a covariance of smooth light."""
    span = torch.arange(-16, 17).float()
    smooth_light = torch.exp(-(span[:, None] ** 2 + span[None] ** 2) / 18)[None]
    planes = 1e3 * torch.exp(2 * draw(1, 1, 48, 48)) * draw(1, 1, 48, 48, seed=2).sign()
    known = torch.ones_like(planes)
    known[..., 20:24, 20:24] = 0
    filled = fill(planes * known, known, smooth_light)
    assert filled[known == 0].abs().max() < 13 * planes.abs().max()  # without bounds 1e4 times that


def test_white_noise_has_hardly_a_covariance_and_predicts_the_sky():
    noise, known = draw(1, 1, 256, 256), torch.ones(1, 1, 256, 256)
    known[..., 100] = 0
    table = measure_covariance(noise, known)
    assert float(table.abs().max()) < 0.015
    assert float(fill(noise, known, table)[known == 0].abs().max()) < 0.5


def test_copies_of_a_scene_are_filled_by_the_same_weights(stars):
    """Each by its own pixels: of equal copies as one alone, whatever lies in the other's holes."""
    _, observed = stars
    known = with_a_column(observed)
    covariance = measure_covariance(observed * known, known)
    alone = fill(observed, known, covariance)
    both = fill(torch.cat([observed, observed]), known, covariance)
    torch.testing.assert_close(both, torch.cat([alone, alone]))
    noise = 0.5 * draw(1, 1, 96, 96, seed=2)
    copies = torch.cat([observed + noise, observed - noise])
    spoilt = torch.where(known > 0, copies, 1e6)
    one_way = fill(spoilt, known, covariance)
    other_way = fill(spoilt.flip(0), known, covariance)
    torch.testing.assert_close(one_way, other_way.flip(0))
    # Their noise is small: weights for each by itself say nearly the same.
    apart = torch.cat([fill(copy[None], known, covariance) for copy in copies])
    holes = (known == 0).expand_as(apart)
    assert float((one_way - apart)[holes].std()) < 0.05 * float((apart - observed)[holes].std())
