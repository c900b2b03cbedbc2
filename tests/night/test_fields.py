"""Laws of fields: chains of neighbours on the sky, whatever the order, the pole and the seam."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import pointing_by_cards, side_by_cards_arcsec
from dip_pipeline.night.fields import Pointing, fields_of, pointing_of

ANGLES = st.floats(0, 360), st.floats(-90, 90), st.floats(0, 40)
OPEN = st.builds(Pointing, st.floats(0, 24), *ANGLES[1:], st.just(True), st.just(True))
PLACES = st.builds(Pointing, *ANGLES, st.booleans()) | OPEN


def test_steps_over_the_seam_and_the_pole_chain_and_far_ones_do_not():
    steps = [(359.5, 0.0), (0.3, 0.0), (1.1, 0.0), (0.0, 89.8), (180.0, 89.8), (90.0, -89.8)]
    assert fields_of([Pointing(*step, 0.9) for step in steps]) == [[0, 1, 2], [3, 4], [5]]


def test_a_rough_pointing_joins_the_nearest_field_and_chains_no_two():
    mosaic = [Pointing(10.0, 0.0, 0.1), Pointing(10.4, 0.0, 0.1), Pointing(10.4, 0.05, 0.1)]
    rough = Pointing(10.25, 0.0, 0.5, is_rough=True)
    assert fields_of([*mosaic, rough]) == [[0], [1, 2, 3]]
    assert fields_of([rough, *mosaic[:1], rough._replace(longitude_deg=50.0)]) == [[0, 1], [2]]


def test_frames_that_say_nothing_are_of_the_only_field_or_together():
    here, there = Pointing(10.0, 0.0, 0.1), Pointing(50.0, 0.0, 0.1)
    assert fields_of([None, here, None]) == [[0, 1, 2]]
    assert fields_of([None, here, None, there]) == [[1], [3], [0, 2]]
    assert fields_of([None, None]) == [[0, 1]]
    assert fields_of([]) == []


@given(st.lists(st.none() | PLACES, max_size=12), st.randoms(use_true_random=False))
def test_every_frame_is_of_one_field_and_order_decides_nothing(places, random):
    fields = fields_of(places)
    assert sorted(n for field in fields for n in field) == list(range(len(places)))
    order = list(range(len(places)))
    random.shuffle(order)
    again = fields_of([places[n] for n in order])
    exact = [n for n, place in enumerate(places) if place is None or not place.is_rough]
    if len(exact) in (0, len(places)):  # of two that are as near a rough one takes the first
        found = {frozenset(order[n] for n in field) for field in again}
        assert found == {frozenset(field) for field in fields}


def test_thousands_of_frames_of_hundreds_of_fields_are_parted_in_seconds():
    def seconds(frames):
        rng = np.random.default_rng(1)
        places = [Pointing(*rng.uniform(0, 80, 2), 0.1) for _ in range(frames // 10)] * 10
        begun = time.process_time()
        assert len(fields_of(places)) > frames // 20
        return time.process_time() - begun

    assert seconds(4000) < 2.0  # one by one it was half a minute


@pytest.mark.parametrize(
    ("cards", "place"),
    [
        ({"RA": "12:00:00", "DEC": "-00:30:00"}, (180.0, -0.5)),
        ({"RA": "12 00 00", "DEC": "-00 30 00.0"}, (180.0, -0.5)),
        ({"RA": "12h00m00s", "DEC": "-0d30m"}, (180.0, -0.5)),
        ({"RA": " 180.0 ", "DEC": "-0.5"}, (180.0, -0.5)),
        ({"RA": 180, "DEC": -0.5}, (180.0, -0.5)),
        ({"RA": -180.0, "DEC": -0.5}, (180.0, -0.5)),
        ({"RA": "12:00:60", "DEC": "-0:30"}, (180.25, -0.5)),
        ({"RA": 0.0, "DEC": 5.0}, (0.0, 5.0)),
        ({"RA": "", "DEC": "", "OBJCTRA": "12 00 00", "OBJCTDEC": "+01 00 00"}, (180.0, 1.0)),
        ({"RA": 0, "DEC": 0, "TELRA": 7.5, "TELDEC": 1}, (7.5, 1.0)),
        ({"RA": "180", "DEC": None}, None),
        ({"RA": "nan", "DEC": "1"}, None),
        ({"RA": float("nan"), "DEC": 1.0}, None),
        ({"RA": "1e999", "DEC": 1.0}, None),
        ({"RA": 10**400, "DEC": 1.0}, None),
        ({"RA": 361.0, "DEC": 1.0}, None),
        ({"RA": True, "DEC": True}, None),
        ({"RA": "12:00:00", "DEC": "91:00:00"}, None),
        ({"RA": "12:00:00 hours of the night", "DEC": "1"}, None),
        ({}, None),
    ],
)
def test_cards_of_the_telescope_are_read_or_say_nothing(cards, place):
    told = pointing_by_cards(cards)
    assert (told and told[:2]) == (place and pytest.approx(place))


@pytest.mark.parametrize(
    ("comment", "longitude", "is_open"),
    [
        ("[h] right ascension", 157.5, False),
        ("RA of the telescope (hours)", 157.5, False),
        ("Telescope RA, decimal hrs", 157.5, False),
        ("telescope RA (hh:mm:ss)", 157.5, False),  # IRAF reads minutes as one number
        ("[deg] right ascension", 10.5, False),
        ("10:30:00 RA (J2000) pointing (deg)", 10.5, False),
        ("RA in degrees, of an hour angle in hours", 10.5, False),
        ("[rad] right ascension", 241.6056, False),
        ("right ascension of the telescope", 10.5, True),
        ("", 10.5, True),
    ],
)
def test_a_comment_tells_the_unit_of_a_number(comment, longitude, is_open):
    value = np.radians(longitude) if "rad" in comment else 10.5
    for number in (value, f" {value} "):
        told = pointing_by_cards({"TELRA": number, "TELDEC": 41.0}, {"TELRA": comment})
        assert told == (pytest.approx(longitude), 41.0, is_open)


def test_minutes_are_hours_whatever_a_comment_says_and_what_no_hours_can_be_is_degrees():
    told = pointing_by_cards({"RA": "10:30:00", "DEC": "41:00:00"}, {"RA": "hours", "DEC": "hours"})
    assert told == pytest.approx((157.5, 41.0, False))
    assert pointing_by_cards({"RA": 157.5, "DEC": 41.0}, {"RA": "hours"})[:2] == (157.5, 41.0)


def test_a_bare_number_that_may_be_hours_comes_after_cards_that_are_sure():
    bare = {"TELRA": 10.5, "TELDEC": 41.0}
    sure = {"OBJCTRA": "10 30 00", "OBJCTDEC": "+41 00 00"}
    assert pointing_by_cards(bare | sure) == pytest.approx((157.5, 41.0, False))
    assert pointing_by_cards(bare | {"RA_TARG": 157.6, "DEC_TARG": 41.0})[0] == 157.6
    assert pointing_by_cards({"TELRA": 100.5, "TELDEC": 41.0} | sure)[0] == 100.5
    assert pointing_by_cards(bare | sure, {"TELRA": "[deg]"})[0] == 10.5


def test_bare_numbers_are_hours_where_known_places_are_there_and_else_degrees():
    def bare(number):
        return Pointing(number, 41.0, 0.5, is_rough=True, may_be_hours=True)

    known = [Pointing(15 * hour, 41.0, 0.1) for hour in (10.5, 10.6)]
    hours = [bare(hour) for hour in (10.5, 10.6, 10.5)]
    assert fields_of([*known, *hours]) == [[0, 2, 4], [1, 3]]
    degrees = [Pointing(degree, 41.0, 0.1) for degree in (10.5, 20.5)]
    assert fields_of([*degrees, bare(10.5), bare(20.5)]) == [[0, 2], [1, 3]]
    # Too large for hours, of the same camera: degrees, all of them.
    assert fields_of([*known, *hours, bare(150.0)]) == [[0], [1], [2, 3, 4], [5]]
    # Nothing tells: together, as frames are that say nothing; never further parted.
    assert fields_of(hours) == [[0, 1, 2]]
    assert fields_of([bare(10.5), bare(12.0)]) == [[0], [1]]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["RA", "DEC"]), st.text() | st.floats() | st.integers()))
def test_no_card_stops_a_night(cards):
    found = pointing_by_cards(cards)
    assert found is None or (0 <= found[0] <= 360 and abs(found[1]) <= 90)


def test_the_side_of_a_pixel_is_told_by_the_optics():
    assert side_by_cards_arcsec({"XPIXSZ": 9.0, "FOCALLEN": 1000.0}) == pytest.approx(1.8564, 1e-4)
    assert side_by_cards_arcsec({"PIXSCALE": 2.0, "XPIXSZ": 9.0, "FOCALLEN": 1000.0}) == 2.0
    for lens in (0.0, "", None, float("nan")):
        assert side_by_cards_arcsec({"XPIXSZ": 9.0, "FOCALLEN": lens}) is None


def test_cards_of_the_telescope_reach_half_a_frame_and_no_less_than_its_errors():
    cards, shape = {"RA": 10.0, "DEC": 5.0}, (400, 600)
    wide = pointing_of((), {**cards, "PIXSCALE": 36.0}, shape)
    assert wide == pytest.approx((10.0, 5.0, 2.0, True, True))
    assert pointing_of((), cards, shape) == pytest.approx((10.0, 5.0, 0.5, True, True))
    assert pointing_of((), {}, shape) is None
    hours = pointing_of((), cards, shape, comments={"RA": "[h]"})
    assert hours == pytest.approx((150.0, 5.0, 0.5, True, False))


@pytest.mark.parametrize("card", [("IMAGETYP", "dome flat"), ("OBJECT", "M 31")])
def test_flats_and_frames_whose_object_is_named_are_not_parted_by_where_they_look(card):
    cards = {"RA": 10.0, "DEC": 5.0}
    assert pointing_of((), cards, (400, 600)) is not None
    assert pointing_of((), cards | dict([card]), (400, 600)) is None
