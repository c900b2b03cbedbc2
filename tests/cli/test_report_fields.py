"""Laws of fields on the page of a night that cards alone tell of, without world coordinates."""

import pytest

from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.runs import ways
from tests.cli.test_report import as_it_is, kinds_of, looks_at


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_is)
    yield
    close_files()


def points_at(longitude, latitude, names=("RA", "DEC")):
    return dict(zip(names, (longitude, latitude), strict=True))


def test_fields_that_cards_alone_tell_are_told_apart(tmp_path):
    cards = (
        points_at("10:00:00", "+20:00:00"),
        points_at(150.1, 20.1),
        points_at("10 00 30", "+20 05 00", ("OBJCTRA", "OBJCTDEC")),
        points_at("11:00:00", "+20:00:00", ("TELRA", "TELDEC")),
        points_at(165.0, 20.0),
    )
    assert kinds_of(tmp_path, *cards) == [[0, 1, 2], [3, 4]]


def test_a_telescope_that_dithers_by_minutes_of_arc_stays_in_its_field(tmp_path):
    step = 20 / 60
    cards = [points_at(359.95 + step * n if n < 1 else step * n, 0.1) for n in range(4)]
    assert kinds_of(tmp_path, *cards) == [[0, 1, 2, 3]]


def hours(number, words=""):
    return {"TELRA": (number, words), "TELDEC": 20.0}


@pytest.mark.parametrize(
    ("cards", "fields"),
    [
        ([hours(10.0, "[h] RA"), hours(10.1, "[h] RA"), points_at(150.0, 20.0)], [[0, 2], [1]]),
        ([hours(10.033), points_at("10:02:00", "20:00:00"), hours(10.033)], [[0, 1, 2]]),
    ],
    ids=["by their comment", "by a frame of a known place"],
)
def test_numbers_that_are_hours_are_found_out(tmp_path, cards, fields):
    assert kinds_of(tmp_path, *cards) == fields


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        points_at("n/a", "n/a"),
        points_at(0.0, 0.0),
        points_at("00:00:00", "+00:00:00"),
        points_at("24:61:61", "+20:00:00"),
        points_at(150.0, 120.0),
        points_at(-999.0, -999.0),
        points_at(True, False),
        points_at("10:00:00", ""),
        {"RA": "10:00:00"},
        {"DEC": 20.0},
    ],
    ids=str,
)
def test_a_frame_whose_cards_are_missing_or_nonsense_belongs_to_the_only_field(tmp_path, nonsense):
    field = points_at("10:00:00", "+20:00:00")
    assert kinds_of(tmp_path, field, nonsense, field) == [[0, 1, 2]]


def test_world_coordinates_and_names_outrank_cards(tmp_path):
    elsewhere = points_at(10.0, -80.0)
    assert kinds_of(tmp_path, looks_at(5.0), looks_at(5.0, **elsewhere)) == [[0, 1]]
    (tmp_path / "named").mkdir()
    named = [{"OBJECT": "M13", **points_at(ra, 20.0)} for ra in (10.0, 200.0)]
    assert kinds_of(tmp_path / "named", *named) == [[0, 1]]


def test_frames_for_calibration_have_no_field(tmp_path):
    """Where the telescope was parked, or pointed, while its bias was taken says nothing."""
    cards = [{"IMAGETYP": "Bias", **points_at(ra, 20.0)} for ra in (10.0, 80.0, 200.0)]
    assert kinds_of(tmp_path, *cards) == [[0, 1, 2]]


def test_a_wide_camera_has_wide_fields(tmp_path):
    """By the focal length and the size of a pixel: 96 px of 0.05 degrees."""
    camera = {"FOCALLEN": 10.0, "XPIXSZ": 8.73}
    far = [points_at(ra, 0.5) | camera for ra in (10.0, 12.0, 14.0)]
    assert kinds_of(tmp_path, *far) == [[0, 1, 2]]
    (tmp_path / "narrow").mkdir()
    narrow = [each | {"FOCALLEN": 1000.0} for each in far]
    assert kinds_of(tmp_path / "narrow", *narrow) == [[0], [1], [2]]
