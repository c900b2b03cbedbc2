"""Exposures are registered right, whatever lies on the detector."""

import importlib
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.errors import ContradictionError, ExposureError
from dip_pipeline.registration import Geometry, brightness, register, see, shift_by_light
from dip_pipeline.registration.aligning import Aligned, align
from dip_pipeline.registration.matching import StarMatch, refine
from dip_pipeline.registration.sharpness import wider_by_px2
from dip_pipeline.registration.stars import Stars, _mostly_usable, measure_fwhm
from dip_pipeline.simulate import (
    GALAXY,
    STAR,
    DetectorOptions,
    MoffatPsf,
    Scene,
    SceneOptions,
    observe,
)

_SHAPE = (192, 192)
_HERE = Geometry()
# Offsets of M13 frames 0002 and 0004 from 0001, (rows, cols), by hand: 60 stars picked on the three
# frames laid over each other to the pixel; around them stamps of 21 x 21 pixels, hot pixels
# replaced by their median of 5 x 5, averaged over the stars of each frame, and a Gaussian fitted to
# the mean stamp of each. Standard errors from 60 bootstraps over the stars: 0.16 to 0.18 px.
_M13_BY_HAND = {
    "M13_blue_0002.fits.gz": (1.06, -11.61),
    "M13_blue_0004.fits.gz": (3.39, -34.61),
}


def _stars(count=120, seed=1, brightest=3e4):
    rng = np.random.default_rng(seed)
    stars = np.zeros(count, STAR)
    stars["row"], stars["col"] = rng.uniform(-30, 222, (2, count))
    stars["flux_dn"] = 10 ** rng.uniform(2.5, np.log10(brightest), count)
    return stars


def _exposure(stars, geometry=_HERE, *, seed, fwhm_px=1.8, flux_scale=1.0, sky_dn=200.0):
    """Expose the stars of a reference; pixels of the exposure lie where the geometry says."""
    moved = stars.copy()
    places = np.column_stack([stars["row"], stars["col"]])
    moved["row"], moved["col"] = geometry.to_exposure(places).T
    moved["flux_dn"] *= flux_scale
    options = SceneOptions(
        shape=_SHAPE, seed=seed, psf=MoffatPsf(fwhm_px), sky_dn=sky_dn, saturated_star=False
    )
    scene = Scene(options, moved, np.zeros(0, GALAXY))
    return observe(scene, DetectorOptions(defects=False)).observed_dn


def _see(pixels, name="exposure"):
    return see(name, pixels, np.zeros(pixels.shape, bool))


@pytest.fixture(scope="module")
def reference():
    return _see(_exposure(_stars(), seed=1), "reference")


@pytest.mark.parametrize("shift", [(0.37, -0.61), (-11.23, 17.5), (0.0, 0.0)])
def test_dithers_are_found_to_a_twentieth_of_a_pixel(reference, shift):
    exposure = _see(_exposure(_stars(), Geometry(shift_px=shift), seed=2))
    found = register(exposure, reference)
    assert found.geometry.is_shift
    np.testing.assert_allclose(found.geometry.shift_px, shift, atol=0.05)


def test_a_turn_is_found(reference):
    angle = np.radians(11)
    turn = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
    true = Geometry(turn, (20.3, -14.6))
    found = register(_see(_exposure(_stars(), true, seed=3)), reference).geometry
    corners = np.array([[0.0, 0.0], [0, 191], [191, 0], [191, 191]])
    apart = found.to_reference(corners) - true.to_reference(corners)
    assert np.abs(apart).max() < 0.1


@pytest.mark.parametrize(
    "known",
    [
        Geometry(((-1.0, 0.0), (0.0, 1.0)), (190.4, 2.3)),  # read out from the other side
        Geometry(((0.0, 1.0), (1.0, 0.0)), (0.3, -1.2)),
        Geometry(((0.0, -1.0), (1.0, 0.0)), (191.2, 0.6)),
    ],
)
def test_a_mirror_and_a_turn_that_coordinates_say_stay(reference, known):
    """And stars still tell the light, without which the fainter exposure would take it away."""
    exposure = _see(_exposure(_stars(), known, seed=5, flux_scale=0.5))
    found = register(exposure, reference, known=known, by_cards=(1.0, "exposure times"))
    corners = np.array([[0.0, 0.0], [0, 191], [191, 0], [191, 191]])
    apart = found.geometry.to_reference(corners) - known.to_reference(corners)
    assert np.abs(apart).max() < 0.1
    assert found.flux_scale == pytest.approx(0.5, rel=0.03)
    assert np.isfinite(found.fwhm_px)


@pytest.mark.parametrize(("told", "summed"), [(2.25, True), (1.0, False)])
def test_pixels_that_are_larger_hold_more_light(reference, told, summed):
    """1.5 times as wide on the sky: 2.25 times the light where pixels count it."""
    size = 1.5
    larger = Geometry(((size, 0.0), (0.0, size)), (-40.0, -40.0))
    coarse = _see(
        _exposure(_stars(), larger, seed=9, fwhm_px=1.8 / size, flux_scale=told / size**2)
    )
    found = register(
        coarse,
        reference,
        known=larger,
        by_cards=(1.0, "exposure times") if summed else None,
        summed=summed,
        any_optics=True,
    )
    assert found.flux_scale == pytest.approx(told, rel=0.04)
    assert np.isfinite(found.fwhm_px)


def test_the_width_of_stars_is_told_in_pixels_of_the_reference(reference):
    """The sharper exposure has pixels half as wide, and more of them across a star."""
    finer = Geometry(((0.5, 0.0), (0.0, 0.5)), (40.0, 40.0))
    sharp = _see(_exposure(_stars(300, brightest=1e5), finer, seed=9, fwhm_px=2.4))
    own = register(sharp, sharp).fwhm_px
    coarse = _see(_exposure(_stars(300, brightest=1e5), seed=10), "coarse")
    found = register(sharp, coarse, known=finer, any_optics=True)
    assert found.fwhm_px == pytest.approx(own / 2, rel=0.1)


def test_a_star_whose_own_pixel_is_masked_is_none_to_match(reference):
    """Its core is the median of what is around it then: its place and its light are not known."""
    places = np.array([[40.0, 40.0], [60.0, 60.0]])
    unusable = np.zeros(_SHAPE, bool)
    unusable[40, 40] = unusable[61, 61] = True
    cleaned = replace(reference.cleaned, unusable=unusable)
    assert list(_mostly_usable(cleaned, places)) == [False, True]


def test_flux_scale_and_width_are_found_within_a_few_percent(reference):
    pixels = _exposure(
        _stars(), Geometry(shift_px=(3.3, 2.1)), seed=4, flux_scale=0.6, sky_dn=320.0
    )
    found = register(_see(pixels), reference)
    assert found.flux_scale == pytest.approx(0.6, rel=0.03)
    assert 1.7 < found.fwhm_px < 2.5  # of a Gaussian with the half-light radius of this Moffat


@pytest.mark.parametrize("shift", [(2.3, -5.6), (0.0, 0.0)])
def test_light_is_not_locked_to_a_fixed_pattern(shift):
    pattern = 60 * np.random.default_rng(9).standard_normal(_SHAPE)
    stars = _stars(brightest=1e4)
    frames = [
        _exposure(stars, place, seed=5 + number, fwhm_px=4.0) + pattern.astype(np.float32)
        for number, place in enumerate((Geometry(), Geometry(shift_px=shift)))
    ]
    first, second = (_see(frame) for frame in frames)
    plain = np.fft.irfft2(np.fft.rfft2(frames[0]) * np.fft.rfft2(frames[1]).conj())
    plain[0, 0] = plain[0, 0] if shift == (0.0, 0.0) else plain.max()  # the pattern is strong
    assert np.unravel_index(plain.argmax(), plain.shape) == (0, 0)
    found = shift_by_light(first.cleaned, second.cleaned, 1.7)
    assert found.believable
    np.testing.assert_allclose(found.shift_px, shift, atol=0.3)


def test_hot_pixels_are_no_stars():
    rng = np.random.default_rng(3)
    pixels = _exposure(_stars(count=0), seed=6)
    pixels[tuple(rng.integers(5, 187, (2, 60)))] += 2000
    assert len(_see(pixels).stars) == 0


def test_exposures_of_another_field_are_refused(reference):
    other = _see(_exposure(_stars(seed=77), seed=8), "other.fits")
    with pytest.raises(ExposureError, match=r"other\.fits: could not be registered to reference"):
        register(other, reference)
    with pytest.raises(ExposureError, match=r"does not overlap with reference"):
        register(other, reference, known=Geometry(shift_px=(900.0, 0.0)))


@pytest.mark.parametrize("transparency", [0.0, 0.002])
def test_an_exposure_under_clouds_is_refused_whichever_comes_first(reference, transparency):
    clouded = _see(_exposure(_stars(), seed=11, flux_scale=transparency), "clouded")
    with pytest.raises(ExposureError, match=r"clouded: shows . of .* clear in reference") as caught:
        register(clouded, reference, known=_HERE)
    assert "leave it out" in str(caught.value)
    with pytest.raises(ExposureError, match=r"clouded: shows . of .* clear in reference") as caught:
        register(reference, clouded, known=_HERE)
    assert "give another exposure first" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_thin_clouds_are_measured(reference):
    """A few stars that are left tell more than the exposure times."""
    thin = _see(_exposure(_stars(), seed=12, flux_scale=0.05), "thin")
    found = register(thin, reference, known=_HERE, by_cards=(1.0, "exposure times"))
    assert found.flux_scale == pytest.approx(0.05, rel=0.2)


def test_exposures_too_short_to_show_what_others_do_are_taken():
    faint = _stars(brightest=3e3)
    deep = _see(_exposure(faint, seed=1, flux_scale=10.0), "deep")
    short = _see(_exposure(faint, seed=2, flux_scale=0.02), "short")
    found = register(short, deep, known=_HERE, by_cards=(0.002, "exposure times"))
    assert found.flux_scale == pytest.approx(0.002)


def test_what_contradicts_is_taken_where_that_is_asked_for(reference):
    clouded = _see(_exposure(_stars(), seed=11, flux_scale=0.0), "clouded")
    assert register(clouded, reference, known=_HERE, any_optics=True).flux_scale == 1.0


@pytest.mark.parametrize("count", [20, 60])
@pytest.mark.parametrize("factor", [1 / 16, 0.25, 2.0, 8.0, 64.0, 1024.0])
def test_the_shift_is_that_whatever_the_exposure_time_or_the_unit(count, factor):
    """Bright pixels seemed unlike where one is brighter by a factor, and faint ones chose."""
    stars = _stars(count=count, seed=9)
    pixels = [
        _exposure(stars, Geometry(shift_px=shift), seed=seed)
        for seed, shift in ((1, (0.0, 0.0)), (2, (3.3, -2.4)))
    ]
    reference, same = _see(pixels[0], "reference"), _see(pixels[1])
    told = register(same, reference).geometry.shift_px
    np.testing.assert_allclose(told, (3.3, -2.4), atol=0.1)
    other = _see((pixels[1] * np.float32(factor)).astype(np.float32))
    found = register(other, reference)
    np.testing.assert_allclose(found.geometry.shift_px, told, atol=0.005)
    assert found.flux_scale == pytest.approx(factor, rel=0.03)


def test_the_light_fixes_the_shift_in_every_unit():
    stars = _stars(count=60, seed=9)
    moved = Geometry(shift_px=(3.3, -2.4))
    pixels = [_exposure(stars, where, seed=seed) for seed, where in ((1, _HERE), (2, moved))]
    found = []
    for unit in (1.0, 1e-20, 1e10):
        one, other = (_see((each * np.float32(unit)).astype(np.float32)) for each in pixels)
        found.append(align(other.cleaned, one.cleaned, Geometry(shift_px=(3.2, -2.3)), 1.4))
    for aligned in found:
        assert 0 < aligned.error_px < 0.02
        np.testing.assert_allclose(aligned.geometry.shift_px, (3.3, -2.4), atol=0.02)


def test_cosmic_rays_do_not_refuse_an_exposure_that_shares_stars():
    rng = np.random.default_rng(4)
    frames = []
    for seed in (21, 22):
        pixels = _exposure(_stars(count=25, brightest=2e4), seed=seed)
        for row, col in rng.integers(8, 180, (80, 2)):
            pixels[row : row + 2, col : col + 3] += 2000
        frames.append(_see(pixels, f"frame {seed}"))
    register(frames[1], frames[0], known=_HERE)


def test_another_pixel_scale_is_refused(reference):
    larger = Geometry(((1.2, 0.0), (0.0, 1.2)), (-10.0, -10.0))
    exposure = _see(_exposure(_stars(), larger, seed=9), "coarse.fits")
    with pytest.raises(ExposureError, match=r"1\.200 times as large.*--any-optics"):
        register(exposure, reference)


def test_stars_correct_what_the_coordinates_say(reference):
    exposure = _see(_exposure(_stars(), Geometry(shift_px=(4.0, 4.0)), seed=10))
    found = register(exposure, reference, known=Geometry(shift_px=(5.1, 3.2)))
    np.testing.assert_allclose(found.geometry.shift_px, (4.0, 4.0), atol=0.05)
    assert "moved" in found.how


@pytest.mark.parametrize("off", [(1.5, 0.0), (4.5, -1.0), (-15.0, 9.0)])
@pytest.mark.parametrize("count", [14, 120])
def test_coordinates_that_are_off_are_corrected_however_few_the_stars(caplog, count, off):
    """Of two exposures the fainter pixel is believed: laid beside itself a star is gone."""
    stars = _stars(count, seed=7)
    true = Geometry(shift_px=(3.3, -2.6))
    reference, exposure = (
        _see(_exposure(stars, place, seed=seed)) for place, seed in ((_HERE, 11), (true, 12))
    )
    known = Geometry(shift_px=(3.3 + off[0], -2.6 + off[1]))
    found = register(exposure, reference, known=known)
    np.testing.assert_allclose(found.geometry.shift_px, true.shift_px, atol=0.2)
    told = re.search(r"coordinates are off by ([0-9.]+) px", caplog.text)
    assert told is not None
    assert float(told[1]) == pytest.approx(np.hypot(*off), abs=0.2)


def test_coordinates_that_are_right_are_not_outvoted_by_what_stays_on_the_detector(caplog):
    """Clusters of hot pixels, more than stars: they say that nothing has moved."""
    stars = _stars(60, seed=7)
    true = Geometry(shift_px=(13.3, -22.6))
    clusters = np.random.default_rng(3).integers(8, 184, (60, 2))
    seen = []
    for place, seed in ((_HERE, 11), (true, 12)):
        pixels = _exposure(stars, place, seed=seed)
        for row, col in clusters:
            pixels[row : row + 2, col : col + 2] += 900.0
        seen.append(_see(pixels))
    found = register(seen[1], seen[0], known=true)
    np.testing.assert_allclose(found.geometry.shift_px, true.shift_px, atol=0.3)
    assert "off by" not in caplog.text


def test_light_tells_of_wrong_coordinates_where_stars_are_too_few(caplog):
    stars = _stars(1)
    stars["row"], stars["col"], stars["flux_dn"] = 90.0, 100.0, 2e4
    reference, exposure = (
        _see(_exposure(stars, place, seed=seed, fwhm_px=4.0))
        for place, seed in ((_HERE, 11), (Geometry(shift_px=(5.0, 2.0)), 12))
    )
    register(exposure, reference, known=Geometry(shift_px=(5.0, 2.0)))
    assert not caplog.records
    register(exposure, reference, known=Geometry(shift_px=(0.0, 20.0)))
    assert "its light lies 18.7 px from where celestial coordinates put it" in caplog.text


def _lit(heights_of, shift, seed):
    """Light of a function of rows and columns, moved, in noise of standard deviation 5."""
    row, col = np.mgrid[: _SHAPE[0], : _SHAPE[1]].astype(float)
    noise = 5.0 * np.random.default_rng(seed).standard_normal(_SHAPE)
    return _see((heights_of(row + shift[0], col + shift[1]) + noise).astype(np.float32))


def _two_galaxies(row, col):
    return sum(
        400 * np.exp(-np.hypot(row - at[0], col - at[1]) / 5.0) for at in ((70, 120), (130, 55))
    )


@pytest.mark.parametrize(("off", "moved"), [((1.0, -0.8), True), ((0.2, 0.1), False)])
def test_light_corrects_coordinates_where_stars_are_too_few(off, moved):
    """A shift of 1.3 px is less than a warning about light that lies elsewhere needs."""
    true = (3.3, -2.6)
    exposure, reference = _lit(_two_galaxies, true, 12), _lit(_two_galaxies, (0, 0), 11)
    known = Geometry(shift_px=(true[0] + off[0], true[1] + off[1]))
    found = register(exposure, reference, known=known)
    assert len(exposure.stars) < 4
    assert found.error_px < 0.1
    assert ("by all light" in found.how) == moved
    aim = true if moved else known.shift_px
    np.testing.assert_allclose(found.geometry.shift_px, aim, atol=0.1)


def _comet_among_stars(place, seed, apart_px=0.0):
    """Nine stars, and the light of a bright comet that moved so far among them."""
    stars = _stars(9, seed=5, brightest=3e4)
    stars["row"], stars["col"] = np.random.default_rng(5).uniform(25, 165, (2, 9))
    stars["flux_dn"] = np.linspace(8e3, 3e4, 9)
    row, col = np.mgrid[: _SHAPE[0], : _SHAPE[1]].astype(float)
    by_row, by_col = place.shift_px
    away = np.hypot(row - 96 + by_row + apart_px, col - 96 + by_col)
    return _see((_exposure(stars, place, seed=seed) + 900 * np.exp(-away / 12)).astype(np.float32))


@pytest.mark.parametrize("known", [True, False])
def test_what_moved_among_the_stars_does_not_move_them(known):
    true = Geometry(shift_px=(3.3, -2.6))
    exposure, reference = _comet_among_stars(true, 12, 1.2), _comet_among_stars(_HERE, 11)
    assert len(exposure.stars) >= 4
    found = register(exposure, reference, known=true if known else None)
    np.testing.assert_allclose(found.geometry.shift_px, true.shift_px, atol=0.15)


def test_stars_that_agree_are_not_led_astray_by_a_fit_of_light(monkeypatch):
    true = Geometry(shift_px=(3.3, -2.6))
    exposure, reference = _comet_among_stars(true, 12, 1.2), _comet_among_stars(_HERE, 11)
    module = importlib.import_module("dip_pipeline.registration.register")
    astray = Aligned(Geometry(shift_px=(5.3, -2.6)), 0.001)
    monkeypatch.setattr(module, "align", lambda *_: astray)
    found = register(exposure, reference, any_optics=True)
    np.testing.assert_allclose(found.geometry.shift_px, true.shift_px, atol=0.3)


def test_coordinates_stay_where_a_fit_of_light_goes_astray(monkeypatch):
    """What it says is believed only where the correlation of all light says the same."""
    exposure, reference = _lit(_two_galaxies, (3.3, -2.6), 12), _lit(_two_galaxies, (0, 0), 11)
    module = importlib.import_module("dip_pipeline.registration.register")
    astray = Aligned(Geometry(shift_px=(5.3, -2.6)), 0.02)
    monkeypatch.setattr(module, "align", lambda *_: astray)
    found = register(exposure, reference, known=Geometry(shift_px=(3.3, -2.6)))
    np.testing.assert_allclose(found.geometry.shift_px, (3.3, -2.6), atol=0.15)
    assert "which nothing confirms" in found.how


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharper", [True, False])
def test_light_is_brought_together_whatever_the_seeing(sharper, seed):
    """The middles of stars are unlike: without softening the sharper ones it went 1 px astray."""
    stars = _stars(8, seed=seed, brightest=1e5)
    stars["row"], stars["col"] = np.random.default_rng(seed).uniform(25, 165, (2, 8))
    stars["flux_dn"] = np.linspace(1.5e4, 1e5, 8)
    true = Geometry(shift_px=(3.3, -2.6))
    reference, exposure = (
        _see(_exposure(stars, place, seed=number + seed, fwhm_px=fwhm_px))
        for place, number, fwhm_px in (
            (_HERE, 11, 4.0 if sharper else 2.0),
            (true, 41, 2.0 if sharper else 4.0),
        )
    )
    match = refine(exposure.stars, reference.stars, true)
    wider_px2 = wider_by_px2(exposure, reference, match, 1.0)
    assert (wider_px2 < -1) == sharper
    found = align(exposure.cleaned, reference.cleaned, true, 1.4, wider_px2)
    np.testing.assert_allclose(found.geometry.shift_px, true.shift_px, atol=0.06)


@pytest.mark.parametrize("error_px", [0.05, 0.5, 200.0, None])
def test_a_place_that_light_does_not_fix_is_warned_of_or_refused(caplog, monkeypatch, error_px):
    """As along a bar, where light may lie anywhere; None: it tells nothing at all."""
    exposure, reference = _lit(_two_galaxies, (3.3, -2.6), 12), _lit(_two_galaxies, (0, 0), 11)
    found = Aligned(Geometry(shift_px=(3.3, -2.6)), error_px or 0.0)
    aligned = None if error_px is None else found
    module = importlib.import_module("dip_pipeline.registration.register")
    monkeypatch.setattr(module, "align", lambda *_: aligned)
    if error_px == 200:
        with pytest.raises(ContradictionError, match=r"known to 200.0 px alone .*leave it out"):
            register(exposure, reference)
    register(exposure, reference, any_optics=True)
    told = {0.05: "", 0.5: "known to 0.5 px alone", 200.0: "known to 200.0", None: "known roughly"}
    assert told[error_px] in caplog.text
    assert bool(caplog.records) == (error_px != 0.05)


@pytest.mark.slow
def test_m13_frames_are_registered_as_by_hand():
    folder = Path(os.environ.get("DIP_EXTRA_DATA", "/nowhere")) / "multi_exposure"
    if not folder.exists():
        pytest.skip("needs the extra data")
    reference = _see(fits.getdata(folder / "M13_blue_0001.fits").astype(np.float32), "0001")
    for name, (rows, cols) in _M13_BY_HAND.items():
        found = register(_see(fits.getdata(folder / name).astype(np.float32), name), reference)
        # Offsets of the scene: a star at p of the reference is at p + offset.
        np.testing.assert_allclose(found.geometry.shift_px, (-rows, -cols), atol=0.3)


def test_stars_outrank_the_cards_only_where_they_tell_them_apart(reference):
    exposure = _see(_exposure(_stars(), Geometry(shift_px=(3.3, 2.1)), seed=4))
    assert register(exposure, reference, by_cards=(1.0, "exposure times")).flux_scale == 1
    # Exposed for half as long, by the cards: the stars know better.
    found = register(exposure, reference, by_cards=(0.5, "exposure times"))
    assert found.flux_scale == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("fwhm_px", [2.75, 2.86])
def test_stars_that_are_hardly_wider_are_as_bright(fwhm_px):
    """They hold 2 % less or more near their middles, by less than which their widths differ."""
    stars = _stars(200, seed=3, brightest=1e5)
    first = _see(_exposure(stars, seed=1, fwhm_px=2.8), "first")
    other = _see(_exposure(stars, Geometry(shift_px=(0.3, -0.6)), seed=2, fwhm_px=fwhm_px))
    found = register(other, first, by_cards=(1.0, "exposure times"))
    assert (found.wider_px2, found.flux_scale) == (0, 1)


def test_the_same_exposures_are_registered_alike(reference):
    pixels = _exposure(_stars(), Geometry(shift_px=(-7.31, 4.87)), seed=11)
    found = {register(_see(pixels), reference).geometry for _ in range(4)}
    assert len(found) == 1


@pytest.mark.parametrize("seed", range(6))
def test_stars_that_are_saturated_tell_neither_light_nor_seeing(seed):
    """Their cores are filled from around; beside a shorter exposure they looked faint and wide."""
    rng = np.random.default_rng(seed)
    stars = _stars(count=10, seed=seed)
    stars["row"], stars["col"] = rng.uniform(20, 172, (2, 10))
    stars["flux_dn"] = 10 ** rng.uniform(4.3, 5.3, 10)
    frames = []
    for number, scale in enumerate((1.0, 0.25)):
        pixels = _exposure(stars, seed=100 * seed + number, fwhm_px=2.7, flux_scale=scale)
        full = pixels >= 2500.0
        frames.append(see(f"frame {number}", np.minimum(pixels, np.float32(2500)), full))
    found = register(frames[1], frames[0], known=_HERE, by_cards=(0.25, "exposure times"))
    assert found.flux_scale == pytest.approx(0.25, rel=0.05)
    assert found.wider_px2 == 0.0


def _saturated(brightest):
    """Twenty stars of a short exposure and a longer one; the brightest saturate that."""
    grid = np.array(
        [(row, col) for row in (25, 70.3, 115.4, 165.2) for col in np.linspace(20, 170, 5)]
    )
    stars = np.zeros(20, STAR)
    stars["row"], stars["col"] = grid.T
    stars["flux_dn"] = np.geomspace(brightest, brightest / 50, 20)
    seen = []
    for number, scale in enumerate((1.0, 0.3)):
        pixels = _exposure(stars, seed=number, fwhm_px=2.7, flux_scale=scale)
        pixels = np.minimum(pixels, np.float32(2500))
        found = see(f"exposure {number}", pixels, pixels >= 2500)
        known = Stars(grid, np.full(20, 0.02), found.stars.width_px)
        seen.append(replace(found, stars=known))
    every = np.arange(20)
    return seen[1], seen[0], StarMatch(_HERE, every, every, 0.01)


def test_the_light_of_saturated_stars_counts_for_nothing():
    scale, _ = brightness.find_flux_scale(*_saturated(3e5), 1.0, None, summed=False)
    assert scale == pytest.approx(0.3, rel=0.03)


def test_the_width_of_saturated_stars_counts_for_nothing():
    exposure, reference, match = _saturated(6e5)
    assert wider_by_px2(exposure, reference, match, 1.0) == 0.0
    # Four whole ones are too few to tell the width of all.
    assert np.isnan(measure_fwhm(reference.cleaned, reference.stars, match.own))


@pytest.mark.parametrize(("error", "taken"), [(0.1, 2.0), (0.2, 1.0)])
def test_few_stars_must_be_sure_of_clouds(monkeypatch, error, taken):
    monkeypatch.setattr(brightness, "_star_ratio", lambda *_: (2.0, error))
    scale, _ = brightness.find_flux_scale(
        *_saturated(3e5), 1.0, (1.0, "exposure times"), summed=False
    )
    assert scale == taken


@pytest.mark.parametrize("seed", range(6))
def test_one_bright_pair_by_chance_does_not_rule_the_others(seed):
    """A cosmic ray beside another one, with the smallest error of all."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(6, 106, (11, 2))
    errors = np.geomspace(0.01, 0.05, 11)
    aims = places + [1.0, -1.0] + rng.normal(0, 1, places.shape) * errors[:, None]
    aims[0] = places[0] + [0.1, 0.0]
    own, other = (Stars(at, errors, 0.8) for at in (places, aims))
    match = refine(own, other, Geometry(shift_px=(1.0, -1.0)), trusted=True)
    assert len(match.own) == 10
    middle = np.array([[56.0, 56.0]])
    np.testing.assert_allclose(match.geometry.to_reference(middle), [[57.0, 55.0]], atol=0.05)


def test_light_that_overflows_is_no_star():
    pixels = _exposure(_stars(), seed=1).astype(np.float32)
    pixels[pixels > pixels.mean()] = 3e38
    assert np.isfinite(_see(pixels).stars.places).all()
