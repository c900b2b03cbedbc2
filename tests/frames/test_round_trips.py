"""Whatever an input is like: its product holds the restored planes, and everything else it held."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import Provenance, RestoredPlanes, open_frame, save_frame
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.stale_cards import rule_of

ALL = slice(None)
DECLARED = ("SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "EXTEND")
TOLD = Provenance((("DIPVER", "0", ""), ("DIPRUN", "x", "")), "restored", {"a": 1}, [{"tile": 0}])
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)
VALUES = (
    TEXT
    | st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.floats(-1e30, 1e30, allow_nan=False)
    | st.none()
)
KEYWORDS = st.from_regex(r"[A-CE-Y][A-Z0-9_-]{2,7}", fullmatch=True).filter(
    lambda word: (
        word not in (*DECLARED, "BSCALE", "BZERO", "BLANK", "EXTNAME", "EXTVER", "BUNIT")
        and not word.startswith(("NAXIS", "TTYPE", "TFORM", "INHERIT", "GROUPS", "CONTINUE", "Z"))
        and word not in ("END", "DATASUM", "CHECKSUM", "TFIELDS", "THEAP", "BIASSEC", "XTENSION")
    )
)


@st.composite
def cards(draw):
    """Cards of all kinds: long, undefined, repeated, commentary, hierarchical, stale."""
    made = st.tuples(KEYWORDS, VALUES, TEXT.map(lambda text: text[:20]))
    found = draw(st.lists(made, max_size=4))
    odd = [
        ("COMMENT", "first"), ("HISTORY", "second"), ("", "blank"), ("COMMENT", "third " * 20),
        ("HIERARCH ESO DET OUT1 CONAD", 1.9), ("HIERARCH lower case", "x"), ("SEEING", 1.2),
        ("TWICE", 1), ("TWICE", 2), ("LONGTEXT", "it goes 'on' & on " * 9), ("DATAMIN", -3.0),
        ("EMPTY", None), ("INHERIT", True), ("CRVAL1", 10.123456789012345), ("MAGLIM", 24.1),
    ]  # fmt: skip
    return found + draw(st.lists(st.sampled_from(odd), max_size=8))


@st.composite
def inputs(draw):
    """An HDU list, with the facts that matter about it."""
    kind = draw(st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8", "<f4", "<i2"]))
    rows, cols = draw(st.integers(1, 70)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 9))
    pixels = np.random.default_rng(seed).integers(0, 200, (rows, cols)).astype(kind)
    if pixels.dtype.kind == "f":
        pixels[0, 0] = np.nan
    packing = draw(st.sampled_from([None, None, "RICE_1", "GZIP_1"]))
    if packing and kind == "i8":  # RICE has no 64-bit integers
        packing = "GZIP_1"
    hdu = fits.CompImageHDU if packing else fits.ImageHDU
    options = {"compression_type": packing} if packing else {}
    science = hdu(pixels, name="SCI", **options)
    for card in draw(cards()):
        science.header.append(card, end=True)
    if kind in ("i2", "i4") and not packing and draw(st.booleans()):
        science.header["BLANK"] = int(pixels[0, 0])
    if kind in ("u1", "i2", "i4") and not packing and draw(st.booleans()):
        science.header["BSCALE"], science.header["BZERO"] = 0.5, 3.0
    error = fits.ImageHDU(np.ones((rows, cols), draw(st.sampled_from(["f4", "f8"]))), name="ERR")
    flags = fits.ImageHDU(np.zeros((rows, cols), draw(st.sampled_from(["i2", "u4"]))), name="DQ")
    flags.data[-1, -1] = 4
    extra = fits.BinTableHDU.from_columns(
        [fits.Column("A", "PJ()", array=np.array([[1], [2, 3]], dtype=object))], name="VARIABLE"
    )
    chosen = [science, *draw(st.permutations([error, flags, extra]))]
    return chosen[: draw(st.integers(1, 4))], draw(st.booleans())


def planes_of(frame):
    rng = np.random.default_rng(1)
    science = rng.normal(0, 1, frame.shape).astype("f4")
    return RestoredPlanes(science, np.abs(science), (science > 0).astype("u1"), step=0.5)


def told_by(path, name="SCI"):
    """Cards of the science but for those that are declared to change."""
    with fits.open(path, disable_image_compression=False) as hdus:
        header = hdus[name].header
        return [
            (card.keyword, str(card.value), card.comment)
            for card in header.cards
            if card.keyword not in DECLARED
            and not card.keyword.startswith(("NAXIS", "DIP"))
            and rule_of(card.keyword) is None
        ]


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@settings(max_examples=30, deadline=None)
@given(made=inputs(), suffix=st.sampled_from(["fits", "fits.fz", "fits.gz"]))
def test_only_what_is_declared_changes(tmp_path_factory, made, suffix):
    folder = tmp_path_factory.mktemp("round")
    hdus, checksum = made
    source, target = folder / "in.fits", folder / f"out.{suffix}"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(source, checksum=checksum)
    frame = open_frame(source)
    planes = planes_of(frame)
    save_frame(target, frame, planes, provenance=TOLD)
    before, after = told_by(source), told_by(target)
    added = [("HISTORY", "restored", "")]
    comment = [card for card in after if card[0] == "COMMENT" and card[1].startswith("Moved to")]
    assert after[: len(before)] == before
    assert after[len(before) :] == comment + added
    with fits.open(source) as old, fits.open(target) as new:
        near = 0.25 * (1 + 1e-6) if suffix.endswith("fz") else 0
        assert np.abs(new["SCI"].data - planes.science).max() <= near
        np.testing.assert_array_equal(new["DIP_FLAG"].data, planes.flags)
        for one, other in zip(list(old)[2:], list(new)[2:], strict=False):
            difference = fits.HDUDiff(one, other, ignore_keywords=["CHECKSUM", "DATASUM"])
            assert difference.diff_data is None or difference.diff_data.identical
            assert str(one.header) == str(other.header) or not checksum
    assert fitscheck.main(["-c", *(["-i"] if suffix == "fits.fz" else []), str(target)]) == 0
    again = open_frame(target)
    whole, back = frame.read(ALL, ALL), again.read(ALL, ALL)
    assert (whole.error is None) == (back.error is None)
    if whole.error is not None:
        np.testing.assert_array_equal(back.error, whole.error)
    if frame.has_mask:
        flags = [
            f.source.read_flags(slice(0, f.shape[0]), slice(0, f.shape[1])) for f in (frame, again)
        ]
        np.testing.assert_array_equal(flags[0], flags[1])
    close_files()


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@settings(max_examples=10, deadline=None)
@given(made=inputs())
def test_the_way_through_zarr_changes_nothing_more(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("round")
    hdus, checksum = made
    source = folder / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(source, checksum=checksum)
    frame = open_frame(source)
    planes = planes_of(frame)
    save_frame(folder / "out.zarr", frame, planes, provenance=TOLD)
    there = open_frame(folder / "out.zarr")
    before = [
        card
        for card in frame.cards
        if rule_of(card[0]) is None and card[0] not in DECLARED and not card[0].startswith("NAXIS")
    ]
    assert list(there.cards[: len(before)]) == before
    np.testing.assert_array_equal(there.read(ALL, ALL).science, planes.science)
    assert [hdu.header for hdu in there.source.other_hdus()] == [
        hdu.header for hdu in frame.source.other_hdus()
    ]
    assert [b"".join(hdu.blocks()) for hdu in there.source.other_hdus()] == [
        b"".join(hdu.blocks()) for hdu in frame.source.other_hdus()
    ]
    close_files()
