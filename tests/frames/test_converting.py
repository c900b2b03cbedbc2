"""FITS to Zarr and back: the same bytes; Zarr to FITS and back: the same group."""

import contextlib
import gzip
import io
import json

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dip_pipeline.errors import DipError, FrameError, OutputError
from dip_pipeline.frames import Reading, open_frame, read_provenance, save_frame
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.fits_layout import scan_layout
from tests.frames import layout_files as files
from tests.frames.test_zarr import group, same_pixels

ALL = slice(None)
__all__ = ["group"]  # the fixture


def there_and_back(folder, path):
    """Convert to Zarr and back; gives the group, and the bytes that came back."""
    convert(path, folder / "there.zarr", overwrite=True)
    convert(folder / "there.zarr", folder / "back.fits", overwrite=True)
    return folder / "there.zarr", (folder / "back.fits").read_bytes()


def test_a_fits_file_comes_back_byte_for_byte(layered, tmp_path):
    there, back = there_and_back(tmp_path, layered)
    assert back == layered.read_bytes()
    same_pixels(open_frame(there).read(ALL, ALL), open_frame(layered).read(ALL, ALL))
    assert open_frame(there).cards == open_frame(layered).cards
    node = zarr.open_group(there, mode="r")
    assert node["science"].dtype == np.dtype("f4")
    assert node["flags"].dtype == np.dtype("i2")
    assert node["fits/005"].shape == (40, 30)  # the other chip: numbers, too


KINDS = st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
CARDS = st.lists(
    st.sampled_from(
        [
            ("OBJECT", "M 13"), ("COMMENT", "one"), ("HISTORY", "two"), ("", "blank keyword"),
            ("HIERARCH ESO DET OUT1 GAIN", 1.9), ("LONGTEXT", "text & more " * 12), ("EMPTY", None),
            ("COMMENT", "three"), ("EXPTIME", 3.5), ("FLAG", True), ("TWICE", 1), ("TWICE", 2),
        ]
    ),
    max_size=9,
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    kind=KINDS,
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    cards=CARDS,
    options=st.sets(st.sampled_from(["blank", "scaled", "checksum"])),
)
def test_whatever_the_type_the_scaling_and_the_cards(tmp_path_factory, kind, shape, cards, options):
    folder = tmp_path_factory.mktemp("round")
    pixels = np.random.default_rng(len(cards)).integers(0, 200, shape).astype(kind)
    blank, scaled = "blank" in options, "scaled" in options
    hdu = fits.PrimaryHDU(pixels)
    for keyword, value in cards:
        hdu.header.append((keyword, value), end=True)
    if kind in ("i2", "i4") and blank:
        hdu.header["BLANK"] = int(pixels.flat[0])
    if kind in ("u1", "i2", "i4") and scaled:
        hdu.header["BSCALE"], hdu.header["BZERO"] = 0.25, 10.0
    if kind[0] == "f":
        pixels.flat[0] = np.nan
    fits.HDUList([hdu, fits.ImageHDU(pixels, name="AGAIN")]).writeto(
        folder / "in.fits", checksum="checksum" in options
    )
    there, back = there_and_back(folder, folder / "in.fits")
    assert back == (folder / "in.fits").read_bytes()
    if len(shape) == 2:
        same_pixels(open_frame(there).read(ALL, ALL), open_frame(folder / "in.fits").read(ALL, ALL))


def test_odd_bytes_come_back_too(layered, tmp_path):
    content = bytearray(layered.read_bytes())
    content[2 * 80 + 70 : 2 * 80 + 73] = b"\xe9 \xfc"  # letters outside ASCII
    content[2879:2880] = b"x"  # not blank after END
    image = scan_layout(io.BytesIO(content), len(content), layered).hdus[1]
    content[image.end - 3 : image.end] = b"pad"  # not zero after the pixels
    content += b"what is no HDU" + bytes(3000)
    path = tmp_path / "odd.fits"
    path.write_bytes(content)
    assert there_and_back(tmp_path, path)[1] == bytes(content)


def test_compressed_images_are_kept_and_readable(tmp_path):
    hdu = fits.CompImageHDU(np.arange(1200, dtype="i2").reshape(40, 30), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "in.fits")
    there, back = there_and_back(tmp_path, tmp_path / "in.fits")
    assert back == (tmp_path / "in.fits").read_bytes()
    np.testing.assert_array_equal(zarr.open_group(there, mode="r")["science"][:], hdu.data)


def test_files_without_an_image_come_back(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=np.arange(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "in.fits")
    there, back = there_and_back(tmp_path, tmp_path / "in.fits")
    assert back == (tmp_path / "in.fits").read_bytes()
    with pytest.raises(FrameError, match="no array `science`"):
        open_frame(there)


def test_a_packed_file_comes_back_unpacked(layered, tmp_path):
    packed = tmp_path / "in.fits.gz"
    packed.write_bytes(gzip.compress(layered.read_bytes()))
    assert there_and_back(tmp_path, packed)[1] == layered.read_bytes()
    convert(tmp_path / "there.zarr", tmp_path / "back.fits.gz")
    assert gzip.decompress((tmp_path / "back.fits.gz").read_bytes()) == layered.read_bytes()


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_product_keeps_its_account_on_the_way(layered, tmp_path, restored, provenance, suffix):
    frame = open_frame(layered)
    target = tmp_path / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    other = tmp_path / ("out.zarr" if suffix == "fits" else "other.fits")
    convert(target, other)
    assert read_provenance(other).document == read_provenance(target).document
    assert read_provenance(other).tiles == read_provenance(target).tiles
    same_pixels(open_frame(other).read(ALL, ALL), open_frame(target).read(ALL, ALL))
    if suffix == "fits":
        assert zarr.open_group(other, mode="r")["DIP_ERR"].shape == frame.shape
    else:
        assert fitscheck.main(["-c", "-i", str(other)]) == 0  # HDUs of the input had no sums
        with fits.open(other) as hdus:
            names = [hdu.name for hdu in hdus]
            assert names[:6] == ["PRIMARY", "SCI", "ERR", "DQ", "CATALOG", "SCI"]
            assert {"DIP_ERR", "DIP_FLAG", "DIP_PROV", "DIP_TILE"} <= set(names)


def contents(path):
    """Everything of a group, in values that can be compared."""
    node = zarr.open_group(path, mode="r")
    found = {"": dict(node.attrs)}
    for name, item in node.members(max_depth=None):
        found[name] = dict(item.attrs)
        if isinstance(item, zarr.Array):
            facts = (item.dtype, item.shape, item.chunks, item.metadata.dimension_names)
            found[name] = (*facts, item[...].tobytes(), dict(item.attrs))
    return found


def test_a_group_comes_back_with_every_array_and_attribute(group, tmp_path):
    root = zarr.open_group(group, mode="r+")
    root.create_array("notes/scalar", data=np.array(3.5))
    root.create_array("bools", data=np.array([[True, False]]))
    root.create_array("bytes", data=np.arange(-4, 4, dtype="i1"))
    root.create_array("halves", data=np.arange(3, dtype="f2"), dimension_names=("time",))
    root["notes"].attrs["by"] = "José"
    convert(group, tmp_path / "out.fits")
    assert fitscheck.main(["-c", str(tmp_path / "out.fits")]) == 0
    same_pixels(open_frame(tmp_path / "out.fits").read(ALL, ALL), open_frame(group).read(ALL, ALL))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert hdus[0].header["OBJECT"] == "M 13"
        assert hdus["DQ"].data[5, 6] == 2**31
        np.testing.assert_array_equal(hdus["bytes"].data, np.arange(-4, 4))
    convert(tmp_path / "out.fits", tmp_path / "back.zarr")
    assert contents(tmp_path / "back.zarr") == contents(group)


def test_an_edited_header_is_not_lost_on_the_way_back(group, tmp_path):
    convert(group, tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits", mode="update") as hdus:
        hdus[0].header["OBJECT"] = "M 92"
    convert(tmp_path / "out.fits", tmp_path / "back.zarr")
    assert open_frame(tmp_path / "back.zarr").header["OBJECT"] == "M 92"


@pytest.mark.parametrize("version", [2, 3])
def test_a_foreign_array_is_a_frame(tmp_path, version, restored, provenance):
    pixels = np.random.default_rng(1).normal(10, 1, (1, 40, 30))
    path = tmp_path / "a.zarr"
    zarr.save_array(path, pixels, zarr_format=version)
    frame = open_frame(path)
    assert (frame.shape, frame.cards, frame.unit) == ((40, 30), (), "")
    np.testing.assert_array_equal(frame.read(ALL, ALL).science, pixels[0].astype("f4"))
    for suffix in ("zarr", "fits"):
        save_frame(tmp_path / f"o.{suffix}", frame, restored(frame), provenance=provenance)
        assert open_frame(tmp_path / f"o.{suffix}").shape == (40, 30)
    convert(path, tmp_path / "c.fits")
    np.testing.assert_array_equal(fits.getdata(tmp_path / "c.fits"), pixels)


def test_format_2_groups_are_read_and_their_products_are_format_3(tmp_path, restored, provenance):
    root = zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    root.create_array("science", data=np.ones((20, 30), "i2"), chunks=(8, 8))
    root["science"].attrs.put({"scale_factor": 0.5, "add_offset": 1.0, "_FillValue": 7})
    root["science"][2, 3] = 7
    root.create_array("extra", data=np.arange(5.0))
    root["extra"].attrs["unit"] = "s"
    root.attrs["unit"] = "adu"
    frame = open_frame(tmp_path / "old.zarr")
    science = frame.read(ALL, ALL).science
    assert science[0, 0] == 1.5
    assert np.argwhere(np.isnan(science)).tolist() == [[2, 3]]
    save_frame(tmp_path / "new.zarr", frame, restored(frame), provenance=provenance)
    new = zarr.open_group(tmp_path / "new.zarr", mode="r", zarr_format=3)
    np.testing.assert_array_equal(new["extra"][:], np.arange(5.0))
    assert new["extra"].attrs["unit"] == "s"
    assert "scale_factor" not in new["science"].attrs
    codec = new["extra"].metadata.to_dict()["codecs"][-1]
    assert codec["configuration"]["checksum"] is True


def test_of_several_images_one_is_selected(tmp_path):
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("first", data=np.zeros((4, 5)))
    root.create_array("deep/second", data=np.ones((4, 6)))
    with pytest.raises(FrameError, match=r"more than one.*a\.zarr\[first\]"):
        open_frame(tmp_path / "a.zarr")
    assert open_frame(f"{tmp_path}/a.zarr[deep/second]").shape == (4, 6)
    with pytest.raises(FrameError, match=r"no array \[third\]"):
        open_frame(f"{tmp_path}/a.zarr[third]")


def test_what_cannot_be_converted_is_refused_in_one_line(layered, group, tmp_path):
    with pytest.raises(
        OutputError, match=r"is a FITS file and becomes a Zarr group; .* ends in \.zarr"
    ):
        convert(layered, tmp_path / "b.fits")
    with pytest.raises(
        OutputError, match=r"is a Zarr store and becomes a FITS file; .* ends in \.fits"
    ):
        convert(group, tmp_path / "b.zarr")
    with pytest.raises(FrameError, match="no such file"):
        convert(tmp_path / "none.fits", tmp_path / "b.zarr")
    zarr.open_group(group, mode="r+").create_array("odd", data=np.zeros(3, "c8"))
    with pytest.raises(OutputError, match="array odd holds complex64"):
        convert(group, tmp_path / "b.fits")
    (tmp_path / "x.fits").write_bytes(b"nothing")
    with pytest.raises(FrameError, match="not a FITS file"):
        convert(tmp_path / "x.fits", tmp_path / "b.zarr")
    with pytest.raises(OutputError, match="exists already"):
        convert(layered, group)
    assert not list(tmp_path.glob("b.*"))


def test_a_damaged_description_is_refused(group, tmp_path):
    convert(group, tmp_path / "out.fits")
    content = (tmp_path / "out.fits").read_bytes()
    stream = io.BytesIO(content.replace(b'{"attributes"', b'["attributes"'))
    (tmp_path / "out.fits").write_bytes(stream.getvalue())
    with pytest.raises(FrameError, match="ZARR_META is damaged"):
        convert(tmp_path / "out.fits", tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("member", "keys", "value"),
    [
        ("error", ("attributes",), "none"),
        ("science", ("chunk_grid", "configuration", "chunk_shape"), [0, 8]),
        ("science", ("chunk_grid", "configuration", "chunk_shape"), [1, 8]),
        ("flags", ("fill_value",), -1),
        ("fits/000", ("attributes", "fits_role"), ["science"]),
    ],
)
def test_damaged_metadata_of_an_array_are_told_in_one_line(
    layered, group, tmp_path, member, keys, value
):
    if member.startswith("fits"):
        group = tmp_path / "layered.zarr"
        convert(layered, group)
    path = group / member / "zarr.json"
    metadata = json.loads(path.read_text())
    place = metadata
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(metadata))
    with pytest.raises(DipError) as caught:
        convert(group, tmp_path / "back.fits")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back.fits").exists()
    with contextlib.suppress(DipError):  # where another array than those read is damaged
        open_frame(group).read(ALL, ALL)


def _a_product(tmp_path, group, restored, provenance):
    convert(group, tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)


def _with_an_hdu_more(tmp_path, group, *_):
    convert(group, tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits", mode="append") as hdus:
        hdus.append(fits.ImageHDU(np.arange(12.0).reshape(3, 4), name="MORE"))


def _with_other_numbers(tmp_path, group, *_):
    convert(group, tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits", mode="update") as hdus:
        hdus[0].data = hdus[0].data.astype("f8") / 3


def _with_one_misnumbered(tmp_path, group, *_):
    convert(group, tmp_path / "out.fits")
    content = (tmp_path / "out.fits").read_bytes()
    (tmp_path / "out.fits").write_bytes(content.replace(b'"hdu": 1', b'"hdu": 9'))


CHANGES = [_a_product, _with_an_hdu_more, _with_other_numbers, _with_one_misnumbered]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_came_to_a_group_s_file_since_is_not_lost(
    change, group, tmp_path, restored, provenance
):
    """Its description tells of the group that it was: of a file that is more it is not enough."""
    change(tmp_path, group, restored, provenance)
    there, back = there_and_back(tmp_path, tmp_path / "out.fits")
    assert back == (tmp_path / "out.fits").read_bytes()
    frames = [open_frame(one).read(ALL, ALL) for one in (there, tmp_path / "out.fits")]
    same_pixels(*frames)
    if change is _a_product:
        assert read_provenance(there).document == provenance.document


def test_a_product_of_a_group_s_file_is_whole_in_zarr_too(group, tmp_path, restored, provenance):
    convert(group, tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "p.zarr", frame, restored(frame), provenance=provenance)
    assert {"DIP_ERR", "DIP_FLAG"} <= set(zarr.open_group(tmp_path / "p.zarr", mode="r"))


def test_attributes_that_are_no_numbers_come_back(tmp_path):
    root = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    root.create_array("science", data=np.ones((8, 9)), attributes={"_FillValue": float("nan")})
    root.create_group("inner").attrs["limits"] = [float("-inf"), {"number": "nan"}]
    root.attrs["cards"] = [["A", {"number": "nan"}, ""]]
    convert(tmp_path / "g.zarr", tmp_path / "g.fits")
    convert(tmp_path / "g.fits", tmp_path / "again.zarr")
    again = zarr.open_group(tmp_path / "again.zarr", mode="r")
    assert np.isnan(again["science"].attrs["_FillValue"])
    assert again["inner"].attrs["limits"] == [float("-inf"), {"number": "nan"}]
    assert again.attrs["cards"] == [["A", {"number": "nan"}, ""]]


def test_arrays_without_a_number_come_back(tmp_path):
    root = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    root.create_array("science", data=np.ones((8, 9)))
    root.create_array("empty", data=np.ones((4, 0)))
    convert(tmp_path / "g.zarr", tmp_path / "g.fits")
    convert(tmp_path / "g.fits", tmp_path / "again.zarr")
    assert zarr.open_group(tmp_path / "again.zarr", mode="r")["empty"].shape == (4, 0)


REAL = [
    "ccd/a8280271.fits", "mef/3c120_stis.fits.gz", "compressed/m13_hcomp.fits", "nasty/scale.fits",
    "nasty/memtest.fits", "nasty/random_groups.fits", "nasty/blank.fits",
    "wcs/tab-time-last-axis.fits",
    "cube/l1448_13co.fits.gz", "ccd_calib_set/kelt-16-b-C084-r.fit.gz", "mef/gmos.fits",
]  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files_come_back_byte_for_byte(extra_data, tmp_path, name):
    content = (extra_data / name).read_bytes()
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    assert there_and_back(tmp_path, extra_data / name)[1] == plain


FAMILIES = [
    files.hubble, files.jwst, files.lsst, files.decam, files.decam_bits, files.gemini,
    files.side_files, files.one_image,
]  # fmt: skip


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_noise_and_flags_mean_in_a_group_what_they_meant_in_the_file(make, tmp_path):
    """Wherever they lie; and what lies beside the file is not in the file that comes back."""
    path = make(tmp_path)
    there, back = there_and_back(tmp_path, path)
    assert back == path.read_bytes()
    frame, again = open_frame(path), open_frame(there)
    pixels, converted = frame.read(ALL, ALL), again.read(ALL, ALL)
    same_pixels(pixels, converted)
    for name in ("saturated", "bad"):
        np.testing.assert_array_equal(getattr(pixels, name), getattr(converted, name))
    assert (again.has_error_plane, again.has_mask) == (frame.has_error_plane, frame.has_mask)
    assert frame.flag_words.split("; in ")[0] == again.flag_words.split("; in ")[0]


def test_a_product_in_zarr_keeps_the_meaning_of_flags(tmp_path, restored, provenance):
    frame = open_frame(files.decam(tmp_path))
    save_frame(tmp_path / "p.zarr", frame, restored(frame), provenance=provenance)
    again = open_frame(tmp_path / "p.zarr").read(ALL, ALL)
    np.testing.assert_array_equal(again.saturated, frame.read(ALL, ALL).saturated)
    convert(tmp_path / "p.zarr", tmp_path / "p.fits")
    with fits.open(tmp_path / "p.fits") as hdus:
        names = [hdu.name for hdu in hdus]
    assert not {"ERR", "DQ"} & set(names)  # they lie beside the input


def test_weights_stay_relative(tmp_path):
    files.write(tmp_path / "m.weight.fits", [fits.PrimaryHDU(files.full(0.5))])
    path = files.write(tmp_path / "m.fits", [fits.PrimaryHDU(files.sky())])
    there, back = there_and_back(tmp_path, path)
    assert back == path.read_bytes()
    assert open_frame(path).relative_noise
    assert open_frame(there).relative_noise


def test_bad_bits_are_asked_of_a_group_as_of_the_file(tmp_path):
    path = files.hubble(tmp_path)
    there, _ = there_and_back(tmp_path, path)
    for asked in ("WARM", "64,256"):
        reading = Reading(bad_bits=asked)
        pixels, again = (open_frame(one, reading).read(ALL, ALL) for one in (path, there))
        assert again.masked.any()
        np.testing.assert_array_equal(again.masked, pixels.masked)
        np.testing.assert_array_equal(again.saturated, pixels.saturated)
    with pytest.raises(FrameError, match="--bad-bits NOSUCH"):
        open_frame(there, Reading(bad_bits="NOSUCH"))
    codes, _ = there_and_back(tmp_path, files.decam(tmp_path))
    masked = open_frame(codes, Reading(bad_bits="STREAK")).read(ALL, ALL).masked
    assert set(np.flatnonzero(masked[:, 0])) == {4}


def test_further_chips_of_a_group_are_told_of(tmp_path, caplog):
    there, _ = there_and_back(tmp_path, files.mosaic(tmp_path))
    open_frame(there)
    assert "of a mosaic of 3 images this is the first alone" in caplog.text
    other = caplog.text.partition("there.zarr[")[2].partition("]")[0]
    caplog.clear()
    pixels = open_frame(f"{there}[{other}]").read(ALL, ALL)
    second = open_frame(f"{tmp_path / 'mosaic.fits'}[CCD2]").read(ALL, ALL)
    np.testing.assert_array_equal(pixels.science, second.science)
    assert not caplog.text


def test_a_compressed_product_is_one_as_a_group_too(layered, tmp_path, restored, provenance):
    frame = open_frame(layered)
    planes = restored(frame)
    save_frame(tmp_path / "p.fits.fz", frame, planes, provenance=provenance)
    there, back = there_and_back(tmp_path, tmp_path / "p.fits.fz")
    assert back == (tmp_path / "p.fits.fz").read_bytes()
    node = zarr.open_group(there, mode="r")
    np.testing.assert_array_equal(node["DIP_ERR"][:], planes.error)
    np.testing.assert_array_equal(node["DIP_FLAG"][:], planes.flags)
    masked = [open_frame(one).read(ALL, ALL).masked for one in (there, tmp_path / "p.fits.fz")]
    np.testing.assert_array_equal(*masked)
