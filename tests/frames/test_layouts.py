"""Files of observatories: what belongs to what, by law and not by luck."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import Reading, open_frame, open_frames, unlike_notes
from dip_pipeline.frames.layouts import LAYOUTS
from tests.frames import layout_files as files

ALL = slice(None)

# Maker, layout, planes, has sigma 2, bad pixels by row of column 0, saturated ones.
FAMILIES = [
    (files.hubble, "HST", 2, True, {0, 3}, {2}),
    (files.jwst, "JWST", 1, True, {0, 3}, {1}),
    (files.jwst_without_error, "JWST", 1, True, {0, 3}, {1}),
    (files.lsst, "LSST", 1, True, {0, 3}, {1}),
    (files.decam, "DECam Community Pipeline", 2, True, {0, 2, 4}, {1}),
    (files.decam_bits, "DECam Community Pipeline", 2, True, {0, 2, 4}, {1}),
    (files.ccd_data, "CCDData", 1, True, {0}, set()),
    (files.gemini, "Gemini", 1, True, {0, 3}, {2}),
    (files.muse, "MUSE", 3, True, {0}, set()),
    (files.one_image, "named extensions", 1, True, {0}, set()),
    (files.one_chip, "named extensions", 1, True, {0}, set()),
    (files.side_files, "image with files beside it", 1, True, {0}, set()),
    (files.mosaic, "multi-extension mosaic", 3, False, set(), set()),
    (files.ramp, "JWST", 4, False, {0}, set()),
]


@pytest.mark.parametrize("family", FAMILIES, ids=[item[0].__name__ for item in FAMILIES])
def test_each_family_is_told_and_its_planes_mean_what_it_says(tmp_path, family):
    make, layout, planes, has_noise, bad, saturated = family
    frames = open_frames(make(tmp_path))
    assert len(frames) == planes
    for frame in frames:
        assert frame.layout == layout
        pixels = frame.read(ALL, ALL)
        known = pixels.masked[:, 0]
        assert {int(row) for row in np.flatnonzero(known)} == bad
        full = np.zeros(frame.shape) if pixels.saturated is None else pixels.saturated
        assert {int(row) for row in np.flatnonzero(full[:, 0])} == saturated
        assert frame.has_error_plane == has_noise
        if has_noise:
            np.testing.assert_allclose(pixels.error[10:, 10:], files.SIGMA, rtol=1e-6)
    assert len({frame.label for frame in frames}) == planes


@pytest.mark.parametrize("family", FAMILIES, ids=[item[0].__name__ for item in FAMILIES])
def test_every_frame_travels_to_a_worker(tmp_path, family):
    for frame in open_frames(family[0](tmp_path)):
        there = pickle.loads(pickle.dumps(frame))
        assert there == frame
        here, again = frame.read(ALL, ALL), there.read(ALL, ALL)
        np.testing.assert_array_equal(again.masked, here.masked)
        np.testing.assert_array_equal(again.science, here.science)


def test_the_table_of_layouts_ends_with_what_takes_any_image():
    names = [layout.name for layout in LAYOUTS]
    assert len(set(names)) == len(names)
    assert names[-1] == "plain image"


def test_a_plane_of_a_cube_is_that_plane_with_its_own_noise_and_flags(tmp_path):
    frames = open_frames(files.muse(tmp_path))
    with fits.open(tmp_path / "DATACUBE.fits") as hdus:
        for frame, plane in zip(frames, hdus["DATA"].data, strict=True):
            np.testing.assert_array_equal(frame.read(ALL, ALL).science, plane)
    assert [frame.plane_index for frame in frames] == [(0,), (1,), (2,)]


def test_a_ramp_takes_flags_of_the_pixel_and_of_the_read(tmp_path):
    frames = open_frames(files.ramp(tmp_path))
    masks = [frame.read(ALL, ALL).masked for frame in frames]
    assert [bool(mask[7, 7]) for mask in masks] == [False, False, False, True]
    assert all(mask[0, 0] for mask in masks)


def test_a_weight_of_zero_holds_no_information(tmp_path):
    pixels = open_frame(files.decam(tmp_path)).read(ALL, ALL)
    assert pixels.error[5, 5] == np.inf
    assert pixels.masked[5, 5]


def test_companions_are_files_of_their_own(tmp_path):
    frame = open_frame(files.decam(tmp_path))
    assert sorted(path.name[18:21] for path in frame.companions) == ["ood", "oow"]
    assert open_frame(files.hubble(tmp_path)).companions == ()


def test_exposures_of_wise_have_uncertainty_and_mask_beside_them(tmp_path):
    """Compressed ones beside one that is not, as the archive serves them."""
    path = files.write(tmp_path / "01234a123-w1-int-1b.fits", [fits.PrimaryHDU(files.sky())])
    sigma = np.full(files.SHAPE, 3.0, "f4")
    files.write(tmp_path / "01234a123-w1-unc-1b.fits.gz", [fits.PrimaryHDU(sigma)])
    bad = files.flags("i4", bad=1)
    files.write(tmp_path / "01234a123-w1-msk-1b.fits.gz", [fits.PrimaryHDU(bad)])
    pixels = open_frame(path).read(ALL, ALL)
    assert (pixels.error[~pixels.masked] == 3.0).all()
    np.testing.assert_array_equal(pixels.masked, bad != 0)


@pytest.mark.parametrize(
    ("name", "sigma"), [("rings.v3.skycell.1725.051.stk.g.unconv", 2.0), ("m31", 0.5)]
)
def test_a_weight_of_pan_starrs_is_a_variance(tmp_path, name, sigma):
    path = files.write(tmp_path / f"{name}.fits", [fits.PrimaryHDU(files.sky())])
    stored = np.full(files.SHAPE, 4.0, "f4")
    files.write(tmp_path / f"{name}.wt.fits", [fits.PrimaryHDU(stored)])
    assert open_frame(path).read(ALL, ALL).error == pytest.approx(sigma)


def test_a_mask_of_real_numbers_beside_an_image_is_one(tmp_path):
    path = files.write(tmp_path / "f.fits", [fits.PrimaryHDU(files.sky())])
    files.write(tmp_path / "f_mask.fits", [fits.PrimaryHDU(files.flags("f4", bad=1, fine=0))])
    (frame,) = open_frames(path)
    assert [tuple(place) for place in np.argwhere(frame.read(ALL, ALL).masked)] == [(0, 0)]


def test_chips_have_files_beside_theirs(tmp_path):
    chips = [files.image(files.sky(seed=n), f"CCD{n}") for n in (1, 2)]
    noise = [files.image(files.full(n * files.SIGMA), f"CCD{n}") for n in (2, 1)]
    masks = [files.image(files.flags(bad=1), f"CCD{n}") for n in (1, 2)]
    path = files.write(tmp_path / "mega.fits", chips)
    files.write(tmp_path / "mega.rms.fits", noise)
    files.write(tmp_path / "mega_mask.fits", masks)
    frames = open_frames(path)
    assert [frame.where for frame in frames] == ["HDU 1 (CCD1,1)", "HDU 2 (CCD2,1)"]
    for number, frame in enumerate(frames, start=1):
        pixels = frame.read(ALL, ALL)
        np.testing.assert_allclose(pixels.error[10:], number * files.SIGMA)
        assert [tuple(place) for place in np.argwhere(pixels.masked)] == [(0, 0)]


def test_detected_sources_are_not_bad_and_bits_come_from_the_cards(tmp_path):
    pixels = open_frame(files.lsst(tmp_path)).read(ALL, ALL)
    assert not pixels.masked[2, 0]  # DETECTED, bit index 5


@pytest.mark.parametrize(
    ("name", "what", "option"),
    [
        ("c4d_160101_000000_ood_z_v1.fits", "a mask", "--dq"),
        ("c4d_160101_000000_oow_z_v1.fits", "a weight map", "--err"),
    ],
)
def test_masks_and_weights_are_called_what_they_are(tmp_path, name, what, option):
    files.decam(tmp_path)
    with pytest.raises(FrameError, match=f"not an image to restore: {what}"):
        open_frame(tmp_path / name)  # of all chips
    for hdu in (1, 2):  # one chip alone, as of a file cut out
        with fits.open(tmp_path / name) as hdus:
            single = tmp_path / f"{hdu}" / name
            single.parent.mkdir()
            fits.HDUList([hdus[0].copy(), hdus[hdu].copy()]).writeto(single)
        with pytest.raises(FrameError, match=f"not an image to restore: {what}") as caught:
            open_frame(single)
        assert option in str(caught.value)
        assert open_frame(f"{single}[1]").shape == files.SHAPE  # asked for by number


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("m31_rms.fits", "a noise map"),
        ("m31.weight.fits", "a weight map"),
        ("m31_mask.fits", "a mask"),
        ("stars_psf.fits", "a point-spread function"),
        ("nircam.WebbPSF.fits", "a point-spread function"),
    ],
)
def test_names_of_files_that_are_no_images(tmp_path, name, what):
    path = files.write(tmp_path / name, [fits.PrimaryHDU(files.sky())])
    with pytest.raises(FrameError, match=f"not an image to restore: {what}"):
        open_frame(path)


def test_masks_of_ztf_mean_what_ztf_says(tmp_path):
    name = "ztf_20180501_000535_zg_c10_o_q1_{}.fits"
    marks = files.flags(source=2, spike=128, saturated=256, dead=512)
    files.write(tmp_path / name.format("mskimg"), [fits.PrimaryHDU(marks)])
    path = files.write(tmp_path / name.format("sciimg"), [fits.PrimaryHDU(files.sky())])
    pixels = open_frame(path).read(ALL, ALL)
    assert set(np.flatnonzero(pixels.masked[:, 0])) == {1, 3}
    assert set(np.flatnonzero(pixels.saturated[:, 0])) == {2}


def test_bricks_of_the_legacy_surveys_have_inverse_variances(tmp_path):
    name = "legacysurvey-1501p020-{}-r.fits"
    files.write(tmp_path / name.format("invvar"), [fits.PrimaryHDU(files.full(1 / 9))])
    path = files.write(tmp_path / name.format("image"), [fits.PrimaryHDU(files.sky())])
    np.testing.assert_allclose(open_frame(path).read(ALL, ALL).error, 3.0)


@pytest.mark.parametrize(
    ("science", "noise", "mask"),
    [
        ("SCI", "WGT", "MSK"),  # the Dark Energy Survey's
        ("1-1.E.SCI", "1-1.E.RMS", "1-1.E.FLG"),  # Euclid's
        ("CCD7", "CCD7_WEIGHT", "CCD7_MASK"),
        ("FLUX", "SPREAD", "STATE"),  # told by their classes, as ESO does
    ],
)
@pytest.mark.parametrize("chips", [1, 2])
def test_planes_of_a_chip_are_told_by_words_of_their_names(tmp_path, science, noise, mask, chips):
    inverse = ("WGT", "WEIGHT")
    noise_value = files.SIGMA ** (-2 if noise.endswith(inverse) else 1)
    by_class = {"HDUCLASS": "ESO"} if science == "FLUX" else {}
    hdus = []
    for chip in range(1, chips + 1):
        name, spread, state = (
            each.replace("7", str(chip)).replace("1-1", f"{chip}-1")
            for each in (science, noise, mask)
        )
        if by_class and chip > 1:  # classes name their partners, for names are free
            name, spread, state = (f"{each}{chip}" for each in (name, spread, state))
        cards = {"HDUCLAS2": "DATA", "ERRDATA": spread, "QUALDATA": state} if by_class else {}
        hdus += [
            files.image(files.sky(seed=chip), name, chip, **by_class, **cards),
            files.image(
                files.full(noise_value), spread, chip, **by_class,
                **({"HDUCLAS2": "ERROR", "HDUCLAS3": "RMSE"} if by_class else {}),
            ),
            files.image(
                files.flags(bad=1), state, chip, **by_class,
                **({"HDUCLAS2": "QUALITY", "HDUCLAS3": "FLAG32BIT"} if by_class else {}),
            ),
        ]  # fmt: skip
    frames = open_frames(files.write(tmp_path / "chips.fits", hdus))
    assert len(frames) == chips
    for frame in frames:
        pixels = frame.read(ALL, ALL)
        assert np.ptp(pixels.error[10:, 10:]) == 0
        assert frame.relative_noise == noise.endswith(inverse)
        np.testing.assert_allclose(pixels.error[10, 10], files.SIGMA, rtol=1e-6)
        assert [tuple(place) for place in np.argwhere(pixels.masked)] == [(0, 0)]


@pytest.mark.parametrize("other", ["BKG", "THUMB", "ANYTHING"])
def test_what_lies_beside_the_one_science_image_is_not_restored(tmp_path, other):
    hdus = [files.image(files.sky(), "SCI"), files.image(files.sky(seed=2), other)]
    frames = open_frames(files.write(tmp_path / "one.fits", hdus))
    assert [frame.where for frame in frames] == ["HDU 1 (SCI,1)"]


@pytest.mark.parametrize(
    "others",
    [
        ("ERR", "BACK", "BACK_RMS"),
        ("ERR", "MODEL", "MODEL_ERR"),
        ("ERR", "MODEL_IMAGE", "RESID_IMAGE"),
        ("FLAT_DATA", "DARK_DATA"),
    ],
)
def test_a_primary_image_is_the_science_whatever_lies_beside_it(tmp_path, others):
    hdus = [fits.PrimaryHDU(files.sky()), *(files.image(files.full(2.0), n) for n in others)]
    (frame,) = open_frames(files.write(tmp_path / "p.fits", hdus))
    assert frame.where == "HDU 0"
    assert frame.has_error_plane == ("ERR" in others)


def test_chips_without_planes_of_their_own_are_chips_too(tmp_path):
    chips = [files.image(files.sky(seed=n), f"CCD{n}") for n in (1, 2, 3)]
    path = files.write(tmp_path / "c.fits", [*chips, files.image(files.flags(bad=1), "CCD1_BPM")])
    assert [frame.has_mask for frame in open_frames(path)] == [True, False, False]


def test_a_mask_of_one_chip_is_not_another_s(tmp_path):
    chips = [files.image(files.sky(seed=n), f"CCD{n}") for n in (1, 2)]
    path = files.write(tmp_path / "m.fits", chips)
    files.write(tmp_path / "m_mask.fits", [files.image(files.flags(bad=1), "CCD2")])
    assert [frame.has_mask for frame in open_frames(path)] == [False, True]


def test_a_side_file_of_one_plane_may_hold_it_anywhere(tmp_path):
    path = files.write(tmp_path / "s.fits", [files.image(files.sky(), "SCI")])
    fits.PrimaryHDU(files.flags(bad=1)).writeto(tmp_path / "s_mask.fits")
    assert open_frame(path).has_mask
    drizzled = files.write(tmp_path / "t_drz.fits", [fits.PrimaryHDU(files.sky())])
    files.write(tmp_path / "t_wht.fits", [files.image(files.full(0.25), "WHT")])
    assert open_frame(drizzled).has_error_plane


def test_of_a_side_file_that_is_an_image_itself_the_plane_counts_and_not_the_image(tmp_path):
    path = files.write(tmp_path / "s.fits", [fits.PrimaryHDU(files.sky())])
    hdus = [files.image(files.sky(seed=2), "SCI"), files.image(files.full(4.0), "VAR")]
    files.write(tmp_path / "s_err.fits", [*hdus, files.image(files.flags(bad=1), "DQ")])
    files.write(tmp_path / "s_mask.fits", [hdus[0], files.image(files.flags(bad=1), "DQ")])
    frame = open_frame(path)
    np.testing.assert_allclose(frame.read(ALL, ALL).error[9], 2.0)
    assert 0 < frame.read(ALL, ALL).masked.sum() < 20


def test_cards_of_partners_count_with_their_versions(tmp_path):
    hdus = []
    for chip in (1, 2):
        science = files.image(files.sky(seed=chip), "SCI", chip, HDUCLAS2="DATA", ERRDATA="ERR")
        hdus += [science, files.image(files.full(chip), "ERR", chip)]
    hdus[0].header["ERRDATA"] = "NOPE"
    frames = open_frames(files.write(tmp_path / "v.fits", hdus))
    assert [frame.read(ALL, ALL).error[5, 5] for frame in frames] == [1.0, 2.0]


def test_whole_numbers_beside_chips_are_not_restored(tmp_path):
    hdus = [files.image(files.sky(seed=chip), f"CHIP{chip}") for chip in (1, 2)]
    path = files.write(tmp_path / "m.fits", [*hdus, files.image(files.flags(bad=1), "STATE")])
    assert [frame.where for frame in open_frames(path)] == ["HDU 1 (CHIP1,1)", "HDU 2 (CHIP2,1)"]


def test_the_asinh_of_a_flux_is_no_flux(tmp_path):
    hdus = [files.image(files.sky(), BSOFTEN=100.0, BOFFSET=0.5)]
    path = files.write(tmp_path / "rings.stk.r.unconv.fits", hdus)
    with pytest.raises(FrameError, match="asinh of flux"):
        open_frame(path)


def test_an_image_that_is_named_so_is_one_whatever_the_file_s_name(tmp_path):
    path = files.write(tmp_path / "deep_weight.fits", [files.image(files.sky(), "SCI")])
    assert open_frame(path).shape == files.SHAPE


@pytest.mark.parametrize("name", ["ngc_var_star.fits", "quasar.fits", "psfield7.fits", "err.fits"])
def test_names_of_targets_are_not_names_of_planes(tmp_path, name):
    path = files.write(tmp_path / name, [fits.PrimaryHDU(files.sky())])
    assert open_frame(path).layout == "plain image"


@pytest.mark.parametrize(
    ("make", "selector"), [(files.hubble, "ERR,1"), (files.ccd_data, "UNCERT")]
)
def test_a_noise_plane_that_is_asked_for_is_not_its_own_noise(tmp_path, make, selector):
    frame = open_frame(f"{make(tmp_path)}[{selector}]")
    assert selector.partition(",")[0] not in frame.noise_words
    assert len(frame.read(ALL, ALL).science) == files.SHAPE[0]


def test_a_user_names_the_planes(tmp_path):
    path = files.write(
        tmp_path / "odd.fits",
        [
            files.image(files.sky(), "FLUX"),
            files.image(files.full(files.SIGMA**2), "SPREAD"),
            files.image(files.flags(bad=2, fine=1), "STATE"),
        ],
    )
    asked = Reading(science="FLUX", error="variance:SPREAD", flags="STATE", bad_bits="2")
    (frame,) = open_frames(path, asked)
    pixels = frame.read(ALL, ALL)
    np.testing.assert_allclose(pixels.error, files.SIGMA)
    assert [tuple(place) for place in np.argwhere(pixels.masked)] == [(0, 0)]
    without = open_frame(files.hubble(tmp_path), Reading(error="none", flags="none"))
    assert (without.has_error_plane, without.has_mask) == (False, False)


def test_a_plane_may_lie_in_another_file_of_any_name(tmp_path):
    path = files.write(tmp_path / "a.fits", [fits.PrimaryHDU(files.sky())])
    other = files.write(
        tmp_path / "b.fits",
        [files.image(files.full(7.0), "X"), files.image(files.full(1 / 16), "Y")],
    )
    frame = open_frame(path, Reading(error=f"ivar:{other}[Y]"))
    np.testing.assert_allclose(frame.read(ALL, ALL).error, 4.0)
    assert frame.companions == (other,)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(science="NONE"), "no HDU"),
        (Reading(error="NOSUCH"), "--err NOSUCH: no such plane"),
        (Reading(flags="9"), "--dq 9: no such plane"),
        (Reading(bad_bits="NOSUCH"), "--bad-bits NOSUCH: need"),
        (Reading(bad_bits="-4"), "--bad-bits -4: need powers of two"),
        (Reading(error="ivar:nofile.fits"), "--err nofile.fits: no such file"),
        (Reading(error="folder/nofile"), "--err folder/nofile: no such file"),
        (Reading(error="foo:b.fits"), "foo is no form .*sigma, variance, ivar, weight"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_line(tmp_path, reading, message):
    with pytest.raises(FrameError, match=message) as caught:
        open_frame(files.hubble(tmp_path), reading)
    assert "\n" not in str(caught.value)
    assert "literal" not in str(caught.value)


def test_planes_of_another_size_are_told_of_and_not_used(tmp_path):
    small = np.ones((7, files.sky().shape[1]), np.float32)
    named = [files.image(files.sky(), "SCI"), files.image(small, "ERR"), files.image(small, "DQ")]
    path = files.write(tmp_path / "a.fits", [fits.PrimaryHDU(), *named])
    frames = open_frames(path)
    assert not frames[0].has_error_plane
    notes = unlike_notes(frames)
    assert [note.split(":")[0] for note in notes] == ["HDU 2 (ERR,1)", "HDU 3 (DQ,1)"]
    assert all("not used" in note for note in notes)
    assert unlike_notes(open_frames(files.hubble(tmp_path))) == ()


@pytest.mark.parametrize("section", ["[0][1:10,1:10]", "[1:10,1:10]", "[SCI][*,1:5]"])
def test_sections_of_pixels_are_not_read_and_said_so(tmp_path, section):
    path = files.hubble(tmp_path)
    with pytest.raises(FrameError, match="sections of pixels are not read"):
        open_frame(f"{path}{section}")


def test_bad_bits_take_names_and_numbers(tmp_path):
    path = files.hubble(tmp_path)
    for text in ("WARM", "64"):
        pixels = open_frame(path, Reading(bad_bits=text)).read(ALL, ALL)
        assert [tuple(place) for place in np.argwhere(pixels.masked)] == [(1, 0)]
    full = open_frame(path, Reading(bad_bits="SATURATED")).read(ALL, ALL)
    assert full.masked[2, 0]
    assert not full.saturated[2, 0]  # asked to be filled, not left alone
    codes = open_frame(files.decam(tmp_path), Reading(bad_bits="DIFFERENCE,1")).read(ALL, ALL)
    assert {int(row) for row in np.flatnonzero(codes.masked[:, 0])} == {0, 3}


@pytest.mark.parametrize("grow_px", [1, 3])
def test_a_mask_grows_alike_in_every_region(tmp_path, grow_px):
    path = files.hubble(tmp_path)
    frame = open_frame(path, Reading(grow_px=grow_px))
    whole = frame.read(ALL, ALL).masked
    rows, cols = np.indices(whole.shape)
    bad = [(0, 0), (3, 0)]
    near = [np.abs(rows - r) + np.abs(cols - c) <= grow_px for r, c in bad]
    np.testing.assert_array_equal(whole, near[0] | near[1])
    for start in range(0, 20, 3):
        part = frame.read(slice(start, start + 4), slice(0, 5))
        np.testing.assert_array_equal(part.masked, whole[start : start + 4, :5])
        assert part.science.shape == part.error.shape == part.masked.shape


def test_strict_refuses_a_wrong_check_sum(tmp_path):
    path = files.hubble(tmp_path)
    with fits.open(path) as hdus:
        hdus.writeto(tmp_path / "summed.fits", checksum=True)
    path = tmp_path / "summed.fits"
    open_frame(path, Reading(strict=True))
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(bytes(content))
    open_frame(path)
    with pytest.raises(FrameError, match="refused by --strict"):
        open_frame(path, Reading(strict=True))


def test_every_real_file_is_read_or_refused_in_one_line(extra_data: Path):
    told = {}
    for path in sorted(extra_data.rglob("*")):
        if path.suffix in {".md", ".png", ".jpg"} or not path.is_file():
            continue
        try:
            frames = open_frames(path)
        except FrameError as error:
            told[path.name] = "refused" if "\n" not in str(error) else "refused in many lines"
        else:
            told[path.name] = frames[0].layout
            frames[-1].read(slice(0, 9), slice(0, 9))
    assert "refused in many lines" not in told.values()
    assert told["c4d_170316_062107_ooi_z_ls9.N2.fits"] == "DECam Community Pipeline"
    assert told["c4d_170316_062107_ood_z_ls9.N2.fits"] == "refused"
    assert told["xdf_hst_wfc3ir_60mas_f105w_sci.fits"] == "image with files beside it"
    assert told["gmos.fits"] == "Gemini"
    assert told["combined_bias.fit.gz"] == "CCDData"
    assert told["test0.fits"] == told["3c120_stis.fits.gz"] == "HST"


def test_signal_in_the_zeroth_read_of_the_infrared_is_no_saturation(tmp_path):
    """Of WFC3 the UVIS channel calls that bit saturated, the IR channel not."""
    for detector, full in (("UVIS", True), ("IR", False)):
        hdus = [files.image(files.sky(), "SCI"), files.image(files.flags(a=2048, b=256), "DQ")]
        path = tmp_path / f"{detector}_flt.fits"
        files.write(path, hdus, TELESCOP="HST", INSTRUME="WFC3", DETECTOR=detector)
        pixels = open_frame(path).read(ALL, ALL)
        assert list(pixels.saturated[:2, 0]) == [full, True]
        assert not pixels.masked[:2, 0].any()


def _two_chips(folder, name, *planes):
    hdus = [files.image(plane, label, ver) for label, ver, plane in planes]
    return files.write(folder / name, hdus)


def test_of_another_file_each_chip_takes_its_own_plane(tmp_path):
    chips = [("SCI", ver, files.sky(seed=ver)) for ver in (1, 2)]
    path = _two_chips(tmp_path, "chips.fits", *chips)
    sigmas = [("ERR", ver, files.full(float(ver))) for ver in (1, 2)]
    maps = [("MAP", ver, files.full(7.0)) for ver in (1, 2)]
    for name, planes in (("e.fits", sigmas), ("more.fits", maps + sigmas)):
        beside = _two_chips(tmp_path, name, *planes)
        for ver, frame in enumerate(open_frames(path, Reading(error=str(beside))), start=1):
            assert (frame.read(ALL, ALL).error == ver).all()
    unnamed = files.write(tmp_path / "u.fits", [files.image(files.full(float(v))) for v in (1, 2)])
    for place, frame in enumerate(open_frames(path, Reading(error=str(unnamed))), start=1):
        assert (frame.read(ALL, ALL).error == place).all()


def test_which_plane_of_another_file_is_meant_has_to_be_told(tmp_path):
    path = files.write(tmp_path / "one.fits", [fits.PrimaryHDU(files.sky())])
    several = [("A", 1, files.full(1.0)), ("B", 1, files.full(2.0))]
    beside = _two_chips(tmp_path, "e.fits", *several)
    with pytest.raises(FrameError, match=r"--err .*: which of its planes .* as FILE\[EXT\]"):
        open_frame(path, Reading(error=str(beside)))
    frame = open_frame(path, Reading(error=f"{beside}[B]"))
    assert (frame.read(ALL, ALL).error == 2).all()


def test_one_plane_with_an_axis_of_one_is_for_all_planes_of_a_cube(tmp_path):
    bad = files.flags("u1", first=1)[None]
    hdus = [
        files.image(np.stack([files.sky(seed=n) for n in range(3)]), "SCI"),
        files.image(bad, "DQ"),
        files.image(files.full(files.SIGMA)[None], "ERR"),
    ]
    for frame in open_frames(files.write(tmp_path / "cube.fits", hdus)):
        pixels = frame.read(ALL, ALL)
        assert pixels.masked[0, 0]
        assert (pixels.error == files.SIGMA).all()


def test_a_file_beside_is_a_variance_where_its_unit_is_a_square(tmp_path):
    """Whatever its name says: `err` of adu2 is none."""
    for name, unit, sigma in (("a", "adu", 4.0), ("b", "adu**2", 2.0)):
        err = fits.PrimaryHDU(files.full(4.0), fits.Header({"BUNIT": unit}))
        files.write(tmp_path / f"{name}_err.fits", [err])
        path = tmp_path / f"{name}.fits"
        files.write(path, [fits.PrimaryHDU(files.sky(), fits.Header({"BUNIT": "adu"}))])
        assert (open_frame(path).read(ALL, ALL).error == sigma).all()
