"""Provenance comes back from a product as it went in, from FITS and from Zarr alike."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import Provenance, open_frame, read_provenance, save_frame
from dip_pipeline.frames.fits_cards import format_card, parse_cards
from dip_pipeline.frames.provenance import from_json, tiles_hdu, to_json


@pytest.fixture
def frame(tmp_path):
    fits.PrimaryHDU(np.zeros((5, 6), "f4")).writeto(tmp_path / "in.fits")
    return open_frame(tmp_path / "in.fits")


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_provenance_comes_back_as_it_went_in(frame, tmp_path, restored, provenance, suffix):
    target = tmp_path / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    again = read_provenance(target)
    assert again.document == provenance.document
    assert again.tiles == provenance.tiles
    assert again.history == provenance.history
    assert [card[:2] for card in again.cards] == [card[:2] for card in provenance.cards]
    assert again.cards[0] == provenance.cards[0]


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_long_histories_and_no_tiles_come_back(frame, tmp_path, restored, suffix):
    told = Provenance((("DIPRISK", math.nan, "risk"),), "word " * 40 + "end", {"x": math.inf}, [])
    save_frame(tmp_path / f"out.{suffix}", frame, restored(frame), provenance=told)
    again = read_provenance(tmp_path / f"out.{suffix}")
    assert (again.history, again.document, again.tiles) == (told.history, told.document, [])
    assert again.cards == (("DIPRISK", None, "risk"),)


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_only_products_have_provenance(frame, tmp_path, restored, provenance, suffix):
    assert read_provenance(frame.path) is None
    (tmp_path / "x.zarr").mkdir()
    assert read_provenance(tmp_path / "x.zarr") is None
    target = tmp_path / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    file = target if suffix == "fits" else target / "zarr.json"
    file.write_bytes(file.read_bytes()[:-3000] if suffix == "fits" else b"{")
    assert read_provenance(target) is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=json_values)
def test_whatever_goes_to_json_comes_back(value):
    assert from_json(to_json(value)) == value


texts = (
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=150)
    .map(str.rstrip)
    # astropy ends a string at a quote before a slash, doubled or not: nothing of ours holds one.
    .filter(lambda text: not re.search(r"' */", text))
)


@settings(max_examples=100, deadline=None)
@given(
    value=texts
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
)
def test_a_card_reads_back_the_value_that_was_written(value):
    raw = format_card("DIPTEST", value, "what it is")
    assert all(len(card) == 80 for card in raw)
    ((keyword, again, _),) = parse_cards(raw)
    assert keyword == "DIPTEST"
    if isinstance(value, float):
        assert again == pytest.approx(value, rel=1e-11)
    else:
        assert again == value
        assert type(again) is type(value)


def test_places_become_their_names():
    assert to_json({"place": Path("/sky") / "a.fits"}) == {"place": "/sky/a.fits"}


def test_letters_that_a_table_cannot_hold_are_spelled_out():
    _, data = tiles_hdu(Provenance((), "", {}, [{"tile": 0, "why": "grüße"}]))
    assert rb"gr\xfc\xdfe" in data
