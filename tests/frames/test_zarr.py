"""Zarr in and out, and across formats: nothing is lost on the way."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.flags import FLAG_MEANINGS, PixelFlag
from dip_pipeline.frames import (
    Reading,
    left_behind,
    open_frame,
    open_frames,
    save_frame,
    with_mask,
    zarr_writer,
)
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.zarr_reader import state_of
from tests.frames import layout_files as files

ALL = slice(None)
SHAPE = (70, 50)
CARDS = [
    ["OBJECT", "M 13", "target"],
    ["EXPTIME", 30.5, "s"],
    ["NAN", {"number": "nan"}, "no number"],
    ["NOTHING", None, "undefined"],
    ["COMMENT", "one", ""],
    ["ESO DET GAIN", 2, ""],
    ["COMMENT", "two", ""],
    ["OBSERVER", "José µ", "accents"],
]


@pytest.fixture
def group(tmp_path):
    """Science, error and flags in chunks, beside an array and a group that are not ours."""
    rng = np.random.default_rng(7)
    path = tmp_path / "in.zarr"
    root = zarr.create_group(path, zarr_format=3)
    science = rng.normal(100, 5, SHAPE).astype("f4")
    science[1, 2] = np.nan
    error = np.full(SHAPE, 5, "f4")
    error[3, 4] = 0
    flags = np.zeros(SHAPE, "u4")
    flags[5, 6] = 2**31
    for name, plane in (("science", science), ("error", error), ("flags", flags)):
        root.create_array(name, data=plane, chunks=(32, 16), attributes={"made": "here"})
    root.create_array("weights", data=np.arange(5))
    root.create_group("notes").create_array("inner", data=np.arange(3, dtype="i2"))
    root.attrs.put({"unit": "adu", "cards": CARDS, "night": {"moon": 0.5}})
    return path


def same_pixels(first, second):
    np.testing.assert_array_equal(first.science, second.science)
    np.testing.assert_array_equal(first.masked, second.masked)
    assert (first.error is None) == (second.error is None)
    if first.error is not None:
        np.testing.assert_array_equal(first.error, second.error)


def test_a_group_reads_as_a_frame(group):
    frame = open_frame(group)
    assert (frame.format, frame.shape, frame.unit) == ("zarr", SHAPE, "adu")
    assert frame.header["EXPTIME"] == 30.5
    assert math.isnan(frame.header["NAN"])
    assert frame.header["NOTHING"] is None
    assert [card[0] for card in frame.cards] == [card[0] for card in CARDS]
    pixels = frame.read(ALL, ALL)
    assert {tuple(place) for place in np.argwhere(pixels.masked)} == {(1, 2), (3, 4), (5, 6)}
    part = pickle.loads(pickle.dumps(frame)).read(slice(3, 40), slice(2, 33))
    np.testing.assert_array_equal(part.science, pixels.science[3:40, 2:33])
    np.testing.assert_array_equal(part.masked, pixels.masked[3:40, 2:33])


def test_zarr_to_zarr_keeps_every_other_array_and_attribute(group, tmp_path, restored, provenance):
    frame = open_frame(group)
    planes = restored(frame)
    save_frame(tmp_path / "out.zarr", frame, planes, provenance=provenance)
    before, after = (
        zarr.open_group(group, mode="r"),
        zarr.open_group(tmp_path / "out.zarr", mode="r"),
    )
    for name in ("error", "flags", "weights", "notes/inner"):
        np.testing.assert_array_equal(after[name][...], before[name][...])
        assert after[name].dtype == before[name].dtype
        assert dict(after[name].attrs) == dict(before[name].attrs)
    np.testing.assert_array_equal(after["science"][...], planes.science)
    np.testing.assert_array_equal(after["DIP_ERR"][...], planes.error)
    np.testing.assert_array_equal(after["DIP_FLAG"][...], planes.flags)
    assert after["science"].chunks == (32, 16)
    assert after["science"].attrs["made"] == "here"
    assert after.attrs["night"] == {"moon": 0.5}
    assert after.attrs["cards"][: len(CARDS)] == CARDS
    assert [card[0] for card in after.attrs["cards"][len(CARDS) :]] == [
        *(card[0] for card in provenance.cards if card[1] is not None),
        "HISTORY",
    ]


def test_errors_of_a_group_say_their_unit_and_flags_what_their_bits_mean(
    group, tmp_path, restored, provenance
):
    frame = open_frame(group)
    save_frame(tmp_path / "out.zarr", frame, restored(frame), provenance=provenance)
    made = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert made["DIP_ERR"].attrs["unit"] == "adu"
    bits = {int(bit): text for bit, text in made["DIP_FLAG"].attrs["bits"].items()}
    assert bits == {int(flag): text for flag, text in FLAG_MEANINGS.items()}


def test_metadata_is_json_that_everyone_can_read(group, tmp_path, restored, provenance):
    frame = open_frame(group)
    save_frame(tmp_path / "out.zarr", frame, restored(frame), provenance=provenance)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "out.zarr" / "zarr.json").read_text(), parse_constant=refuse)


def test_every_chunk_is_there_even_of_nothing_but_fill_values(
    group, tmp_path, restored, provenance
):
    frame = open_frame(group)
    planes = restored(frame)
    planes.science[...] = np.nan
    planes.flags[...] = 0
    save_frame(tmp_path / "out.zarr", frame, planes, provenance=provenance)
    root = zarr.open_group(tmp_path / "out.zarr", mode="r")
    for name in ("science", "DIP_ERR", "DIP_FLAG"):
        assert root[name].nchunks_initialized == root[name].nchunks == 12


def test_any_flipped_bit_is_noticed(group, tmp_path, restored, provenance):
    frame = open_frame(group)
    planes = restored(frame)
    planes.science[...] = np.random.default_rng(2).normal(size=SHAPE)  # hard to compress
    save_frame(tmp_path / "out.zarr", frame, planes, provenance=provenance)
    product = open_frame(tmp_path / "out.zarr")
    chunk = tmp_path / "out.zarr" / "science" / "c" / "0" / "0"
    content = chunk.read_bytes()
    for place in range(20, len(content), len(content) // 20):
        damaged = bytearray(content)
        damaged[place] ^= 4
        chunk.write_bytes(bytes(damaged))
        with pytest.raises(FrameError, match="array science, rows 0 to 70"):
            product.read(ALL, ALL)


@pytest.fixture
def product_of(group, restored, provenance):
    """Restore the group; where its product goes."""

    def save():
        frame, target = open_frame(group), group.with_name("out.zarr")
        save_frame(target, frame, restored(frame), provenance=provenance)
        return target

    save.folder = group.parent
    return save


class Disk:
    """An array on a disk that does what it should not at the second band that it is given."""

    def __init__(self, array, harm):
        self._array, self._harm, self._bands = array, harm, 0

    def __getattr__(self, name):
        return getattr(self._array, name)

    def __getitem__(self, region):
        return self._array[region]

    def __setitem__(self, region, values):
        self._bands += 1
        self._array[region] = values
        if self._bands == 2:
            self._harm(self._array, region)


def change_a_pixel(array, region):
    row = region[0].start
    array[row, 0] = array[row, 0] + 1


def lose_a_chunk(array, _region):
    (chunk,) = (array.store.root / array.path).glob("c/0/0")
    chunk.unlink()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (change_a_pixel, "reads back otherwise than written"),
        (lose_a_chunk, "11 of 12 chunks on disk"),
    ],
)
@pytest.mark.parametrize("name", ["science", "DIP_ERR", "DIP_FLAG"])
def test_what_the_disk_does_to_an_array_is_noticed(product_of, monkeypatch, harm, told, name):
    """Before the product gets its name."""
    create = zarr_writer.create_array

    def on_a_bad_disk(parent, called, *args, **more):
        array = create(parent, called, *args, **more)
        return Disk(array, harm) if called == name else array

    monkeypatch.setattr(zarr_writer, "create_array", on_a_bad_disk)
    with pytest.raises(OutputError, match=told):
        product_of()
    assert not list(product_of.folder.glob("*out*"))


def test_what_killed_writers_left_of_chunks_is_not_copied(group, product_of):
    (group / "weights" / "c" / "0.1234.partial").write_bytes(b"half a chunk")
    target = product_of()
    assert (target / "weights" / "c").exists()
    assert not list(target.rglob("*.partial"))


def test_a_group_that_is_written_to_is_another_one_though_it_is_as_large(group):
    before = state_of(group)
    chunk = group / "science" / "c" / "0" / "0"
    content = chunk.read_bytes()
    assert state_of(group) == before
    chunk.write_bytes(content)
    assert state_of(group) != before


def test_a_blank_among_unsigned_numbers_is_no_measurement_in_a_group(tmp_path):
    hdu = fits.PrimaryHDU(np.arange(12, dtype="u2").reshape(3, 4))
    hdu.writeto(tmp_path / "in.fits")
    with fits.open(tmp_path / "in.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BLANK"] = 5 - 2**15
    convert(tmp_path / "in.fits", tmp_path / "there.zarr")
    for name in ("in.fits", "there.zarr"):
        pixels = open_frame(tmp_path / name).read(ALL, ALL)
        assert np.argwhere(pixels.masked).tolist() == [[1, 1]]
        assert pixels.science[2, 3] == 11


def test_an_hdu_whose_array_was_exchanged_is_told(layered, tmp_path):
    convert(layered, tmp_path / "there.zarr")
    root = zarr.open_group(tmp_path / "there.zarr", mode="r+")
    kept = dict(root["error"].attrs)
    root.create_array("error", data=np.ones((3, 3), "f4"), overwrite=True).attrs.put(kept)
    with pytest.raises(FrameError, match=r"array error .*header and numbers disagree"):
        convert(tmp_path / "there.zarr", tmp_path / "back.fits")
    assert not (tmp_path / "back.fits").exists()


def test_fits_and_zarr_of_the_same_pixels_read_the_same(layered, tmp_path, restored, provenance):
    frame = open_frame(layered)
    whole = frame.read(ALL, ALL)
    planes = restored(frame)
    planes.science[...] = whole.science
    save_frame(tmp_path / "a.zarr", frame, planes, provenance=provenance)
    save_frame(tmp_path / "a.fits", frame, planes, provenance=provenance)
    from_zarr, from_fits = open_frame(tmp_path / "a.zarr"), open_frame(tmp_path / "a.fits")
    # What was filled in holds no information ever after.
    masked = whole.masked | (planes.flags & PixelFlag.FILLED != 0)
    same_pixels(from_zarr.read(ALL, ALL), replace(whole, masked=masked))
    same_pixels(from_fits.read(ALL, ALL), replace(whole, masked=masked))
    assert from_zarr.unit == from_fits.unit == "adu"
    assert from_zarr.header["GAIN"] == 2.5  # of the primary
    for keyword in ("EXPTIME", "CRPIX1", "LONGTEXT", "ESO DET OUT1 CONAD", "EMPTY"):
        assert from_zarr.header[keyword] == from_fits.header[keyword]


def test_fits_through_zarr_and_back_loses_nothing(layered, tmp_path, restored, provenance):
    frame = open_frame(f"{layered}[SCI,1]")
    planes = restored(frame)
    save_frame(tmp_path / "straight.fits", frame, planes, provenance=provenance)
    save_frame(tmp_path / "a.zarr", frame, planes, provenance=provenance)
    there = open_frame(tmp_path / "a.zarr")
    save_frame(tmp_path / "back.fits", there, planes, provenance=provenance)
    assert fitscheck.main(["-c", str(tmp_path / "back.fits")]) == 0
    with (
        fits.open(tmp_path / "straight.fits") as straight,
        fits.open(tmp_path / "back.fits") as back,
    ):
        assert [hdu.name for hdu in back] == [hdu.name for hdu in straight]
        for old, new in zip(straight, back, strict=True):
            if (old.name, old.ver) != ("SCI", 1):
                assert repr(new.header) == repr(old.header)
        values = [
            [
                (card.keyword, card.value)
                for card in hdus["SCI", 1].header.cards
                if card.keyword != "CHECKSUM"
            ]
            for hdus in (straight, back)
        ]
        values[1].remove(("HISTORY", provenance.history))  # restored twice, told twice
        assert values[1] == values[0]
        for name in ("ERR", "DQ", "CATALOG", ("SCI", 2)):
            np.testing.assert_array_equal(back[name].data, straight[name].data)


def test_a_zarr_group_becomes_a_fits_file_with_err_and_dq(group, tmp_path, restored, provenance):
    frame = open_frame(group)
    planes = restored(frame)
    save_frame(tmp_path / "out.fits", frame, planes, provenance=provenance)
    assert fitscheck.main(["-c", str(tmp_path / "out.fits")]) == 0
    with fits.open(tmp_path / "out.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, planes.science)
        assert hdus[0].header["BUNIT"] == "adu"
        assert hdus[0].header["OBJECT"] == "M 13"
        assert hdus[0].header["NAN"] == "nan"
        assert hdus[0].header["OBSERVER"] == "Jose u"
        assert hdus[0].header["ESO DET GAIN"] == 2
        assert list(hdus[0].header["COMMENT"]) == ["one", "two"]
        assert hdus["DQ"].data[5, 6] == 2**31
    again = open_frame(tmp_path / "out.fits").read(ALL, ALL)
    whole = frame.read(ALL, ALL)
    np.testing.assert_array_equal(again.error, whole.error)


def test_a_product_group_restored_again_holds_one_set_of_cards(
    group, tmp_path, restored, provenance
):
    frame = open_frame(group)
    save_frame(tmp_path / "once.zarr", frame, restored(frame), provenance=provenance)
    frame = open_frame(tmp_path / "once.zarr")
    save_frame(tmp_path / "twice.zarr", frame, restored(frame), provenance=provenance)
    keywords = [card[0] for card in open_frame(tmp_path / "twice.zarr").cards]
    assert [keywords.count(word) for word, value, _ in provenance.cards if value is not None] == [
        1
    ] * 5
    assert keywords.count("HISTORY") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: root.__delitem__("science"), "no array `science`"),
        (
            lambda root: root.create_array("science", data=np.zeros(4), overwrite=True),
            "1 axes",
        ),
        (
            lambda root: root.create_array("science", data=np.zeros((2, 3), "c8"), overwrite=True),
            "complex64",
        ),
        (
            lambda root: root.create_array("science", shape=(0, 3), dtype="f4", overwrite=True),
            "no pixels",
        ),
        (lambda root: root.attrs.update({"cards": "none"}), "attribute `cards` is broken"),
    ],
)
def test_groups_that_hold_no_image_are_refused_in_one_line(group, change, message):
    change(zarr.open_group(group, mode="r+"))
    with pytest.raises(FrameError, match=message) as caught:
        open_frame(group)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_group_are_refused_in_one_line(group, tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(FrameError, match=r"without zarr\.json"):
        open_frame(tmp_path / "empty.zarr")
    zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    with pytest.raises(FrameError, match="no array `science`"):
        open_frame(tmp_path / "old.zarr")
    (group / "zarr.json").write_text("{broken")
    with pytest.raises(FrameError, match="not JSON"):
        open_frame(group)


def test_missing_chunks_are_told(group, caplog):
    (group / "science" / "c" / "0" / "0").unlink()
    open_frame(group)
    assert "1 of 12 chunks of science are not there" in caplog.text


def test_a_user_names_the_planes_of_a_group(group):
    node = zarr.open_group(group, mode="r+")
    node.create_array("mine", data=np.full(SHAPE, 4.0))
    node.create_array("marks", data=np.eye(*SHAPE, dtype="u1"))
    plain = open_frame(group).read(ALL, ALL)
    asked = open_frame(group, Reading(error="ivar:mine", flags="marks", science="science"))
    pixels = asked.read(ALL, ALL)
    np.testing.assert_array_equal(pixels.error, np.float32(0.5))
    assert pixels.masked[2, 2]
    assert not pixels.masked[5, 6]
    assert "marks" in asked.flag_words
    none = open_frame(group, Reading(error="none", flags="none"))
    assert (none.has_error_plane, none.has_mask) == (False, False)
    assert none.read(ALL, ALL).masked.sum() == 1  # not a number
    other = open_frame(group, Reading(science="mine")).read(ALL, ALL)
    assert (other.science == 4).all()
    assert plain.masked[5, 6]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(error="gone"), "--err gone: no such array"),
        (Reading(flags="gone.fits"), "--dq gone.fits: no such array"),
        (Reading(science="SCI,2"), r"no array \[SCI,2\]"),
        (Reading(error="weights"), "--err weights: no such array of the shape"),
        (Reading(bad_bits="NOSUCH"), "--bad-bits NOSUCH"),
    ],
)
def test_planes_that_a_group_does_not_have_are_refused(group, reading, message):
    with pytest.raises(FrameError, match=message):
        open_frame(group, reading)


@pytest.mark.parametrize("rule", [3, {"words": "?"}, {"words": "", "names": 4, "bad_bits": 1}])
def test_a_broken_rule_of_flags_is_refused_in_one_line(group, rule):
    zarr.open_group(group, mode="r+").attrs["flag_rule"] = rule
    with pytest.raises(FrameError, match="attribute flag_rule is broken"):
        open_frame(group)


@pytest.mark.parametrize("kind", ["f4", "f8", "i2"])
def test_a_fill_value_is_no_measurement_whatever_the_type(tmp_path, kind):
    root = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    pixels = np.full((20, 24), 100, kind)
    pixels[4] = -999
    root.create_array("science", data=pixels, attributes={"_FillValue": -999})
    found = open_frame(tmp_path / "g.zarr").read(ALL, ALL)
    assert found.masked[4].all()
    assert found.masked.sum() == 24


@pytest.mark.parametrize("lost", [False, True])
def test_of_packed_chunks_those_that_are_missing_are_counted(tmp_path, caplog, lost):
    root = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    array = root.create_array(
        "science", shape=(64, 80), chunks=(10, 10), shards=(20, 40), dtype="f4"
    )
    array[:] = 1
    if lost:
        (tmp_path / "g.zarr/science/c/3/1").unlink()
    open_frame(tmp_path / "g.zarr")
    assert ("1 of 8 chunks of science are not there" in caplog.text) == lost
    assert ("not there" in caplog.text) == lost


def test_another_image_does_not_take_the_place_of_science(group, tmp_path, restored, provenance):
    zarr.open_group(group, mode="r+").create_array("other", data=np.ones(SHAPE))
    frame = open_frame(f"{group}[other]")
    with pytest.raises(OutputError, match="another image, `science`"):
        save_frame(tmp_path / "out.zarr", frame, restored(frame), provenance=provenance)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert not (tmp_path / "out.zarr").exists()


def test_arrays_that_a_fits_product_does_not_hold_are_named(group, tmp_path):
    frame = open_frame(group)
    assert left_behind(tmp_path / "out.fits", frame) == ("notes/inner", "weights")
    assert left_behind(tmp_path / "out.zarr", frame) == ()
    assert left_behind(tmp_path / "out.fits", open_frame(files.hubble(tmp_path))) == ()
    convert(tmp_path / "jabc_flt.fits", tmp_path / "h.zarr")
    assert left_behind(tmp_path / "out.fits", open_frame(tmp_path / "h.zarr")) == ()


def test_cards_that_no_header_can_hold_are_told_as_comments(group, tmp_path, restored, provenance):
    odd = [["Größe", 3, ""], ["a=b", "x", ""], ["END", "early", ""], ["OBJECT", "M 13", ""]]
    zarr.open_group(group, mode="r+").attrs["cards"] = odd
    convert(group, tmp_path / "plain.fits")
    frame = open_frame(group)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    for path in (tmp_path / "plain.fits", tmp_path / "out.fits"):
        with fits.open(path, checksum=True) as hdus:
            told = " ".join(str(line) for line in hdus[0].header["COMMENT"])
            assert hdus[0].header["OBJECT"] == "M 13"
        for words in ("Gr", "a=b = x"):
            assert words in told


def test_flags_of_half_precision_are_written(tmp_path, restored, provenance):
    root = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    root.create_array("science", data=np.ones((20, 24), "f4"))
    root.create_array("flags", data=np.eye(20, 24, dtype="f2"))
    frame = open_frame(tmp_path / "g.zarr")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    with fits.open(tmp_path / "out.fits") as hdus:
        np.testing.assert_array_equal(hdus["DQ"].data, np.eye(20, 24))


def test_weights_of_a_group_are_no_errors_of_its_product(group, tmp_path, restored, provenance):
    node = zarr.open_group(group, mode="r+")
    node.attrs["relative_error"] = True
    del node.attrs["unit"]
    frame = open_frame(group)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    del node.attrs["relative_error"]
    frame = open_frame(group)
    save_frame(tmp_path / "errors.fits", frame, restored(frame), provenance=provenance)
    with fits.open(tmp_path / "out.fits") as relative, fits.open(tmp_path / "errors.fits") as hdus:
        assert "ERR" not in relative
        assert "BUNIT" not in hdus["ERR"].header


def test_a_header_that_inherits_nothing_does_not_in_a_group_either(tmp_path):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((20, 24), "f4"), name="SCI")]
    hdus[0].header["GAIN"], hdus[1].header["INHERIT"] = 9.0, False
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    convert(tmp_path / "in.fits", tmp_path / "in.zarr")
    assert "GAIN" not in open_frame(tmp_path / "in.zarr").header


def test_a_mask_over_a_group_leaves_its_arrays_where_they_are(
    group, tmp_path, restored, provenance
):
    fits.writeto(tmp_path / "mask.fits", np.eye(*SHAPE, dtype="u1"))
    (frame,) = with_mask(open_frames(group), str(tmp_path / "mask.fits"))
    save_frame(tmp_path / "out.zarr", frame, restored(frame), provenance=provenance)
    node = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert {"weights", "notes", "error", "flags"} <= set(node)


def test_a_mask_over_a_file_leaves_its_flags_their_meaning(tmp_path, restored, provenance):
    path = files.lsst(tmp_path)
    fits.writeto(tmp_path / "mask.fits", files.flags("u1", first=0, second=1))
    (frame,) = with_mask(open_frames(path), str(tmp_path / "mask.fits"))
    save_frame(tmp_path / "out.zarr", frame, restored(frame), provenance=provenance)
    flags = open_frame(tmp_path / "out.zarr").flag_words
    assert "MP_ cards" in flags
