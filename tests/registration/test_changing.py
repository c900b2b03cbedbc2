"""Stars that vary and sources of one exposure alone are told; cosmic rays and seeing are not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dip_pipeline.registration import Geometry, register, see
from dip_pipeline.registration.changing import _rings, _Spots
from dip_pipeline.simulate import MoffatPsf
from dip_pipeline.simulate.psf import add_star

_SIDE = 192
_NEW = (100.4, 90.7, 6e3)


def _stars(seed):
    rng = np.random.default_rng([seed, 4])
    places = rng.uniform(5, _SIDE - 5, (90, 2))
    stars = np.column_stack([places, 10 ** rng.uniform(2.6, 5.1, 90)])
    return stars[np.hypot(*(places - _NEW[:2]).T) > 12]


def _alone(stars):
    """The brightest star with none half as bright near it."""
    for star in stars[np.argsort(-stars[:, 2])]:
        near = np.hypot(*(stars[:, :2] - star[:2]).T) < 12
        inside = np.abs(star[:2] - _SIDE / 2).max() < _SIDE / 2 - 15
        if inside and stars[near, 2].sum() < 1.1 * star[2]:
            return star
    raise AssertionError("no star stands alone")


def _seen(
    stars, seed, *, fwhm_px=2.4, shift=(0.0, 0.0), light=1.0, trail_px=0.0, angle_deg=0.0, rays=0
):
    rng, turn = np.random.default_rng(seed), np.radians(angle_deg)
    level = np.full((_SIDE, _SIDE), 200.0)
    for row, col, flux in stars:
        for part in (-0.5, 0.5):
            at = (
                row + shift[0] + part * trail_px * np.sin(turn),
                col + shift[1] + part * trail_px * np.cos(turn),
            )
            add_star(level, at, light * flux / 2, psf=MoffatPsf(fwhm_px), oversample=1)
    pixels = rng.poisson(2 * level) / 2 + 3 * rng.standard_normal(level.shape)
    for _ in range(rays):
        (row, col), angle = rng.uniform(2, _SIDE - 2, 2), rng.uniform(0, np.pi)
        steps = np.arange(rng.integers(1, 7))
        at = np.stack([row + steps * np.sin(angle), col + steps * np.cos(angle)]).astype(int)
        at = at[:, ((at >= 0) & (at < _SIDE)).all(axis=0)]
        pixels[tuple(at)] += 10 ** rng.uniform(2, 3.5)
    return see("exposure", pixels.astype(np.float32), np.zeros(level.shape, bool))


_UNLIKE = [
    {},
    {"fwhm_px": 3.2, "shift": (1.3, -2.6), "light": 0.8},
    {"trail_px": 1.0, "shift": (0.5, 0.5)},
    {"rays": 40, "fwhm_px": 2.7},
]


def _further(seeds):
    """Seeds of laws that a first few have shown already."""
    return [pytest.param(seed, marks=pytest.mark.slow) for seed in seeds]


@cache
def _steady(seed, unlike):
    """What is told of two exposures of the same stars; the second one is unlike the first."""
    stars, changed = _stars(seed), _UNLIKE[unlike]
    rays = changed.get("rays", 0)
    return register(_seen(stars, 2, **changed), _seen(stars, 1, rays=rays)).compared


@pytest.mark.parametrize("unlike", range(4))
@pytest.mark.parametrize("seed", [0, 1, 2, *_further((3, 4))])
def test_steady_stars_are_steady(seed, unlike):
    compared = _steady(seed, unlike)
    assert compared.changes == ()
    assert compared.unlike < 0.05


@pytest.mark.parametrize("unlike", _UNLIKE[:2])
@pytest.mark.parametrize(
    ("seed", "more"), [(0, 1.17), (1, 1.17), (0, 1.5), pytest.param(1, 1.5, marks=pytest.mark.slow)]
)
def test_what_changes_is_told(seed, more, unlike):
    stars = _stars(seed)
    star = _alone(stars)
    later = np.where((stars == star).all(axis=1)[:, None], star * [1, 1, more], stars)
    before, after = _seen(stars, 1), _seen([*later, _NEW], 2, **unlike)
    changes = register(after, before).compared.changes
    assert len(changes) == 2
    assert abs(changes[0].sigma) >= abs(changes[1].sigma)
    for row, col, flux in (star, _NEW):
        found = min(changes, key=lambda each: np.hypot(each.row - row, each.col - col))
        assert np.hypot(found.row - row, found.col - col) < 1
        assert found.sigma > 6
        light = 0.0 if flux == _NEW[2] else found.light
        assert found.light == pytest.approx(light, abs=400)
        if flux != _NEW[2]:
            assert found.more / found.light == pytest.approx(more - 1, abs=0.06)
    back = register(before, after).compared.changes
    assert sorted(each.sigma < 0 for each in back) == [True, True]


def _with_halo(seen, star):
    """Lay a ring of light around a star: brighter in every direction, and like no star."""
    away = np.hypot(*(np.indices(seen.pixels.shape) - star[:2, None, None]))
    pixels = seen.pixels + 0.25 * seen.pixels[tuple(np.rint(star[:2]).astype(int))] * (
        np.abs(away - 2.6) < 0.8
    )
    return see("exposure", pixels.astype(np.float32), np.zeros(pixels.shape, bool))


@pytest.mark.parametrize("light", [0.2, 1.0, 5.0])
def test_what_is_brighter_but_unlike_a_star_is_no_change_however_clear_the_sky(light):
    stars = _stars(0)
    after = _with_halo(_seen(stars, 2, light=light), _alone(stars))
    assert register(after, _seen(stars, 1)).compared.changes == ()


def test_a_sky_seen_through_clouds_is_as_noisy_as_it_is_in_the_light_of_the_reference():
    stars = _stars(0)
    assert register(_seen(stars, 2, light=0.1), _seen(stars, 1)).compared.changes == ()


def test_a_star_under_a_mask_is_not_fainter():
    stars = _stars(0)
    row, col = np.rint(_alone(stars)[:2]).astype(int)
    after = _seen(stars, 2)
    masked = np.zeros(after.pixels.shape, bool)
    masked[row - 2 : row + 3, col - 1 : col + 2] = True
    assert register(see("exposure", after.pixels, masked), _seen(stars, 1)).compared.changes == ()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_light_around_a_place_is_summed_over_pixels_of_its_exposure(scale):
    """All of a ring from half a width to two and a half, however large the pixels are."""
    seen = _seen(_stars(0), 1)
    even = replace(seen, cleaned=replace(seen.cleaned, light=np.ones(seen.pixels.shape)))
    rings = _rings(even, np.array([[60.0, 50.0]]), 3.0, Geometry(((scale, 0.0), (0.0, scale))))
    area = np.pi * 9 * (2.25 + 0.25) ** 2 - np.pi * 9 * 0.5**2
    assert rings.total[0] * scale**2 == pytest.approx(area, rel=1e-9)


def test_few_stars_tell_nothing():
    stars = _stars(1)[:4]
    assert (
        register(_seen([*stars, _NEW], 2), _seen(stars, 1), any_optics=True).compared.changes == ()
    )


def test_where_most_stars_differ_none_is_named():
    stars = _stars(2)
    later = stars * np.column_stack(
        [np.ones((len(stars), 2)), np.resize([1, 0.6, 1, 0.6, 1], len(stars))]
    )
    assert register(_seen(later, 2), _seen(stars, 1), any_optics=True).compared.changes == ()


@pytest.mark.parametrize("dex", [0.08, 0.25])
def test_where_each_source_differs_by_another_factor_the_scene_is_another(dex):
    stars = _stars(3)
    factors = 10 ** np.random.default_rng(5).normal(0, dex, len(stars))
    later = stars * np.column_stack([np.ones((len(stars), 2)), factors])
    compared = register(_seen(later, 2), _seen(stars, 1), any_optics=True).compared
    assert compared.unlike > 0.13
    few = stars[np.argsort(-stars[:, 2])[:7]] * [1, 1, 3]
    off = few * np.column_stack([np.ones((7, 2)), factors[:7]])
    assert register(_seen(off, 2), _seen(few, 1), any_optics=True).compared.unlike == 0


@pytest.mark.parametrize("angle_deg", [0, 40, 90, 150])
def test_trailed_stars_are_told_with_their_direction(angle_deg):
    told = register(
        _seen(_stars(1), 2, trail_px=1.8, angle_deg=angle_deg, shift=(0.4, 0.3)),
        _seen(_stars(1), 1),
    ).compared
    assert told.drawn_out > 0.05
    assert abs((told.angle_deg - angle_deg + 90) % 180 - 90) < 6


@pytest.mark.parametrize("unlike", [0, 1, 3])  # one has trails
@pytest.mark.parametrize("seed", [0, 1, 2, *_further([3])])
def test_round_stars_are_not_drawn_out(seed, unlike):
    assert _steady(seed, unlike).drawn_out < 0.02


@pytest.mark.parametrize("light", [0.2, 5.0])
def test_what_is_new_is_told_in_the_light_of_the_reference(light):
    stars = _stars(0)
    changes = register(_seen([*stars, _NEW], 2, light=light), _seen(stars, 1)).compared.changes
    (found,) = changes
    assert np.hypot(found.row - _NEW[0], found.col - _NEW[1]) < 1
    around = register(_seen([*stars, _NEW], 2), _seen(stars, 1)).compared.changes[0]
    assert found.more == pytest.approx(around.more, rel=0.15)


def test_what_looks_like_a_star_may_miss_its_profile_by_noise_and_by_a_part_of_the_steady_star():
    profile = np.array([0.5, 0.3, 0.15, 0.05])
    across = np.array([0.3, -0.5, 0.0, 0.0]) * np.sqrt((profile @ profile) / 0.34)
    one_spot = np.array([0.0, 0.0, 0.0, 1.0])

    def seen(light, noise=0.0):
        return _Spots(light[None], profile, light[None] @ profile / (profile @ profile), noise)

    before = seen(980 * profile)
    assert seen(1000 * profile + 40 * across).is_starry_beyond(before)
    assert not seen(1000 * profile + 80 * across).is_starry_beyond(before)
    nothing = seen(0 * profile)
    assert seen(30 * profile).is_starry_beyond(nothing)
    assert not seen(30 * one_spot).is_starry_beyond(nothing)
    assert seen(30 * one_spot, noise=20.0).is_starry_beyond(nothing)
    # Where there is less than no light nothing was taken away.
    assert not seen(30 * one_spot).is_starry_beyond(seen(-500 * profile))
