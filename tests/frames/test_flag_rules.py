"""What flags mean: bits and codes by instrument, as astropy names and counts them."""

import numpy as np
import pytest
from astropy.nddata.bitmask import bitfield_to_boolean_mask
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.flag_rules import (
    LSST_BAD,
    MEANINGS,
    FlagBits,
    flag_map,
    rule_for,
    rule_from_json,
    rule_of_planes,
    rule_to_json,
)


@pytest.mark.parametrize("instrument", MEANINGS)
def test_every_table_is_one_of_powers_of_two_or_of_codes(instrument):
    meanings = MEANINGS[instrument]
    assert set(meanings.bad) | set(meanings.saturated) <= set(meanings.names)
    assert not set(meanings.bad) & set(meanings.saturated)
    assert len(set(meanings.names.values())) == len(meanings.names)
    if not meanings.codes:
        assert all(value.bit_count() == 1 for value in meanings.names.values())


# By number, as the handbooks tell them: what holds no information, and what is full. All other bits
# leave a pixel alone: warm, unstable, repaired, in a ghost or of a source, and the like.
BY_NUMBER = {
    "JWST": ({1, 512, 2**31}, {2}),
    "HST_ACS": ({1, 2, 4, 8, 16, 128, 512, 1024, 4096, 8192}, {256, 2048}),
    "HST_WFC3": ({1, 2, 4, 8, 16, 128, 512, 1024, 4096, 8192}, {256, 2048}),
    "HST_WFC3_IR": ({1, 2, 4, 8, 16, 128, 512, 1024, 4096, 8192}, {256}),
    "HST_STIS": ({1, 2, 4, 8, 16, 128, 512, 8192}, {256}),
    "HST_WFPC2": ({1, 2, 4, 16, 32, 128, 512, 2048, 4096, 8192}, {8}),
    "GEMINI": ({1, 8, 16, 64}, {4}),
    "MUSE": ({8, 32, 128, 256, 512, 8192, 16384, 2**30, 2**31}, {2048, 4096}),
    "ZTF": ({1, 4, 8, 16, 128, 512, 1024}, {256}),
    "DECAM_BITS": ({1, 4, 16, 64, 256, 512}, {2}),
}


@pytest.mark.parametrize("instrument", BY_NUMBER)
def test_each_bit_means_what_the_handbook_of_its_instrument_says(instrument):
    bits = 2 ** np.arange(32, dtype=np.int64)
    bad, saturated = rule_for(instrument).split(bits.astype("u4")[None])
    assert (set(bits[bad[0]]), set(bits[saturated[0]])) == BY_NUMBER[instrument]


def test_every_instrument_of_bits_is_told_by_number():
    assert set(BY_NUMBER) == {name for name, each in MEANINGS.items() if not each.codes}


@given(flags=st.lists(st.integers(0, 2**15 - 1), min_size=1, max_size=20))
def test_bits_agree_with_astropy(flags):
    plane = np.array([flags], dtype="i2")
    meanings = MEANINGS["HST_ACS"]
    names = [name for name in meanings.names if name not in meanings.bad]
    ignored = sum(meanings.names[name] for name in names)
    by_astropy = bitfield_to_boolean_mask(
        plane, ignore_flags=ignored, flag_name_map=flag_map("HST_ACS")
    )
    np.testing.assert_array_equal(rule_for("HST_ACS").split(plane)[0], by_astropy)


@pytest.mark.parametrize("dtype", ["u4", "i4", ">i4", "<i4"])
def test_the_highest_bit_is_a_bit_whatever_the_sign(dtype):
    plane = np.array([[2**31, 1, 0]], dtype="u4").view("i4").astype(dtype)
    bad, _ = FlagBits(bad=2**31).split(plane)
    np.testing.assert_array_equal(bad, [[True, False, False]])


def test_codes_exclude_each_other():
    """Code 7 is 1 + 2 + 4 in bits: read so, a transient would be a bad, saturated pixel."""
    codes = np.arange(9, dtype="i4")[None]
    bad, saturated = rule_for("DECAM").split(codes)
    assert set(np.flatnonzero(bad[0])) == {1, 2, 4, 5, 6, 8}
    assert set(np.flatnonzero(saturated[0])) == {3}


def test_a_plane_of_a_mask_is_a_bit_by_its_index():
    rule = rule_of_planes({"BAD": 0, "SAT": 1, "DETECTED": 5, "NO_DATA": 8})
    bad, saturated = rule.split(np.array([[1, 2, 32, 256, 0]], "i4"))
    np.testing.assert_array_equal(bad, [[True, False, False, True, False]])
    np.testing.assert_array_equal(saturated, [[False, True, False, False, False]])
    assert "DETECTED" not in LSST_BAD
    asked = rule_of_planes({"BAD": 0, "DETECTED": 5}, "DETECTED")
    assert asked.split(np.array([[1, 32]], "i4"))[0].tolist() == [[False, True]]
    full_is_bad = rule_of_planes({"BAD": 0, "SAT": 1}, "SAT").split(np.array([[1, 2]], "i4"))
    assert [mask.tolist() for mask in full_is_bad] == [[[False, True]], [[False, False]]]


def test_planes_of_an_lsst_mask_that_tell_nothing_are_bad_and_sources_are_not():
    names = ["BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "SUSPECT", "NO_DATA", "STREAK"]
    rule = rule_of_planes({name: bit for bit, name in enumerate(names)})
    bad, saturated = rule.split(2 ** np.arange(9, dtype="i4")[None])
    told_nothing = {"BAD", "INTRP", "CR", "NO_DATA", "STREAK"}
    assert {names[bit] for bit in np.flatnonzero(bad[0])} == told_nothing
    assert {names[bit] for bit in np.flatnonzero(saturated[0])} == {"SAT"}


@pytest.mark.parametrize("text", ["BAD,7", "bad | 7", " Bad,7 "])
def test_codes_are_named_in_any_case_and_parted_as_bits_are(text):
    bad, _ = rule_for("DECAM", text).split(np.arange(9, dtype="i4")[None])
    assert set(np.flatnonzero(bad[0])) == {1, 7}


@pytest.mark.parametrize(("instrument", "text"), [("", "~4"), ("GEMINI", "~SATURATED")])
def test_all_bits_but_some_may_be_bad(instrument, text):
    bad, saturated = rule_for(instrument, text).split(np.array([[0, 1, 4, 32, 36]], "i4"))
    assert bad.tolist() == [[False, True, False, True, True]]
    assert saturated.any() == (instrument == "GEMINI")


def test_any_flag_of_an_unknown_instrument_is_bad():
    bad, saturated = rule_for("").split(np.array([[0, 1, 4096]], "u2"))
    np.testing.assert_array_equal(bad, [[False, True, True]])
    assert not saturated.any()
    assert rule_for("", "4").split(np.array([[4, 8]], "u1"))[0].tolist() == [[True, False]]
    assert rule_for("").split(np.array([[0.0, 0.5]], "f4"))[0].tolist() == [[False, True]]


@pytest.mark.parametrize(("instrument", "text"), [("JWST", "NO_SUCH"), ("", "HOT"), ("DECAM", "x")])
def test_names_that_are_none_are_refused(instrument, text):
    with pytest.raises(FrameError, match=f"--bad-bits {text}"):
        rule_for(instrument, text)


@pytest.mark.parametrize("instrument", ["DECAM", "DECAM_BITS", "HST_ACS"])
def test_saturation_that_is_asked_to_be_bad_is_bad_and_not_left_alone(instrument):
    names = MEANINGS[instrument].names
    all_of_them = ",".join(MEANINGS[instrument].saturated)
    name = MEANINGS[instrument].saturated[0]
    for rule in (
        rule_for(instrument, all_of_them),
        rule_from_json(rule_to_json(rule_for(instrument)), all_of_them),
    ):
        bad, saturated = rule.split(np.array([[0, names[name]]], "i4"))
        assert (bad.tolist(), saturated.tolist()) == ([[False, True]], [[False, False]])
        assert "left alone" not in rule.words
    assert f"left alone: {name}" in rule_for(instrument).words
