"""Headers: whose word counts, and that odd cards come through as they are."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames import open_frame, save_frame
from dip_pipeline.frames.compressed_cards import image_cards_of_table
from dip_pipeline.frames.fits_cards import format_card, join_cards, split_cards, without
from dip_pipeline.frames.fits_layout import scan_layout


def layout_of(path):
    with path.open("rb") as stream:
        return scan_layout(stream, path.stat().st_size, path).hdus


def test_a_keyword_that_begins_as_the_end_does_is_not_the_end():
    cards = [*format_card("ENDTIME", 3.5), *format_card("OBJECT", "M 13")]
    assert split_cards(join_cards(cards)) == cards


def test_a_long_text_goes_with_all_its_cards():
    long, short = format_card("LONGTEXT", "and so on " * 20), format_card("OBJECT", "M 13")
    assert len(long) > 2
    assert without([*long, *short, *long], ["LONGTEXT"]) == short
    assert without([*long, *short], ["OBJECT"]) == long


@pytest.mark.parametrize(
    ("inherit", "gain"), [(True, 2.5), (None, 2.5), (False, None)], ids=["T", "none", "F"]
)
def test_cards_of_the_primary_hold_where_the_extension_inherits(tmp_path, inherit, gain):
    primary = fits.PrimaryHDU()
    primary.header["GAIN"], primary.header["EXPTIME"] = 2.5, 10.0
    science = fits.ImageHDU(np.zeros((4, 5), "f4"), name="SCI")
    science.header["EXPTIME"] = 30.0
    if inherit is not None:
        science.header["INHERIT"] = inherit
    fits.HDUList([primary, science]).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    assert frame.header.get("GAIN") == gain
    assert frame.header["EXPTIME"] == 30.0


def odd(path, hdu):
    """Write a file whose cards break the standard in ways that real ones do."""
    hdu.header["AUTHOR"] = "Mxller"
    hdu.header["CD1_1"] = 2.5
    hdu.header["COMMENT"] = "first"
    hdu.header["HISTORY"] = "second"
    hdu.header["COMMENT"] = "third"
    hdu.header.append(("TWICE", 1), end=True)
    hdu.header.append(("TWICE", 2), end=True)
    hdu.header["EMPTY"] = None
    hdu.header["LONGTEXT"] = "it goes on " * 12
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    content = path.read_bytes().replace(b"Mxller", b"M\xfcller")
    path.write_bytes(
        content.replace(
            b"CD1_1   =                  2.5", b"CD1_1   =  +2.50           "[:30].ljust(30)
        )
    )


@pytest.mark.parametrize("packed", [False, True])
def test_odd_cards_come_through_byte_for_byte(tmp_path, restored, provenance, packed):
    pixels = np.arange(1200, dtype="i2").reshape(40, 30)
    kind = fits.CompImageHDU if packed else fits.ImageHDU
    odd(tmp_path / "in.fits", kind(pixels, name="SCI"))
    frame = open_frame(tmp_path / "in.fits")
    for name in ("out.fits", "out.fits.fz"):
        save_frame(tmp_path / name, frame, restored(frame), provenance=provenance)
        (old, new) = (
            [c for h in layout_of(tmp_path / file) if h.name == "SCI" for c in h.cards]
            for file in ("in.fits", name)
        )
        told = [c for c in image_cards_of_table(old) if b"M\xfcller" in c or b"+2.50" in c]
        assert len(told) == 2
        words = (b"AUTHOR", b"CD1_1", b"COMMENT", b"HISTORY", b"TWICE", b"EMPTY", b"LONGTEXT",
                 b"CONTINUE")  # fmt: skip
        kept = [[c for c in cards if c.startswith(words)] for cards in (old, new)]
        assert kept[1][: len(kept[0])] == kept[0]
