"""Laws of grouping: one camera, filter and night together, on any meridian."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.frames import camera_of
from dip_pipeline.night.grouping import Taken, group_by_night, hours_of
from dip_pipeline.runs.prior_file import check_optics


def taken(name, hours, *, glass="r", instrument="cam"):
    return Taken(name, instrument, glass, 0.4, hours)


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


@pytest.mark.parametrize(("rest_hours", "nights"), [(5.9, 1), (6.1, 2)])
def test_a_short_day_parts_two_nights_and_a_long_pause_none(rest_hours, nights):
    frames = [taken("a", 20.0), taken("b", 25.0), taken("c", 25.0 + rest_hours)]
    assert len(group_by_night(frames)) == nights


def test_a_prior_s_file_is_named_by_the_evening_of_its_night():
    """Where the night began, whatever order its frames come in."""
    (group,) = group_by_night([taken("b", 25.0), taken("a", 20.0)])
    assert group.name == "01_19700101_cam_r"


def test_filters_and_cameras_spelled_in_capitals_are_the_same_ones():
    headers = [{"INSTRUME": "Cam", "FILTER": "R"}, {"INSTRUME": "CAM", "FILTER": "r"}]
    assert len(group_by_night([Taken.of(str(n), each) for n, each in enumerate(headers)])) == 1


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
        ({"DATE-OBS": "1970-01-02T03:00:00+02:00"}, 25.0),
        ({"DATE-OBS": "1970-01-02", "TIME-OBS": "03:00:00"}, 27.0),
        ({"DATE-OBS": "1970-01-02"}, 24.0),
        ({"MJD-OBS": 40588.125, "DATE-OBS": "nonsense"}, 27.0),
        ({"DATE-OBS": "02/01/70"}, 24.0),
        ({"DATE-OBS": "1970-01-02", "UT": "3:00:00"}, 27.0),
        ({"DATE-OBS": "1970-01-02", "TIME-OBS": "n/a", "UTC-OBS": "03:00"}, 27.0),
        ({"DATE-BEG": "1970-01-02T03:00:00"}, 27.0),
        ({"DATE-OBS": "1970-13-02"}, None),
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


@given(st.lists(st.floats(0.3, 0.32) | st.sampled_from([1.0, 1.001, 1.045]), max_size=12))
def test_frames_of_a_group_are_those_that_one_prior_takes(scales):
    """By rounding, 1.001 and 1.045 were one scale and 1.049 and 1.051 two."""

    def camera(scale):
        card = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -scale / 3600}
        return {**card, "CDELT2": scale / 3600, "FILTER": "r", "INSTRUME": "cam"}

    headers = {f"{n}.fits": camera(scale) for n, scale in enumerate(scales)}
    groups = group_by_night([Taken.of(name, header) for name, header in headers.items()])
    for group in groups:
        cameras = [camera_of(headers[source]) for source in group.sources]
        for one in cameras:
            check_optics(("a.fits", "b.prior"), one, cameras, any_optics=False)
    least = [min(float(headers[one]["CDELT2"]) for one in group.sources) for group in groups]
    assert all(b > a * 1.02 for a, b in pairwise(sorted(least)))
