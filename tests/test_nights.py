"""Laws of grouping: one camera, filter and night together, on any meridian."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.nights import Taken, group_by_night, hours_of


def taken(name, hours, *, glass="r", instrument="cam"):
    return Taken(name, instrument, glass, "0.4", hours)


@pytest.mark.parametrize("first_hour", range(0, 24, 3))
def test_a_night_is_one_wherever_midnight_falls(first_hour):
    """Ten hours of frames, then a day, then another night."""
    frames = [
        taken(f"{night}-{step}", 24 * night + first_hour + step)
        for night in range(2)
        for step in range(0, 11, 2)
    ]
    groups = group_by_night(frames)
    assert [len(group.sources) for group in groups] == [6, 6]
    assert all(name.startswith("0-") for name in groups[0].sources)


def test_filters_and_cameras_do_not_mix_and_names_are_good_for_files():
    frames = [
        taken("a", 1.0),
        taken("b", 1.1, glass="g/2"),
        taken("c", 1.2, instrument="other"),
        taken("d", 1.3),
    ]
    groups = group_by_night(frames)
    assert [group.sources for group in groups] == [("a", "d"), ("b",), ("c",)]
    assert len({group.name for group in groups}) == 3
    assert all("/" not in group.name for group in groups)


def test_frames_for_calibration_are_not_fitted_with_those_of_the_sky():
    kinds = ["Light Frame", "Bias Frame", "object", "dome flat", "Bias Frame", "LIGHT", ""]
    header = {"INSTRUME": "cam", "FILTER": "r", "DATE-OBS": "2026-11-20T21:00:00"}
    frames = [Taken.of(str(n), {**header, "IMAGETYP": kind}) for n, kind in enumerate(kinds)]
    groups = [group.sources for group in group_by_night(frames)]
    assert groups == [("0", "2", "5", "6"), ("1", "4"), ("3",)]
    assert Taken.of("a", {"ESO DPR TYPE": "FLAT,SKY"}).kind == "flat,sky"
    assert Taken.of("a", {"OBSTYPE": "zero"}).kind == "zero"
    for kind in ("arcturus", "OBJECT (dark subtracted)", "zeropoint", "Dark Sky Survey", "sky"):
        assert Taken.of("a", {"OBJECT": "dark nebula", "IMAGETYP": kind}).kind == ""
    for kind in ("Master Dark", "twilight flat", "DOMEFLAT", "Flat Field", "LAMP,FLAT", "arc"):
        assert Taken.of("a", {"IMAGETYP": kind}).kind == kind.casefold()


@given(st.lists(st.tuples(st.none() | st.floats(0, 1e6), st.sampled_from("rg")), max_size=30))
def test_every_frame_is_in_one_group(facts):
    frames = [taken(str(i), hours, glass=name) for i, (hours, name) in enumerate(facts)]
    found = [source for group in group_by_night(frames) for source in group.sources]
    assert sorted(found) == sorted(item.source for item in frames)


@pytest.mark.parametrize(
    ("header", "hours"),
    [
        ({"DATE-OBS": "1970-01-02T03:00:00"}, 27.0),
        ({"DATE-OBS": "1970-01-02T03:00:00.000Z"}, 27.0),
        ({"DATE-OBS": "1970-01-02", "TIME-OBS": "03:00:00"}, 27.0),
        ({"DATE-OBS": "1970-01-02"}, 24.0),
        ({"MJD-OBS": 40588.125, "DATE-OBS": "nonsense"}, 27.0),
        ({"DATE-OBS": "02/01/70"}, None),
        ({"MJD-OBS": True}, None),
        ({"MJD-OBS": -2400000.5}, None),  # a Julian date of 0
        ({"MJD-OBS": 1e9}, None),
        ({"DATE-OBS": "9999-12-31T23:59:59-01:00"}, None),  # the end of time, for not known
        ({"DATE-OBS": "9999-12-31T23:59:59.999999"}, None),
        ({"DATE-OBS": "0001-01-01T00:00:00+01:00"}, None),
        ({}, None),
    ],
)
def test_the_time_of_an_exposure_is_read_or_not_known(header, hours):
    assert hours_of(header) == hours
