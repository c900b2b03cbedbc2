"""What is not true of restored pixels leaves the header, and is kept; everything else stays."""

import numpy as np
import pytest
import zarr
from astropy.io import fits

from dip_pipeline.frames import open_frame, save_frame
from dip_pipeline.frames.fits_cards import CHECKSUM_WORDS, SCALING_WORDS
from dip_pipeline.frames.stale_cards import STALE_RULES, moved_cards, rule_of
from tests.frames.conftest import ROOT

STALE = ["SEEING", "FWHM", "PSF_FWHM", "ELLIPTIC", "MAGLIM", "DATAMIN", "DATAMAX", "GOODMEAN",
         "SNRMAX", "MEANC100", "SKYSIGMA"]  # fmt: skip
TRUE = ["GAIN", "RDNOISE", "SATURATE", "EXPTIME", "DATE-OBS", "AVSKY", "SKYLEVEL", "DIMMSEE",
        "G-SEEING", "CRVAL1", "CD1_1", "DATASEC", "MEANDARK", "OBJECT", "DATAMODE",
        "GSKYVAR", "MAGZERO", "NGOODPIX", "PIXSCALE", "FILTER", "NCOMBINE"]  # fmt: skip


@pytest.mark.parametrize("keyword", STALE)
def test_what_was_measured_on_the_noisy_pixels_is_moved(keyword):
    assert rule_of(keyword).action == "moved"


@pytest.mark.parametrize("keyword", TRUE)
def test_what_is_true_of_the_restored_pixels_too_stays(keyword):
    assert rule_of(keyword) is None


def test_what_says_how_bytes_are_to_be_read_is_dropped():
    assert {rule_of(word).action for word in SCALING_WORDS + CHECKSUM_WORDS} == {"dropped"}


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_moved_cards_leave_the_science_header_which_names_them(
    tmp_path, restored, provenance, suffix
):
    hdu = fits.PrimaryHDU(np.zeros((4, 5), "i2"))
    for number, keyword in enumerate([*STALE, *TRUE]):
        hdu.header[keyword] = (number, "as measured")
    hdu.header["BLANK"] = -1
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    target = tmp_path / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    cards = open_frame(target).cards
    keywords = {card[0] for card in cards}
    assert not keywords & {*STALE, "BLANK"}
    assert set(TRUE) <= keywords
    comment = "".join(str(card[1]) for card in cards if card[0] == "COMMENT")
    assert all(keyword in comment for keyword in STALE)
    assert [card[0] for card in moved_cards(frame.cards)] == STALE
    if suffix == "zarr":
        assert zarr.open_group(target, mode="r").attrs["cards"]


@pytest.mark.parametrize("suffix", ["fits", "fits.fz"])
def test_long_keywords_are_moved_too(tmp_path, restored, provenance, suffix):
    """Which HIERARCH cards hold, as astropy writes every one of more than eight letters."""
    hdu = fits.PrimaryHDU(np.zeros((4, 5), "f4"))
    hdu.header["HIERARCH ELLIPTICITY"] = 0.1
    hdu.header["HIERARCH MAGLIMITS"] = 22.0
    hdu.header["HIERARCH ESO DET GAIN"] = 2.0
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / f"out.{suffix}", frame, restored(frame), provenance=provenance)
    cards = open_frame(tmp_path / f"out.{suffix}").cards
    keywords = [card[0] for card in cards]
    assert "ESO DET GAIN" in keywords
    assert not {"ELLIPTICITY", "MAGLIMITS"} & set(keywords)
    comment = "".join(str(card[1]) for card in cards if card[0] == "COMMENT")
    assert "ELLIPTICITY MAGLIMITS" in comment


def test_a_frame_without_stale_cards_gets_no_comment(tmp_path, restored, provenance):
    fits.PrimaryHDU(np.zeros((4, 5), "f4")).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert "COMMENT" not in fits.getheader(tmp_path / "out.fits")


def test_the_documents_give_every_rule_with_its_reason():
    text = (ROOT / "docs" / "products.md").read_text(encoding="utf-8")
    for rule in STALE_RULES:
        pattern = rule.pattern.replace("|", "\\|")
        assert f"| `{pattern}` | {rule.action} | {rule.reason} |" in text
