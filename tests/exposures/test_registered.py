"""Exposures of one sky are checked, registered, combined, and told of in the product."""

import gzip
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from dip_pipeline.account.run_report import already_done
from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics, check_task
from dip_pipeline.errors import ConfigError, ExposureError, OutputError
from dip_pipeline.exposures import registered, settling
from dip_pipeline.exposures.light import see_window, unit_of
from dip_pipeline.exposures.places import by_sky, middle_of, whole_if_most
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import open_frame, open_frames, read_account
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing.planning import problem_source, settle_frame
from dip_pipeline.progress import SILENT, Told
from dip_pipeline.registration import Compared
from dip_pipeline.restoration.exposures.combining import combined
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import Outcome
from dip_pipeline.runs import ways
from dip_pipeline.runs.planes import plan_planes
from dip_pipeline.runs.work import tile_record
from dip_pipeline.stop_reason import StopReason
from dip_pipeline.task import Task
from dip_pipeline.tiling import Tile
from dip_pipeline.verifying import verify_product
from tests.restoration import exposed
from tests.restoration.exposed import SHIFTS, SKY, draw_sky, noisy
from tests.stand_in import any_prior, arithmetic

_SHAPE = (64, 72)
_SKY = draw_sky(_SHAPE, count=40, brightest=3e4)
_WCS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 36.5,
    "CRPIX2": 32.5,
    "CD1_1": -1e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1e-4,
}


def _write(path, number=0, *, wcs=False, told_shift=None, seed=0, gradient=0.0, **cards):
    shift = SHIFTS[number]
    header = fits.Header(
        {"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 6.0, "FILTER": "r", "EXPTIME": 60.0}
    )
    if wcs:
        row, col = told_shift or shift
        header.update(_WCS | {"CRPIX1": _WCS["CRPIX1"] - col, "CRPIX2": _WCS["CRPIX2"] - row})
    header.update(cards)
    level = _SKY.seen(_SHAPE, shift) + SKY + gradient
    fits.PrimaryHDU(noisy(level, np.random.default_rng([seed, number])), header).writeto(path)
    return str(path)


def _write_empty(path, seed, **cards):
    header = fits.Header({"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 6.0, "EXPTIME": 60.0})
    header.update(_WCS | cards)
    pixels = np.random.default_rng([9, seed]).normal(SKY, 10.0, _SHAPE)
    fits.PrimaryHDU(pixels.astype(np.float32), header).writeto(path)
    return str(path)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposures")
    paths = [_write(folder / f"{number}.fits", number) for number in range(4)]
    with fits.open(paths[2], mode="update") as struck:
        struck[0].data[50, 20:26] += 5e3  # a cosmic ray
    return paths


def _config(paths, **options):
    values = {
        "task.name": "combine",
        "task.exposures": tuple(paths[1:]),
        "fit.steps": 2,
        "workers.threads_per_fit": 1,
        **options,
    }
    return RunConfig().with_overrides(**values)


def _registered(paths, factor=1, **options):
    config = _config(paths, **options)
    frames = open_frames(paths[0])
    others = Exposures.of(config, frames)
    told = Told(SILENT, paths[0])
    return others.register(0, *settle_frame(frames[0], config), Optics(factor), told=told)


@pytest.mark.parametrize("task", [Task.COMBINE, Task.DENOISE])
def test_every_tile_of_a_combination_has_a_place_for_tallies(task):
    """The first tile names the columns of the table: it may hold nothing of any exposure."""
    problem, _ = exposed.exposed()
    problem = replace(problem, options=replace(problem.options, task=task))
    tile = Tile(0, slice(0, 48), slice(0, 52), slice(0, 48), slice(0, 52))
    row = tile_record(tile, Outcome(0, StopReason.NO_DATA), problem, seconds=0.0)
    assert row.get("exposures") == ([] if task is Task.COMBINE else None)


def test_exposures_without_coordinates_are_registered_by_their_stars(four):
    optics, found = _registered(four, factor=2)
    shifts = [each.source.geometry.shift_px for each in found]
    np.testing.assert_allclose(shifts, SHIFTS[1:], atol=0.05)
    assert [each.source.flux_scale for each in found] == pytest.approx([1, 1, 1], abs=0.05)
    assert [each.source.level_offset for each in found] == pytest.approx([0, 0, 0], abs=3)
    # Narrower than the stars, 0.9 px of the exposures, 1.8 of the scene.
    assert 0.5 < optics.support_px < 1.5
    assert optics.solving == 1


@pytest.mark.parametrize(("widest_px", "solving"), [(9.0, 2), (1.0, 1)])
def test_stars_narrower_than_pixels_show_are_solved_for_on_finer_ones(
    four, monkeypatch, widest_px, solving
):
    monkeypatch.setattr(registered, "_SAMPLED_FWHM_PX", widest_px)
    optics, found = _registered(four)
    assert optics.solving == solving
    width_px = min(each.found.fwhm_px for each in found) / registered.FWHM_OF_SIGMA
    # Such stars measure wider than they are: a scene as smooth as that has not their cores.
    share = 0.45 if solving == 2 else 0.55
    assert optics.support_px == pytest.approx(share * width_px, rel=1e-3)


_ROW, _COL = (np.linspace(-1, 1, side) for side in _SHAPE)
_ROW, _COL = _ROW[:, None], _COL[None, :]
_GRADIENTS = (  # moonlight on the reference, twilight, and one that is bent
    60 + 40 * _ROW + 20 * _COL,
    150 - 90 * _ROW + 60 * _COL,
    80 + 70 * _COL,
    200 + 50 * _ROW - 60 * _COL**2 + 40 * _ROW * _COL,
)


def _write_uneven(folder, gradients=_GRADIENTS):
    return [
        _write(folder / f"{number}.fits", number, wcs=True, gradient=gradient)
        for number, gradient in enumerate(gradients)
    ]


def _at_shift(gradient, number):
    """Gradient of the reference at the pixels of an exposure: a smooth one, linear there."""
    row, col = SHIFTS[number]
    slopes = np.gradient(gradient)
    return gradient + row * slopes[0] + col * slopes[1]


def test_a_sky_that_differs_from_place_to_place_is_followed(tmp_path):
    _, found = _registered(_write_uneven(tmp_path))
    assert len(found) == 3
    for number, each in enumerate(found, start=1):
        expected = _GRADIENTS[number] - _at_shift(_GRADIENTS[0], number)
        sky = each.source.level_offset + each.source.sky.at(*np.ogrid[: _SHAPE[0], : _SHAPE[1]])
        # Noise of a pixel is 12 to 14.
        assert np.std(sky - expected) < 4
        assert np.abs(sky - expected).max() < 12
        assert each.facts["level_offset"] == pytest.approx(expected[32, 36], abs=8)
        np.testing.assert_allclose(
            each.facts["level_offset_range"], (expected.min(), expected.max()), atol=40
        )
        assert len(each.facts["level_offset_terms"]) == (5 if number == 3 else 2)
        low, high = each.facts["level_offset_range"]
        assert f"; sky from {low:+.4g} to {high:+.4g} adu against the reference" in each.words


def test_one_level_is_told_as_one(four):
    _, found = _registered(four)
    assert len(found) == 3
    for each in found:
        assert each.source.sky.is_level
        assert "sky" not in each.words
        assert "level_offset_terms" not in each.facts


def test_a_tile_sees_the_sky_at_its_own_place(tmp_path):
    _, found = _registered(_write_uneven(tmp_path))
    assert len(found) == 3
    for each in found:
        whole = each.source.exposure((slice(0, 64), slice(0, 72)))
        part = each.source.exposure((slice(32, 60), slice(20, 64)))
        for row, col in ((40, 30), (50, 50)):
            # The first pixel of the part is one of the whole: where, the shifts tell.
            first = np.rint(np.add((32, 20), part.shift_px) - whole.shift_px).astype(int)
            there = part.level_offset[row - first[0], col - first[1]]
            assert there == whole.level_offset[row, col]


@pytest.mark.parametrize("factor", [1, 2])
def test_skies_that_differ_make_neither_patches_nor_seams(tmp_path, factor):
    """The scene has the sky of the first."""
    paths = _write_uneven(tmp_path)
    config = _config(paths, **{"task.factor": factor})
    (frame,) = open_frames(paths[0])
    settled, noise = settle_frame(frame, config)
    optics, found = _registered(paths, factor)
    source = problem_source(settled, noise, config, optics, tuple(each.source for each in found))
    made = combined(source.problem((slice(0, 64), slice(0, 72)), seed=1))
    sky = np.kron((_GRADIENTS[0] + SKY) / factor**2, np.ones((factor, factor)))
    off = (made.pixels - _SKY.seen(_SHAPE, factor=factor) - sky) / made.error
    inside = np.s_[6 * factor : -6 * factor, 6 * factor : -6 * factor]
    assert np.std(off[inside]) < 1.2
    smoothed = gaussian_filter(off, 3 * factor)[inside]
    assert np.abs(smoothed).max() < 0.8


def test_what_no_smooth_surface_follows_is_warned_of(tmp_path, caplog):
    step = np.where(_COL + 0 * _ROW > 0.4, 120.0, 0.0) * (_ROW > -0.2)
    _registered(_write_uneven(tmp_path, _GRADIENTS[:3]))
    assert "smooth surface" not in caplog.text
    (tmp_path / "stepped").mkdir()
    _registered(_write_uneven(tmp_path / "stepped", [0.0, step]))
    assert "1.fits: its sky and that of" in caplog.text
    assert "that no smooth surface follows" in caplog.text


def test_the_seeing_of_each_exposure_is_found_and_told(tmp_path, monkeypatch):
    paths = [_write(tmp_path / "0.fits", 0)]
    for number, width_px in ((1, 1.4), (2, 0.9), (3, 1.2)):
        monkeypatch.setattr(exposed, "SIGMA_PX", width_px)
        paths.append(_write(tmp_path / f"{number}.fits", number))
    optics, found = _registered(paths)
    wider = [each.source.wider_px2 for each in found]
    assert wider == pytest.approx([1.4**2 - 0.9**2, 0.0, 1.2**2 - 0.9**2], rel=0.2)
    assert [each.source.flux_scale for each in found] == pytest.approx([1, 1, 1], abs=0.03)
    assert optics.support_px < 0.9  # the scene is that of the sharpest
    assert "stars wider by FWHM 2." in found[0].words
    assert found[0].facts["wider_px2"] == wider[0]
    cut = [each.source.exposure((slice(0, 48), slice(0, 48))) for each in found]
    assert [each.wider_px2 for each in cut] == wider


@pytest.mark.parametrize(("width_px", "warned"), [(1.4, False), (2.4, True)])
def test_an_exposure_much_wider_than_the_sharpest_is_warned_of(
    tmp_path, monkeypatch, caplog, width_px, warned
):
    paths = [_write(tmp_path / "0.fits", 0)]
    monkeypatch.setattr(exposed, "SIGMA_PX", width_px)
    paths.append(_write(tmp_path / "1.fits", 1))
    _registered(paths)
    assert any("1.fits: its stars are 2." in text for text in caplog.messages) == warned
    caplog.clear()
    _registered(paths, **{"task.each": True})  # nothing is made as sharp as another there
    assert not any("its stars are" in text for text in caplog.messages)


@pytest.mark.parametrize(
    ("widths_px", "told"), [((1.5, 0.9, 1.2), "1.fits"), ((0.9, 1.5, 0.9), ""), ((1.0, 0.95), "")]
)
def test_a_sharper_exposure_is_asked_for_first(tmp_path, monkeypatch, caplog, widths_px, told):
    paths = []
    for number, width_px in enumerate(widths_px):
        monkeypatch.setattr(exposed, "SIGMA_PX", width_px)
        paths.append(_write(tmp_path / f"{number}.fits", number))
    noted = []
    monkeypatch.setattr(SILENT, "note", noted.append, raising=False)
    _registered(paths)
    lines = [line for line in noted if "give that one first" in line]
    assert len(lines) == (told != "")
    assert all(f"times as wide as those of {told}: " in line for line in lines)


def test_coordinates_are_believed_where_stars_confirm_them(tmp_path):
    paths = [_write(tmp_path / f"{n}.fits", n, wcs=True) for n in (0, 3)]
    _, (found,) = _registered(paths)
    np.testing.assert_allclose(found.source.geometry.shift_px, SHIFTS[3], atol=0.01)
    assert "celestial coordinates" in found.words


@pytest.mark.parametrize(("side", "middle"), [(48, 300.5), (90, 41.0), (600, 300.5)])
def test_a_reference_may_be_a_small_part_of_an_exposure(side, middle, tmp_path):
    """All of it may fall between the places at which an exposure's coordinates are looked at."""
    frames = []
    for name, length, centre in (("small", side, (side + 1) / 2), ("large", 600, middle)):
        header = fits.Header(_WCS | {"CRPIX1": centre, "CRPIX2": centre})
        path = tmp_path / f"{name}.fits"
        fits.PrimaryHDU(np.zeros((length, length), np.float32), header).writeto(path)
        frames.append(open_frame(str(path)))
    small, large = frames
    geometry, (rows, cols) = by_sky(large, small, middle_of(small.shape))
    first = middle - (side + 1) / 2
    np.testing.assert_allclose(geometry.shift_px, (-first, -first), atol=1e-3)
    assert max(rows.start, cols.start) <= max(0, first)
    assert min(rows.stop, cols.stop) >= min(600, first + side) - 1


def test_an_exposure_of_another_sky_does_not_overlap(tmp_path):
    frames = []
    for name, cards in (("here", {}), ("there", {"CRVAL1": 151.0})):
        path = tmp_path / f"{name}.fits"
        fits.PrimaryHDU(np.zeros(_SHAPE, np.float32), fits.Header(_WCS | cards)).writeto(path)
        frames.append(open_frame(str(path)))
    with pytest.raises(ExposureError, match="does not overlap"):
        by_sky(frames[1], frames[0], middle_of(_SHAPE))


@pytest.mark.parametrize(
    ("cards", "light", "words"),
    [
        ({"GAIN": 4.0}, 0.5, "exposure times and gains"),
        ({"GAIN": 4.0, "EXPTIME": 120.0}, 1.0, "exposure times and gains"),
        ({"GAIN": 2.0, "EXPTIME": 120.0}, 2.0, "exposure times"),
        ({"GAIN": 4.0, "BUNIT": "adu/s", "EXPTIME": 120.0}, 0.5, "gains"),
        ({"GAIN": 2.0, "BUNIT": "adu/s", "EXPTIME": 120.0}, 1.0, "taken as equal"),
        ({"GAIN": 4.0, "BUNIT": "MJy/sr"}, 1.0, "taken as equal"),
    ],
)
def test_cards_tell_the_light_where_stars_cannot(cards, light, words, tmp_path):
    """Data numbers count electrons by the gain: half as many for one that is twice as high."""
    unit = {"BUNIT": cards.get("BUNIT", "adu")}
    paths = [
        _write_empty(tmp_path / "0.fits", seed=0, **unit),
        _write_empty(tmp_path / "1.fits", seed=1, **cards),
    ]
    _, (found,) = _registered(paths, **{"noise.sigma": 10.0})
    assert found.source.flux_scale == pytest.approx(light)
    assert f"({words}: too few stars" in found.words


def test_one_gain_for_all_does_not_tell_two_rates_apart(tmp_path):
    """Whatever their exposure times: those were divided out."""
    paths = [
        _write_empty(tmp_path / "0.fits", seed=0, BUNIT="adu/s", EXPTIME=60.0),
        _write_empty(tmp_path / "1.fits", seed=1, BUNIT="adu/s", EXPTIME=240.0),
    ]
    given = {"noise.sigma": 10.0, "noise.gain_e_per_dn": 2.0}
    _, (found,) = _registered(paths, **given)
    assert found.source.flux_scale == 1.0


@pytest.mark.parametrize("unit", [1.0, 1e-24])
def test_blank_parts_of_exposures_are_not_seen(unit, tmp_path):
    """They do not scatter: counted, they would leave the frame without any unit to be seen in."""
    config, places = RunConfig().with_overrides(**{"noise.sigma": 11.0 * unit}), []
    for fill in (0.0, np.nan):
        path = _write(tmp_path / f"{fill}.fits")
        with fits.open(path, mode="update") as hdus:
            hdus[0].data = (hdus[0].data * unit).astype(np.float64)
            hdus[0].data[:, :40] = fill
        frame, noise = settle_frame(open_frame(path), config)
        window = middle_of(frame.shape)
        seen = see_window(frame, window, noise, unit_of(frame, window))
        places.append(seen.stars.places)
    assert len(places[0]) > 5
    np.testing.assert_array_equal(*places)


@pytest.mark.parametrize("unit", [1e-25, 1e20])
def test_exposures_are_seen_alike_in_every_unit(unit, tmp_path):
    paths = [_write(tmp_path / f"{n}.fits", n) for n in (0, 3)]
    _, (plain,) = _registered(paths, **{"noise.sigma": 11.0})
    for path in paths:
        with fits.open(path, mode="update") as hdus:
            hdus[0].data = (hdus[0].data * unit).astype(np.float64)
    _, (found,) = _registered(paths, **{"noise.sigma": 11.0 * unit})
    np.testing.assert_allclose(
        found.source.geometry.shift_px, plain.source.geometry.shift_px, atol=1e-3
    )
    assert found.source.flux_scale == pytest.approx(plain.source.flux_scale, rel=1e-3)
    assert found.source.level_offset == pytest.approx(plain.source.level_offset * unit, abs=unit)


def test_coordinates_that_are_off_are_corrected(tmp_path):
    paths = [
        _write(tmp_path / "0.fits", 0, wcs=True),
        _write(tmp_path / "3.fits", 3, wcs=True, told_shift=(0.9, -1.6)),
    ]
    _, (found,) = _registered(paths)
    np.testing.assert_allclose(found.source.geometry.shift_px, SHIFTS[3], atol=0.06)
    assert "moved" in found.words


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"BUNIT": "electron"}, "in electron, .*: in adu|exposures of one unit are needed"),
        ({"FILTER": "g"}, "filter g, .*: r; exposures of one filter are needed"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, cards, words):
    paths = [_write(tmp_path / "a.fits"), _write(tmp_path / "b.fits", 1, **cards)]
    with pytest.raises(ExposureError, match=words):
        _registered(paths)


def test_another_pixel_scale_is_refused(tmp_path):
    paths = [
        _write(tmp_path / "a.fits", wcs=True),
        _write(tmp_path / "b.fits", 1, wcs=True, CD1_1=-2e-4, CD2_2=2e-4),
    ]
    with pytest.raises(ExposureError, match=r"arcsec a pixel, .*one pixel scale are needed"):
        _registered(paths)


def test_another_sky_is_refused(tmp_path):
    paths = [
        _write(tmp_path / "a.fits", wcs=True),
        _write(tmp_path / "b.fits", 1, wcs=True, CRVAL2=3.0),
    ]
    with pytest.raises(ExposureError, match=r"b\.fits: does not overlap with .*a\.fits"):
        _registered(paths)


def test_an_exposure_under_clouds_is_refused_or_left_out_of_what_guides_others(tmp_path, caplog):
    paths = [_write(tmp_path / f"{n}.fits", n, wcs=True) for n in (0, 1)]
    clouded = tmp_path / "clouded.fits"
    header = fits.getheader(paths[0])
    sky = noisy(np.full(_SHAPE, SKY), np.random.default_rng(9))
    fits.PrimaryHDU(sky, header).writeto(clouded)
    paths.append(str(clouded))
    with pytest.raises(ExposureError, match=r"clouded\.fits: shows . of .* clear in .*0\.fits"):
        _registered(paths)
    _, found = _registered(paths, **{"task.each": True})
    assert [each.source.frame.path.name for each in found] == ["1.fits"]
    assert "clouded.fits: not used" in caplog.text
    with pytest.raises(ExposureError, match="no other exposure shows its sources"):
        _registered([str(clouded), *paths[:2]], **{"task.each": True})
    _, found = _registered(paths, **{"fit.any_optics": True})
    assert len(found) == 2


@pytest.mark.parametrize("wcs", [True, False])
def test_an_exposure_of_another_sky_guides_none_and_stops_no_other(tmp_path, caplog, wcs):
    """One that the telescope took elsewhere ended a night of exposures that guide each other."""
    paths = [_write(tmp_path / f"{n}.fits", n, wcs=wcs) for n in (0, 1)]
    header = fits.getheader(paths[0])
    if wcs:
        header["CRVAL1"] += 1.0
    elsewhere = draw_sky(_SHAPE, count=40, brightest=3e4, seed=27).seen(_SHAPE, (0, 0)) + SKY
    paths.append(str(tmp_path / "elsewhere.fits"))
    fits.PrimaryHDU(noisy(elsewhere, np.random.default_rng(9)), header).writeto(paths[2])
    with pytest.raises(ExposureError, match=r"elsewhere\.fits: "):
        _registered(paths)
    _, found = _registered(paths, **{"task.each": True})
    assert [each.source.frame.path.name for each in found] == ["1.fits"]
    assert "elsewhere.fits: not used for" in caplog.text
    with pytest.raises(ExposureError, match="no other exposure shows its sources"):
        _registered([paths[2], *paths[:2]], **{"task.each": True})


def test_cards_of_further_exposures_are_no_cards_of_the_product(tmp_path, monkeypatch):
    """One that no compressed image may have is of no account there; of the first it is refused."""
    monkeypatch.setattr(ways, "fit_combined_prior", any_prior)
    monkeypatch.setattr(ways, "restore_combined", arithmetic)
    paths = [_write(tmp_path / "0.fits"), _write(tmp_path / "1.fits", 1, ZSCALE=2.0)]
    target = tmp_path / "out.fits.fz"
    with pytest.raises(OutputError, match="card ZSCALE"):
        restore_frame(paths[1], target, _config(paths[::-1]))
    assert restore_frame(paths[0], target, _config(paths)).status == "restored"


def test_an_exposure_counts_once_however_it_is_packed(tmp_path):
    first = _write(tmp_path / "a.fits")
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(Path(first).read_bytes()))
    with fits.open(first) as again:
        again[0].header["OBSERVER"] = "another"
        again.writeto(tmp_path / "edited.fits")
    for name in ("a.fits.gz", "edited.fits"):
        with pytest.raises(ExposureError, match="the same exposure as"):
            _registered([first, str(tmp_path / name)])


def test_an_exposure_counts_once(tmp_path):
    first = _write(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(Path(first).read_bytes())
    with pytest.raises(ExposureError, match=r"b\.fits: the same exposure as .*a\.fits"):
        _registered([first, str(tmp_path / "b.fits")])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task.exposures": ()}, "one input; give two"),
        ({"task.factor": 5}, "--factor 5: combine needs 1 to 4"),
        ({"task.name": "denoise", "task.each": True}, "--each: denoise restores every frame"),
        ({"noise.law": "none"}, "--noise none: exposures are combined by their noise"),
        ({"fit.prior": "x.dipprior"}, "--prior x.dipprior: a prior"),
    ],
)
def test_options_that_do_not_go_together_are_refused(four, options, words):
    with pytest.raises(ConfigError, match=words):
        check_task(_config(four, **options))


@pytest.fixture(scope="module")
def product(four, tmp_path_factory):
    target = tmp_path_factory.mktemp("product") / "deep.fits"
    assert restore_frame(four[0], target, _config(four, **{"task.factor": 2})).status == "restored"
    return target


def test_a_product_tells_what_was_combined(four, product):
    target = product
    config = _config(four, **{"task.factor": 2})
    frame = open_frame(target)
    assert frame.shape == (128, 144)
    assert frame.header["EXPTIME"] == 60.0  # of the first: nothing is claimed that is not so
    assert (frame.header["DIPTASK"], frame.header["DIPNEXP"]) == ("combine", 4)
    named = [frame.header[f"DIPEX{number:03d}"] for number in range(1, 5)]
    assert named == [Path(path).name for path in four]
    shares = [frame.header[f"DIPLO{number:03d}"] for number in range(1, 5)]
    assert all(0 <= share < 0.01 for share in shares)
    assert np.argmax(shares) == 2
    account = read_account(target).document
    told = facts_of(account, "product")["exposures"]
    assert [each["file"] for each in told] == named
    assert [each["left_out_share"] for each in told] == shares
    for number, path in enumerate(four[1:], start=1):
        told = facts_of(account, f"exposure-{number}")
        assert told["file"] == Path(path).name
        np.testing.assert_allclose(told["shift_px"], SHIFTS[number], atol=0.05)
    assert restore_frame(four[0], target, config).status == "already done"


def test_what_is_left_of_noise_is_told_as_a_share_of_that_of_all_exposures(four, product):
    """It was told as a share of the first's: two times too little was left of four."""
    assert already_done(four[0], product).judged_noise == "the noise of 4 exposures combined"


@pytest.mark.parametrize("each", [False, True], ids=["combined", "each"])
def test_whose_noise_law_is_told_of_several_exposures(four, each):
    """That of the first was told as that of their combination."""
    config, frames = _config(four[:2], **{"task.each": each}), open_frames(four[0])
    asked, others = AskedOptics.of(config), Exposures.of(config, frames)
    planes = plan_planes(four[0], frames, config, Told(SILENT, four[0]), asked, others)
    law = "poisson-gaussian, gain and read noise of the header"
    assert planes.noise.startswith(law if each else f"of 2 exposures, the first: {law}")
    assert planes.restored[0].combined == (1 if each else 2)


def test_a_card_that_names_another_exposure_is_found(product, tmp_path):
    forged = tmp_path / "forged.fits"
    with fits.open(product) as hdus:
        hdus[0].header["DIPEX003"] = "other.fits"
        hdus.writeto(forged, checksum=True)
    found = {check.name: check.detail for check in verify_product(forged).checks}
    assert "card DIPEX003 =" in found["account"]
    assert "DIPEX002" not in found["account"]


@pytest.mark.parametrize("value", [0.5, None, "more"], ids=["other", "gone", "one more"])
def test_a_card_of_what_was_left_out_that_is_not_the_account_s_is_found(product, tmp_path, value):
    assert verify_product(product).ok
    forged = tmp_path / "forged.fits"
    card = "DIPLO005" if value == "more" else "DIPLO003"
    with fits.open(product) as hdus:
        if value is None:
            del hdus[0].header[card]
        else:
            hdus[0].header[card] = 0.5
        hdus.writeto(forged, checksum=True)
    found = {check.name: check.detail for check in verify_product(forged).checks}
    assert re.search(r"card DIPLO00[345] =", found["account"])


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, True), ({"task.factor": 2}, False), ({"task.each": True}, False), ("beside", False)],
    ids=["own pixels", "finer", "each", "in a file beside it"],
)
def test_planes_that_are_of_the_first_exposure_alone_are_told_of(tmp_path, options, told):
    paths = []
    for number in range(2):
        path = _write(tmp_path / f"{number}.fits", number)
        if options != "beside":
            with fits.open(path, mode="append") as hdus:
                hdus.append(fits.ImageHDU(np.zeros(_SHAPE, "u1"), name="DQ"))
        paths.append(path)
    if options == "beside":
        fits.PrimaryHDU(np.zeros(_SHAPE, "u1")).writeto(tmp_path / "0_dq.fits")
    config = _config(paths, **({} if options == "beside" else options))
    frames = open_frames(paths[0])
    assert frames[0].has_mask
    planes = plan_planes(
        paths[0], frames, config, Told(SILENT, paths[0]), AskedOptics.of(config),
        Exposures.of(config, frames),
    )  # fmt: skip
    assert any("of the first exposure alone" in note for note in planes.notes) is told


def test_another_exposure_is_another_product(four, product, tmp_path):
    others = [*four[:3], _write(tmp_path / "3.fits", 3, seed=9)]
    with pytest.raises(OutputError, match="exists"):
        restore_frame(four[0], product, _config(others, **{"task.factor": 2}))


def test_an_exposure_is_never_written_over(four, tmp_path):
    with pytest.raises(OutputError, match="input"):
        restore_frame(four[0], Path(four[2]), _config(four), overwrite=True)


@pytest.mark.slow
def test_decam_exposures_are_registered_by_their_coordinates():
    folder = Path(os.environ.get("DIP_EXTRA_DATA", "/nowhere")) / "multi_exposure"
    if not folder.exists():
        pytest.skip("needs the extra data")
    paths = [str(folder / f"DEC-OBS04{name}.mini.fits") for name in "abcde"]
    _, found = _registered(paths)
    for each in found:
        np.testing.assert_allclose(each.source.geometry.shift_px, (0, 0), atol=0.1)
        assert each.source.flux_scale == 1.0  # stars agree with the exposure times
    wider = [each.source.wider_px2 for each in found]
    assert wider[1] > 1.0  # c has the worst seeing, e the best
    assert wider[3] < -1.0


def test_side_by_side_exposures_are_what_they_are_one_after_the_other(four):
    """And told of in their order, though the first takes the longest."""
    alone, beside = (_registered(four, **{"workers.threads_per_fit": n}) for n in (1, 3))
    assert alone[0].support_px == beside[0].support_px
    assert alone[0].seeing == beside[0].seeing
    assert [each.facts for each in alone[1]] == [each.facts for each in beside[1]]


def test_what_one_of_several_side_by_side_says_is_said_and_ends_it(tmp_path):
    paths = [_write(tmp_path / f"{n}.fits", n, wcs=True) for n in (0, 1)]
    paths.insert(1, _write(tmp_path / "g.fits", 2, wcs=True, FILTER="g"))
    with pytest.raises(ExposureError, match=r"g\.fits: filter g"):
        _registered(paths, **{"workers.threads_per_fit": 2})


def test_stars_of_what_guides_many_are_looked_for_once(tmp_path, monkeypatch):
    """Though by their coordinates every other sees another part of them; and they lie where
    stars of that part alone put them.
    """
    seen = []

    def noted(frame, window, *rest):
        seen.append(frame.path.name)
        return see_window(frame, window, *rest)

    monkeypatch.setattr(settling, "see_window", noted)
    paths = [_write(tmp_path / f"{number}.fits", number, wcs=True) for number in range(3)]
    for turn in range(3):
        turned = paths[turn:] + paths[:turn]
        config = _config(turned, **{"task.each": True})
        frames = open_frames(turned[0])
        settled = settling.settle_guide(frames[0], config)
        told = Told(SILENT, turned[0])
        _, each = Exposures.of(config, frames).register(0, *settled, Optics(), told=told)
        for own, part in zip(each, _registered(turned)[1], strict=True):
            apart = np.subtract(own.facts["shift_px"], part.facts["shift_px"])
            assert np.abs(apart).max() < 0.02
            assert own.facts["flux_scale"] == part.facts["flux_scale"]
    assert sorted(seen) == ["0.fits", "1.fits", "2.fits"]


@pytest.mark.parametrize(
    ("window", "shape", "whole"),
    [
        ((slice(3, 64), slice(0, 50)), (64, 72), (slice(0, 64), slice(0, 72))),
        ((slice(3, 20), slice(0, 50)), (64, 72), None),
        ((slice(0, 3000), slice(0, 3000)), (3200, 3072), None),  # a part of it is looked at
        ((slice(70, 3100), slice(0, 3000)), (3200, 3072), (slice(64, 3136), slice(0, 3072))),
    ],
)
def test_of_a_frame_that_is_mostly_looked_at_all_is(window, shape, whole):
    assert whole_if_most(window, shape) == (whole or window)


def test_the_noise_of_what_guides_many_is_found_once(tmp_path, monkeypatch):
    found = []

    def noted(frame, config):
        found.append(frame.path.name)
        return settle_frame(frame, config)

    monkeypatch.setattr(settling, "settle_frame", noted)
    paths = [_write(tmp_path / f"{n}.fits", n) for n in range(3)]
    each = {"task.each": True}
    first = _registered(paths, **each)
    for turn in (1, 2):
        _registered(paths[turn:] + paths[:turn], **each)
    assert sorted(found) == ["0.fits", "1.fits", "2.fits"]
    assert [one.facts for one in _registered(paths, **each)[1]] == [one.facts for one in first[1]]
    _registered(paths, **each, **{"noise.read_noise_e": 7.0})
    assert found[3:] == ["1.fits", "2.fits"]
    Path(paths[2]).unlink()
    _write(tmp_path / "2.fits", 2, seed=5)
    _registered(paths, **each)
    assert found[5:] == ["2.fits"]


@pytest.mark.parametrize(("each", "number", "warned"), [(0, 1, 1), (1, 1, 0), (1, 0, 1)])
def test_an_exposure_of_another_filter_is_warned_of_once(each, number, warned, caplog):
    """Where each is restored for itself beside its own product, beside the others' in a line."""
    names = ["a.fits", "b.fits", "c.fits"]
    frames = [SimpleNamespace(path=Path(name)) for name in names]
    found = [
        SimpleNamespace(
            source=SimpleNamespace(frame=frame),
            found=SimpleNamespace(compared=Compared(unlike=0.3 if number in (0, one) else 0.02)),
        )
        for one, frame in enumerate(frames[1:], start=1)
    ]
    config = RunConfig().with_overrides(**{"task.name": "combine", "task.each": bool(each)})
    lines = []
    told = Told(SimpleNamespace(note=lines.append), "a.fits")
    Exposures((), config)._tell_of_changes(frames[0], found, told)
    said = f"{names[number]}: the light of its sources is unlike"
    assert [text.startswith(said) for text in caplog.messages] == [True] * warned
    assert [said in line for line in lines] == [True] * (1 - warned)
