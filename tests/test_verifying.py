"""dip verify finds every change that is not declared, and nothing where there is none."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.cli.main import run
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.frames import (
    Provenance,
    RestoredPlanes,
    open_frame,
    read_account,
    save_frame,
)
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.fits_cards import join_cards
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.provenance import document_hdu
from dip_pipeline.frames.verifying import _cards_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.cli.conftest import log_kept
from tests.stand_in import QUICK, arithmetic

CONFIG = RunConfig().with_overrides(**QUICK, **{"noise.sigma": 3.0})
SUFFIXES = ["fits", "fits.gz", "fits.fz", "zarr"]


@pytest.fixture(autouse=True)
def log_as_it_was():
    """The command takes the log for itself; later tests listen to it again."""
    with log_kept():
        yield


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A frame with odd cards, a saturated star, SIP, a mask, a table; its products, made once."""
    folder = tmp_path_factory.mktemp("night")
    rng = np.random.default_rng(8)
    science = fits.ImageHDU(rng.normal(500, 3, (64, 80)).astype(np.uint16), name="SCI")
    science.data[20:22, 30:33] = 60000
    header = science.header
    cards = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRPIX1": 40.0, "CRPIX2": 32.0,
             "CRVAL1": 359.999, "CRVAL2": 88.0, "CD1_1": -1e-4, "CD2_2": 1e-4, "CD1_2": 1e-6,
             "CD2_1": 1e-6, "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5,
             "SATURATE": 50000, "SEEING": 1.2, "FWHM": 4.5, "HIERARCH ESO DET OUT1 GAIN": 1.1,
             "LONGTEXT": "and so on " * 20, "EMPTY": None}  # fmt: skip
    for keyword, value in cards.items():
        header[keyword] = value
    header["COMMENT"] = "one"
    header["HISTORY"] = "two"
    header["COMMENT"] = "three"
    header.append(("TWICE", 1), end=True)
    header.append(("TWICE", 2), end=True)
    flags = fits.ImageHDU(np.zeros((64, 80), "u1"), name="DQ")
    flags.data[5, 6] = 4
    table = fits.BinTableHDU.from_columns([fits.Column("X", "D", array=np.arange(5.0))], name="T")
    source = folder / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), science, flags, table]).writeto(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "restore", as_it_should_be)
        for suffix in SUFFIXES:
            restore_frame(str(source), folder / f"out.{suffix}", CONFIG)
    return folder


def as_it_should_be(problem, prior=None):
    """The stand-in, which leaves saturated pixels alone as a restoration does."""
    from dataclasses import replace

    from dip_pipeline.flags import PixelFlag
    from dip_pipeline.restoration.problem import cut_inner

    restored = arithmetic(problem, prior)
    alone = cut_inner(problem, problem.saturated)
    pixels = cut_inner(problem, problem.pixels)
    return replace(
        restored,
        science=np.where(alone, pixels, restored.science),
        flags=np.where(alone, np.uint8(PixelFlag.SATURATED), restored.flags),
    )


@pytest.fixture
def copy(night, tmp_path):
    """A product of its own for each test, to be damaged."""

    def make(suffix="fits"):
        import shutil

        name = f"out.{suffix}"
        if suffix == "zarr":
            shutil.copytree(night / name, tmp_path / name)
        else:
            shutil.copy(night / name, tmp_path / name)
        return tmp_path / name

    yield make
    close_files()


def wrong(product, against=None):
    return {c.name: c.detail for c in verify_product(product, against).checks if c.passed is False}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_undamaged_product_passes_every_check(night, suffix):
    verdict = verify_product(night / f"out.{suffix}", str(night / "in.fits"))
    assert verdict.ok, verdict
    assert {check.name for check in verdict.checks} == {
        "check sums", "structure", "values", "pixels", "account", "configuration", "prior",
        "input", "other HDUs", "declared changes", "sky coordinates", "kept pixels",
    }  # fmt: skip
    unjudged = [check.name for check in verdict.checks if check.passed is None]
    assert unjudged == (["pixels"] if suffix == "fits.fz" else [])
    if suffix != "zarr":
        assert fitscheck.main(["-c", "-i", str(night / f"out.{suffix}")]) == 0


def test_fitsdiff_agrees_that_nothing_else_changed(night):
    ours = ["DIP*", "CHECKSUM", "DATASUM", "HISTORY", "COMMENT", "BITPIX", "BZERO", "BSCALE",
            "SEEING", "FWHM"]  # fmt: skip
    with fits.open(night / "in.fits") as old, fits.open(night / "out.fits") as new:
        for hdus in (old, new):
            for keyword in ours:
                header = hdus["SCI"].header
                for found in list(header[keyword] if "*" in keyword else [keyword]):
                    header.remove(found, ignore_missing=True, remove_all=True)
        assert fits.HeaderDiff(old["SCI"].header, new["SCI"].header).identical
        for one, other in zip(old, list(new)[:4], strict=True):
            if one.name != "SCI":
                difference = fits.HDUDiff(one, other, ignore_keywords=["CHECKSUM", "DATASUM"])
                assert difference.diff_data is None or difference.diff_data.identical


def edit(product, name, change):
    """Change an HDU with astropy, which writes true check sums."""
    with fits.open(product, mode="update", checksum=True) as hdus:
        change(hdus[name])
    close_files()


def set_card(keyword, value):
    return lambda hdu: hdu.header.__setitem__(keyword, value)


def add_one(hdu):
    hdu.data = hdu.data.copy()
    hdu.data[3, 4] += 1


CHANGES = [
    ("SCI", set_card("EXPTIME", 5), "declared changes"),
    ("SCI", set_card("TWICE", 3), "declared changes"),
    ("SCI", lambda hdu: hdu.header.remove("LONGTEXT"), "declared changes"),
    ("SCI", set_card("CRVAL2", 88.00000028), "sky coordinates"),
    ("SCI", set_card("A_2_0", 2e-5), "sky coordinates"),
    ("SCI", set_card("DIPIN", "0" * 64), "account"),
    ("SCI", set_card("DIPCFG", "0" * 64), "account"),
    ("SCI", add_one, "pixels"),
    ("DIP_ERR", add_one, "pixels"),
    ("DIP_FLAG", add_one, "pixels"),
    ("DIP_FLAG", lambda hdu: hdu.data.fill(128), "values"),
    ("DIP_ERR", lambda hdu: hdu.data.fill(-1), "values"),
    ("DIP_FLAG", lambda hdu: hdu.data.fill(8), "kept pixels"),
    ("DQ", add_one, "other HDUs"),
    ("DQ", set_card("NOTE", "new"), "other HDUs"),
    ("T", lambda hdu: hdu.data["X"].fill(0), "other HDUs"),
]


@pytest.mark.parametrize(("name", "change", "check"), CHANGES, ids=map(str, range(len(CHANGES))))
def test_every_undeclared_change_is_found(night, copy, name, change, check):
    product = copy()
    edit(product, name, change)
    assert check in wrong(product, str(night / "in.fits"))


def insert_card(product, name, keyword, value):
    """Add a card to a header with room for it, and renew the check sum; astropy would scale."""
    with fits.open(product, do_not_scale_image_data=True) as hdus:
        index = hdus.index_of(name)
        start, end = hdus[index].fileinfo()["hdrLoc"], hdus[index].fileinfo()["datLoc"]
    content = bytearray(product.read_bytes())
    header = content[start:end].rstrip()
    assert header.endswith(b"END")
    cards = header[:-3] + fits.Card(keyword, value).image.encode() + b"END"
    assert len(cards) <= end - start
    content[start:end] = cards.ljust(end - start)
    product.write_bytes(content)
    with fits.open(product, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[name].add_checksum()
    close_files()


@pytest.mark.filterwarnings("ignore:Invalid 'BLANK' keyword")
@pytest.mark.parametrize("name", ["SCI", "DIP_ERR", "DIP_FLAG"])
def test_planes_that_are_scaled_afterwards_are_found(copy, name):
    for keyword, value, sound in [
        ("BSCALE", 2.0, False), ("BZERO", 1.0, False), ("BLANK", 3, False),
        ("BSCALE", 1.0, True), ("BZERO", 0.0, True),
    ]:  # fmt: skip
        product = copy()
        insert_card(product, name, keyword, value)
        found = wrong(product)
        assert (keyword in found.get("structure", "")) is not sound, found
        assert "check sums" not in found


@pytest.mark.parametrize("name", ["SCI", "DIP_ERR", "DIP_FLAG", "T"])
def test_check_sums_that_were_taken_away_are_found(copy, name):
    product = copy()
    with fits.open(product) as hdus:
        start, end = hdus[name].fileinfo()["hdrLoc"], hdus[name].fileinfo()["datLoc"]
    content = bytearray(product.read_bytes())
    for keyword, other in ((b"CHECKSUM=", b"NOCHECK ="), (b"DATASUM =", b"NODATA  =")):
        content[start:end] = content[start:end].replace(keyword, other)
    product.write_bytes(content)
    close_files()
    assert "no check sum" in wrong(product)["check sums"]


@pytest.mark.parametrize(("name", "kind"), [("SCI", "f8"), ("DIP_ERR", "f8"), ("DIP_FLAG", "i2")])
def test_planes_of_another_type_are_found(copy, name, kind):
    product = copy()

    def widen(hdu):
        hdu.data = hdu.data.astype(kind)

    edit(product, name, widen)
    assert "science, error, flags are" in wrong(product)["structure"]


@pytest.mark.parametrize("gone", [True, False])
def test_an_hdu_that_came_or_went_is_found(copy, night, gone):
    """Wherever it stood: it may be the last."""
    product = copy()
    with fits.open(product, mode="update", checksum=True) as hdus:
        if gone:
            del hdus["T"]
        else:
            hdus.append(fits.ImageHDU(np.zeros(3), name="MORE"))
    close_files()
    assert "HDUs in the input" in wrong(product, str(night / "in.fits"))["other HDUs"]


def test_bytes_of_another_hdu_that_changed_in_a_group_are_found(copy, night):
    product = copy("zarr")
    group = zarr.open_group(product, mode="r+")
    (table,) = (a for _, a in group["fits"].arrays() if a.attrs["fits_name"] == "T")
    table[3] = table[3] ^ 1
    assert "(T) changed" in wrong(product, str(night / "in.fits"))["other HDUs"]


@pytest.mark.parametrize("name", ["error", "flags"])
def test_a_plane_of_the_input_that_has_gone_from_a_group_is_found(tmp_path, monkeypatch, name):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    source, product = tmp_path / "in.zarr", tmp_path / "out.zarr"
    group, rng = zarr.create_group(source), np.random.default_rng(3)
    group.create_array("science", data=rng.normal(500, 3, (64, 80)).astype("f4"))
    group.create_array("error", data=np.full((64, 80), 3, "f4"))
    group.create_array("flags", data=np.zeros((64, 80), "u1"))
    restore_frame(str(source), product, RunConfig().with_overrides(**QUICK))
    assert wrong(product, str(source)) == {}
    del zarr.open_group(product, mode="r+")[name]
    assert f"the input's {name} changed" in wrong(product, str(source))["other HDUs"]


def test_a_number_that_is_a_little_off_is_found(copy):
    product = copy()
    edit(product, "SCI", set_card("DIPSIGMA", 3.0001))
    assert "card DIPSIGMA = 3.0001, the account says 3.0" in wrong(product)["account"]


def test_an_account_without_the_digests_of_the_pixels_vouches_for_nothing(copy):
    product = copy("zarr")
    group = zarr.open_group(product, mode="r+")
    text = json.dumps(group.attrs["DIP_PROV"])
    group.attrs["DIP_PROV"] = json.loads(text.replace("sha256_science", "sha256_of_nothing"))
    assert "the account holds no sha256 of the pixels" in wrong(product)["pixels"]


@pytest.mark.parametrize("name", ["science", "DIP_ERR", "DIP_FLAG"])
def test_arrays_that_are_scaled_afterwards_are_found(copy, name):
    product = copy("zarr")
    attributes = zarr.open_group(product, mode="r+")[name].attrs
    for attribute, value in (("scale_factor", 2.0), ("add_offset", 5.0), ("_FillValue", 0.0)):
        attributes[attribute] = value
        assert attribute in wrong(product)["structure"]
        del attributes[attribute]
    attributes["scale_factor"] = 1.0
    assert not wrong(product)


FORGED = {
    "DIPNOISE": "poisson", "DIPSIGMA": 2.0, "DIPGAIN": 9.0, "DIPRDN": 1.0, "DIPPED": 7.0,
    "DIPNTILE": 50, "DIPNFAIL": 3, "DIPSTEPS": 4000, "DIPRISK": 0.001, "DIPRISKE": 0.001,
    "DIPQSTEP": 0.5, "DIPDEV": "another", "DIPPRIOR": "none", "DIPTASK": "combine",
    "DIPINPUT": "code", "DIPSCOPE": "none", "DIPSEED": 77, "DIPTILE": 12, "DIPOVLAP": 1,
    "DIPFLUX": 99.0, "DIPNCOR": 0.3, "DIPNET": "hourglass", "DIPSTOP": "diverged",
    "DIPNSRC": "somebody said so", "DIPSKY": 8.0,
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_card_that_the_account_tells_otherwise_is_found(copy, suffix):
    product = copy(suffix)
    for keyword, value in FORGED.items():
        if suffix == "fits":
            edit(product, "SCI", set_card(keyword, value))
        else:
            group = zarr.open_group(product, mode="r+")
            others = [card for card in group.attrs["cards"] if card[0] != keyword]
            group.attrs["cards"] = [*others, [keyword, value, ""]]
    found = wrong(product)
    told = found.get("account", "") + found.get("configuration", "")
    assert [keyword for keyword in FORGED if f"card {keyword} =" not in told] == []


def test_a_product_made_before_skies_had_a_card_lacks_none():
    facts = {"law": "poisson", "numbers": {"subtracted_sky": {"value": 40.0}}}
    assert _cards_of(facts, ["DIPNOISE", "DIPSKY"])["DIPSKY"] == 40.0
    assert "DIPSKY" not in _cards_of(facts, ["DIPNOISE"])


TABLE = [
    ("risk", lambda values: values + 0.5), ("stop_reason", lambda _: "never"),
    ("steps", lambda values: values + 1), ("failed", lambda values: ~values),
]  # fmt: skip


@pytest.mark.parametrize(("column", "change"), TABLE, ids=[name for name, _ in TABLE])
@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_table_of_tiles_that_was_changed_is_found(copy, suffix, column, change):
    product = copy(suffix)
    if suffix == "fits":
        with fits.open(product, mode="update", checksum=True) as hdus:
            hdus["DIP_TILE"].data[column][1:2] = change(hdus["DIP_TILE"].data[column][1:2])
        close_files()
    else:
        group = zarr.open_group(product, mode="r+")
        rows = group.attrs["DIP_TILE"]
        changed = change(np.array([rows[1][column]]))
        rows[1][column] = changed if isinstance(changed, str) else changed.tolist()[0]
        group.attrs["DIP_TILE"] = rows
    assert wrong(product).keys() == {"account"}
    assert "DIP_TILE" in wrong(product)["account"]


@pytest.mark.parametrize("rest", [b"junk" * 720, b"x"], ids=["a block", "a byte"])
def test_bytes_after_the_last_hdu_are_found(copy, rest):
    product = copy()
    with product.open("ab") as stream:
        stream.write(rest)
    assert "after the last HDU" in wrong(product)["check sums"]


def change_account(product, node, fact, value):
    """Change one fact in the account of a Zarr product; node : its kind and its name's start."""
    group = zarr.open_group(product, mode="r+")
    document = dict(group.attrs["DIP_PROV"])
    kind, start = node
    name = next(name for name in document[kind] if name.startswith(f"dip:{start}"))
    document[kind][name][f"dip:{fact}"] = value
    group.attrs["DIP_PROV"] = document


DAMAGED = [
    (("activity", "run-"), "key", {"$": "{no JSON", "type": "dip:json"}),
    (("activity", "run-"), "key", "text"),
    (("activity", "run-"), "command_line", 7),
    (("entity", "product"), "moved_cards", 7),
    (("entity", "product"), "moved_cards", {"$": "7", "type": "dip:json"}),
    (("entity", "product"), "quantisation_step", "fine"),
    (("entity", "noise"), "numbers", "none"),
    (("entity", "noise"), "odd", {"$": "none", "type": "xsd:double"}),
    (("entity", "configuration"), "fit.seed", {"$": "{", "type": "dip:json"}),
    (("agent", "dip-pipeline"), "torch", {"$": "{", "type": "dip:json"}),
]


@pytest.mark.parametrize(("node", "fact", "value"), DAMAGED, ids=map(str, range(len(DAMAGED))))
def test_a_damaged_account_is_told_in_one_line(night, copy, capsys, node, fact, value):
    product = copy("zarr")
    change_account(product, node, fact, value)
    assert "damaged" in wrong(product, str(night / "in.fits"))["account"]
    assert run(["verify", str(product), "--against", str(night / "in.fits")]) == 1
    assert "account     WRONG" in capsys.readouterr().out
    if run(["provenance", str(product)]):
        assert capsys.readouterr().err.count("\n") == 1


def test_moved_cards_of_another_form_are_no_moved_cards(night, copy):
    product = copy("zarr")
    change_account(product, ("entity", "product"), "moved_cards", {"$": "[1]", "type": "dip:json"})
    assert "SEEING" in wrong(product, str(night / "in.fits"))["declared changes"]


@pytest.fixture
def in_adu(night, tmp_path, monkeypatch):
    """A frame with a unit, and its products."""
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    source = tmp_path / "adu.fits"
    with fits.open(night / "in.fits") as hdus:
        hdus["SCI"].header["BUNIT"] = "adu"
        hdus.writeto(source)
    convert(source, tmp_path / "adu.zarr")
    for suffix in ("fits", "zarr"):
        restore_frame(str(source), tmp_path / f"from_fits.{suffix}", CONFIG)
        restore_frame(str(tmp_path / "adu.zarr"), tmp_path / f"from_zarr.{suffix}", CONFIG)
    yield tmp_path
    close_files()


@pytest.mark.parametrize("name", ["fits", "zarr"])
def test_another_unit_of_a_group_is_found_and_none(in_adu, name):
    product, source = in_adu / f"from_{name}.zarr", in_adu / f"adu.{name}"
    assert verify_product(product, str(source)).ok
    group = zarr.open_group(product, mode="r+")
    sound = dict(group.attrs)
    in_jansky = [[k, "Jy" if k == "BUNIT" else v, c] for k, v, c in sound["cards"]]
    without = {key: value for key, value in sound.items() if key != "unit"}
    for damaged in (without, {**sound, "unit": "Jy"}, {**sound, "cards": in_jansky}):
        group.attrs.put(damaged)
        found = wrong(product, str(source))
        assert {"structure", "declared changes"} <= set(found), found
        assert "structure" in wrong(product)


def test_another_unit_of_a_file_is_found(in_adu):
    product, source = in_adu / "from_zarr.fits", in_adu / "adu.zarr"
    assert verify_product(product, str(source)).ok
    edit(product, "SCI", set_card("BUNIT", "Jy"))
    assert "unit" in wrong(product, str(source))["declared changes"]


def test_a_flipped_bit_is_found(night, copy):
    product = copy()
    content = bytearray(product.read_bytes())
    content[len(content) // 2] ^= 16
    product.write_bytes(content)
    assert "check sums" in wrong(product)


def test_a_flipped_bit_of_a_chunk_is_found_and_a_missing_one(night, copy):
    product = copy("zarr")
    chunk = product / "science" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:60] + bytes([content[60] ^ 4]) + content[61:])
    assert "array science" in wrong(product)["check sums"]
    chunk.unlink()
    assert "missing" in wrong(product)["check sums"]


def test_a_changed_account_is_found(night, copy):
    product = copy("zarr")
    group = zarr.open_group(product, mode="r+")
    document = dict(group.attrs["DIP_PROV"])
    document["entity"]["dip:configuration"]["dip:tiles.overlap_px"] = 4
    group.attrs["DIP_PROV"] = document
    assert "configuration" in wrong(product)
    document["used"]["_:used1"]["prov:entity"] = "dip:nothing"
    group.attrs["DIP_PROV"] = document
    assert "account" in wrong(product)


def test_another_input_is_found(night, copy, tmp_path):
    other = tmp_path / "other.fits"
    with fits.open(night / "in.fits") as hdus:
        hdus["SCI"].data[40, 40] += 1
        hdus.writeto(other)
    found = wrong(night / "out.fits", str(other))
    assert set(found) == {"input"}
    assert "sha256" in found["input"]


@pytest.mark.parametrize("kind", ["empty", "table", "smaller", "cube", "one of a cube"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_wrong_file_is_found_whatever_its_form(night, tmp_path, kind, suffix):
    pixels = np.ones((64, 80), np.float32)
    columns = fits.BinTableHDU.from_columns([fits.Column("X", "D", array=np.arange(5.0))])
    images = {
        "empty": [],
        "table": [columns],
        "smaller": [fits.ImageHDU(pixels[:31, :33])],
        "cube": [fits.ImageHDU(np.stack([pixels] * 3))],
        "one of a cube": [fits.ImageHDU(np.stack([pixels]))],
    }
    other = tmp_path / "other.fits"
    fits.HDUList([fits.PrimaryHDU(), *images[kind]]).writeto(other)
    with suppress(FrameError):  # or it cannot be read as a frame at all
        assert not verify_product(night / f"out.{suffix}", str(other)).ok


def test_planes_that_do_not_belong_together_are_found(night, copy):
    product = copy()
    with fits.open(product) as hdus:
        kept = fits.HDUList([hdu for hdu in hdus if hdu.name != "DIP_ERR"])
        kept.writeto(product, overwrite=True, checksum=True)
    assert "do not belong together" in wrong(product)["structure"]


def test_the_command_tells_and_ends_by_the_verdict(night, copy, capsys):
    arguments = ["verify", str(night / "out.fits"), "--against", str(night / "in.fits")]
    assert run(arguments) == 0
    assert "out.fits: ok" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    product = copy()
    edit(product, "SCI", add_one)
    assert run(["verify", str(product)]) == 1
    assert "pixels" in capsys.readouterr().out
    assert run(["verify", str(night / "in.fits")]) == 1
    assert run(["verify", str(night / "nothing.fits")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_infinite_light_is_no_value(copy):
    def overflow(hdu):
        hdu.data = hdu.data.copy()
        hdu.data[3, 4] = np.inf

    product = copy()
    edit(product, "SCI", overflow)
    assert "infinite science near row 0" in wrong(product)["values"]


def test_what_is_no_file_of_ours_is_no_product(night):
    assert "account" in wrong(night / "in.fits")
    with pytest.raises(FrameError):
        verify_product(night / "nothing.fits")


@pytest.mark.parametrize("suffix", ["fits", "fits.fz", "zarr"])
def test_products_of_a_converted_input_pass(night, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    source, target = tmp_path / "in.zarr", tmp_path / f"out.{suffix}"
    convert(night / "in.fits", source)
    restore_frame(str(source), target, CONFIG)
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict
    with fits.open(night / "out.fits") as hdus:
        science = hdus["SCI"].data
    if suffix == "fits":
        np.testing.assert_array_equal(fits.getdata(target, "SCI"), science)


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_converted_product_passes(night, tmp_path, suffix):
    target = tmp_path / ("out.zarr" if suffix == "fits" else "out.fits")
    convert(night / f"out.{suffix}", target)
    verdict = verify_product(target, str(night / "in.fits"))
    told = {check.name: check for check in verdict.checks if check.passed is False}
    # HDUs of the input had no check sums, and get none where nothing is to be lost.
    assert set(told) <= ({"check sums"} if suffix == "zarr" else set()), verdict


def test_a_zarr_product_is_whole_as_a_fits_file_though_its_input_had_no_check_sums(night, tmp_path):
    back, again = tmp_path / "back.fits", tmp_path / "again.fits"
    convert(night / "out.zarr", back)
    verdict = verify_product(back, str(night / "in.fits"))
    assert verdict.ok, [check for check in verdict.checks if check.passed is False]
    # What is no product comes back to the byte, check sums or not.
    convert(night / "in.fits", tmp_path / "in.zarr")
    convert(tmp_path / "in.zarr", again)
    assert again.read_bytes() == (night / "in.fits").read_bytes()


def test_cards_of_an_earlier_run_alone_go_undeclared(night, tmp_path, monkeypatch):
    """Of a combination, say, whose names of exposures no second run writes."""
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    account = read_account(night / "out.fits")
    known = open_frame(night / "out.fits")
    plain = np.ones(known.shape, "f4")
    planes = RestoredPlanes(plain, plain, np.zeros(known.shape, "u1"))
    told = replace(account, cards=(*account.cards, ("DIPEX002", "b.fits", "exposure")))
    save_frame(tmp_path / "first.fits", known, planes, provenance=told)
    restore_frame(str(tmp_path / "first.fits"), tmp_path / "twice.fits", CONFIG)
    assert "declared changes" not in wrong(tmp_path / "twice.fits", str(tmp_path / "first.fits"))


def test_what_was_restored_twice_passes_against_the_first_product(night, tmp_path, monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    twice = tmp_path / "twice.fits"
    restore_frame(str(night / "out.fits"), twice, CONFIG)
    verdict = verify_product(twice, str(night / "out.fits"))
    assert verdict.ok, verdict


@pytest.fixture
def two_chips(tmp_path, monkeypatch):
    """A product with two restored chips, put together from two with one each."""
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    rng = np.random.default_rng(3)
    chips = [fits.ImageHDU(rng.normal(50, 3, (40, 48)).astype("f4")) for _ in range(2)]
    for number, chip in enumerate(chips, start=1):
        chip.header["EXTNAME"], chip.header["EXTVER"] = "SCI", number
        chip.header["CTYPE1"], chip.header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        chip.header["CRVAL1"], chip.header["CDELT1"] = 10.0 * number, 1e-4
    source = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(source, checksum=True)
    parts, documents = [], []
    for number in (1, 2):
        part = tmp_path / f"part{number}.fits"
        restore_frame(f"{source}[SCI,{number}]", part, CONFIG)
        documents.append(read_account(part).document)
        with fits.open(part) as hdus:
            parts.append([hdu.copy() for hdu in hdus])
    first, second = parts
    second[2].header["DIPRUN"] = first[1].header["DIPRUN"]
    document = documents[0]
    for number, other in enumerate(documents, start=1):
        document["entity"][f"dip:plane-{number}"] = {
            **other["entity"]["dip:product"],
            "prov:type": {"$": "dip:RestoredPlane", "type": "prov:QUALIFIED_NAME"},
        }
    told = read_account(tmp_path / "part1.fits")
    cards, data = document_hdu(Provenance(told.cards, told.history, document, []))
    table = fits.BinTableHDU.fromstring(join_cards(cards) + data + bytes(-len(data) % 2880))
    target = tmp_path / "out.fits"
    planes = [first[3], first[4], second[3], second[4]]
    hdus = [first[0], first[1], second[2], *planes, table, first[6]]
    fits.HDUList(hdus).writeto(target, checksum=True)
    return source, target


def test_several_restored_chips_are_verified_each(two_chips):
    source, target = two_chips
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict
    with fits.open(target, mode="update", checksum=True) as hdus:
        hdus["SCI", 2].data[5, 5] += 1
        hdus["SCI", 2].header["CRVAL1"] += 1e-5
    close_files()
    assert {"pixels", "declared changes", "sky coordinates"} <= set(wrong(target, str(source)))


@pytest.mark.parametrize("suffix", ["fits", "fits.fz", "zarr"])
def test_products_of_a_group_s_file_pass(tmp_path, monkeypatch, suffix):
    """Its description of the group is the input's, not ours."""
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    pixels = np.random.default_rng(1).normal(10, 3, (60, 50)).astype("f4")
    zarr.create_group(tmp_path / "in.zarr").create_array("science", data=pixels)
    source, target = tmp_path / "in.fits", tmp_path / f"out.{suffix}"
    convert(tmp_path / "in.zarr", source)
    restore_frame(str(source), target, CONFIG)
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict


@pytest.mark.parametrize("zarr_input", [False, True])
@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_products_of_a_frame_with_weights_pass(tmp_path, monkeypatch, suffix, zarr_input):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    pixels = np.random.default_rng(1).normal(10, 3, (60, 50)).astype("f4")
    fits.writeto(tmp_path / "in.fits", pixels)
    fits.writeto(tmp_path / "in.weight.fits", np.full_like(pixels, 0.5))
    source, target = tmp_path / "in.fits", tmp_path / f"out.{suffix}"
    if zarr_input:
        source = tmp_path / "in.zarr"
        convert(tmp_path / "in.fits", source)
    restore_frame(str(source), target, CONFIG)
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict


@pytest.mark.parametrize("suffix", ["fits", "fits.fz", "zarr"])
@pytest.mark.parametrize("version", [2, 3])
def test_products_of_a_foreign_array_pass(tmp_path, monkeypatch, suffix, version):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    source, target = tmp_path / "in.zarr", tmp_path / f"out.{suffix}"
    pixels = np.random.default_rng(1).normal(10, 3, (60, 50)).astype("f4")
    root = zarr.create_group(source, zarr_format=version)
    root.create_array("image", data=pixels)
    root.create_array("times", data=np.arange(3.0))
    restore_frame(str(source), target, CONFIG)
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict
    if suffix == "zarr":
        group = zarr.open_group(target, mode="r")
        assert set(group.array_keys()) == {"science", "DIP_ERR", "DIP_FLAG", "times"}


def test_a_configuration_that_is_not_the_one_of_the_digest_is_found(copy):
    """No card tells of it."""
    product = copy("zarr")
    change_account(product, ("entity", "configuration"), "fit.steps", 17)
    assert "the account says" in wrong(product)["configuration"]


def test_exposures_of_which_each_was_restored_are_told_in_a_card(copy):
    product = copy("zarr")
    change_account(product, ("entity", "configuration"), "task.each", True)
    assert (
        "card DIPTASK = denoise, the account says denoise each" in wrong(product)["configuration"]
    )


@pytest.mark.parametrize("content", [b"as it was", b"another", None])
def test_another_prior_than_the_one_that_was_applied_is_found(copy, tmp_path, content):
    product, prior = copy("zarr"), tmp_path / "night.prior"
    key = {"prior": hashlib.sha256(b"as it was").hexdigest()}
    change_account(product, ("activity", "run-"), "key", {"$": json.dumps(key), "type": "dip:json"})
    change_account(product, ("entity", "configuration"), "fit.scope", "frame")
    change_account(product, ("entity", "configuration"), "fit.prior", str(prior))
    if content is not None:
        prior.write_bytes(content)
    (found,) = (check for check in verify_product(product).checks if check.name == "prior")
    assert found.passed is (None if content is None else content == b"as it was")
    assert str(prior) in found.detail


def test_a_prior_that_the_account_does_not_name_is_told_by_its_digest(copy):
    product, key = copy("zarr"), {"prior": "5e" * 32}
    change_account(product, ("activity", "run-"), "key", {"$": json.dumps(key), "type": "dip:json"})
    (found,) = (check for check in verify_product(product).checks if check.name == "prior")
    assert found.passed is None
    assert found.detail == f"the account does not name the file of sha256 {'5e' * 32}: not at hand"
