"""Skies of two exposures are compared over all that both see, however large they are."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.exposures.skies import FrameLight, sky_difference
from dip_pipeline.exposures.skies import _blocks_along as blocks_along
from dip_pipeline.exposures.skies import _strips as strips
from dip_pipeline.frames import open_frame
from dip_pipeline.registration import Between, Geometry
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced

_NOISE_DN = 5.0


def _light(path, sky, *, seed, saturation_dn=None, spoilt=None):
    pixels = sky + np.random.default_rng(seed).normal(0, _NOISE_DN, sky.shape)
    if spoilt is not None:
        pixels[spoilt] = saturation_dn
    fits.PrimaryHDU(pixels.astype(np.float32)).writeto(path)
    limit = None if saturation_dn is None else Sourced(saturation_dn, "DN", "given")
    noise = NoiseModel(
        NoiseKind.GAUSSIAN,
        "given",
        sigma=Sourced(_NOISE_DN, "DN", "given"),
        sensor=Sensor(saturation_dn=limit),
    )
    return FrameLight(open_frame(path), noise)


def _slope(shape, down, across):
    row, col = (np.linspace(-1, 1, side) for side in shape)
    return 100 + down * row[:, None] + across * col[None, :]


@pytest.mark.parametrize("length", [12, 64, 700, 1500, 5000, 20000])
def test_blocks_are_spread_over_all_and_read_in_parts(length):
    over = slice(7, 7 + length), slice(0, 3 * length)
    seen = []
    for rows, cols in strips(over):
        seen += [(row.start, col.start) for row in rows for col in cols]
        assert rows[-1].stop - rows[0].start <= 512
        assert cols[-1].stop - cols[0].start <= 1024
    expected = [blocks_along(span) for span in over]
    assert sorted(seen) == [(row.start, col.start) for row in expected[0] for col in expected[1]]
    for span, blocks in zip(over, expected, strict=True):
        apart = (span.stop - span.start) / len(blocks)
        assert blocks[0].start >= span.start
        assert blocks[0].start - span.start < apart
        assert blocks[-1].stop <= span.stop
        assert span.stop - blocks[-1].stop < apart


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_skies_of_a_turned_exposure_that_sees_a_part_are_compared(tmp_path, scale):
    """By a right angle: rows of the one are columns of the other."""
    there = _slope((150, 120), 40, -20)
    here = _slope((90, 100), 30, 10)
    geometry = Geometry(matrix=((0.0, -1.0), (1.0, 0.0)), shift_px=(119.0, 30.0))
    reference = _light(tmp_path / "there.fits", there, seed=0)
    row, col = np.mgrid[:90, :100]
    light = scale * there[119 - col, row + 30] + here
    own = _light(tmp_path / "here.fits", light, seed=1)
    found = sky_difference(own, reference, geometry, scale, 4.0)
    sky = found.offset + found.surface.at(row, col)
    np.testing.assert_allclose(sky, here, atol=0.4 * _NOISE_DN)
    assert len(found.surface.terms) == 2
    assert found.left < 0.3 * found.noise


def test_saturated_pixels_tell_nothing_of_the_sky(tmp_path):
    flat = _slope((96, 96), 0, 0)
    spoilt = np.s_[:, 40:96]
    reference = _light(tmp_path / "a.fits", flat, seed=0)
    own = _light(tmp_path / "b.fits", flat, seed=1, saturation_dn=160.0, spoilt=spoilt)
    found = sky_difference(own, reference, Geometry(), 1.0, 4.0)
    assert found.surface.is_level
    assert found.offset == pytest.approx(0, abs=1)


@pytest.mark.parametrize("number", [0, 1])
def test_blank_parts_of_a_large_frame_tell_nothing_of_the_sky(tmp_path, number):
    """Though some are as wide as all that is read at once."""
    shape = (48, 2300)
    skies = [_slope(shape, 0, 0), _slope(shape, 0, 30)]
    lights = []
    for index, sky in enumerate(skies):
        blank = np.s_[:, 1300:] if index == number else None
        lights.append(
            _light(tmp_path / f"{index}.fits", sky, seed=index, saturation_dn=0.0, spoilt=blank)
        )
    reference, own = (replace(each, noise=replace(each.noise, sensor=Sensor())) for each in lights)
    found = sky_difference(own, reference, Geometry(), 1.0, 4.0)
    col = np.arange(1300)
    sky = found.offset + found.surface.at(24, col)
    np.testing.assert_allclose(sky, (skies[1] - skies[0])[24, :1300], atol=0.4 * _NOISE_DN)
    assert found.left < 0.3 * found.noise


def test_what_hardly_overlaps_tells_nothing(tmp_path):
    flat = _slope((96, 96), 0, 0)
    lights = [_light(tmp_path / f"{seed}.fits", flat, seed=seed) for seed in range(2)]
    found = sky_difference(*lights, Geometry(shift_px=(90.0, 0.0)), 1.0, 4.0)
    assert np.isnan(found.offset)
    assert found.words("adu") == ""
    assert found.facts() == {}


def _crowd(fwhm_px, at_px=0.0, side=128):
    """Stars enough that hardly any pixel is without the wings of one."""
    rng = np.random.default_rng(4)
    sky, pixel = np.full((side, side), 100.0), np.arange(side)
    for _ in range(side * side // 360):
        places, light = rng.uniform(0, side, 2) + at_px, 10 ** rng.uniform(3, 4.7)
        rows, cols = (np.exp(-0.5 * ((pixel - at) * 2.355 / fwhm_px) ** 2) for at in places)
        sky += light * 2.355**2 / (2 * np.pi * fwhm_px**2) * np.outer(rows, cols)
    return sky


@pytest.mark.parametrize("at_px", [0.0, 0.5])
@pytest.mark.parametrize(
    "widths", [(2.4, 4.2), (4.2, 2.4), (2.4, 2.4)], ids=["wider", "sharper", "alike"]
)
def test_wings_of_stars_are_no_sky(tmp_path, widths, at_px):
    """Of one sky: where stars are wider, for seeing or between pixels, it is not brighter."""
    reference = _light(tmp_path / "a.fits", _crowd(widths[0]), seed=0)
    own = _light(tmp_path / "b.fits", _crowd(widths[1], at_px), seed=1)
    geometry = Geometry(shift_px=(-at_px, -at_px))
    between = Between.of((), (widths[1] ** 2 - widths[0] ** 2) / 2.355**2, 1.0)
    found = sky_difference(own, reference, geometry, 1.0, 4.0, between)
    assert found.surface.is_level
    assert found.offset == pytest.approx(0, abs=0.05 * _NOISE_DN)
