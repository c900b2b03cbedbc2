"""Numbers of the sensor from the cards of many observatories, each with unit and source."""

import math

import pytest

from dip_pipeline.sensor import SensorOverrides, Sourced
from dip_pipeline.sensor.cards import (
    AMPLIFIER_RULES,
    GAIN_RULES,
    READ_NOISE_RULES,
    SATURATION_RULES,
    amplifiers_of,
    number_of,
)
from dip_pipeline.sensor.reading import read_sensor

NOBODY = SensorOverrides()
HALVES = {"CCDSECA": "[1:50,1:80]", "CCDSECB": "[51:100,1:80]"}
DECAM = {"GAINA": 4.0, "GAINB": 5.0, "RDNOISEA": 6.0, "RDNOISEB": 8.0, "GAIN": 1.0}


def sensor(cards, unit="adu", given=NOBODY, **more):
    return read_sensor(cards, unit, given, **more)


@pytest.mark.parametrize("rule", GAIN_RULES, ids=lambda rule: rule.keyword)
def test_every_gain_card_gives_electrons_per_dn(rule):
    value = 0.5 if rule.inverse else 2.0
    gain = sensor({rule.keyword: value}).gain_e_per_dn
    assert (gain.value, gain.unit) == (2.0, "e/DN")
    assert gain.source.startswith(f"card {rule.keyword}")


@pytest.mark.parametrize("rule", READ_NOISE_RULES, ids=lambda rule: rule.keyword)
def test_every_read_noise_card_gives_electrons(rule):
    noise = sensor({rule.keyword: 5.5}).read_noise_e
    assert noise == Sourced(5.5, "e", f"card {rule.keyword}")


@pytest.mark.parametrize("rule", SATURATION_RULES, ids=lambda rule: rule.keyword)
def test_every_saturation_card_gives_data_numbers(rule):
    assert sensor({rule.keyword: 6e4}).saturation_dn.value == 6e4
    assert sensor({rule.keyword: 6e4}, "MJy/sr").saturation_dn is None


def test_keywords_stand_once_in_each_table():
    for table in (GAIN_RULES, READ_NOISE_RULES, SATURATION_RULES):
        keywords = [rule.keyword for rule in table]
        assert len(set(keywords)) == len(keywords)
    assert all("{}" in rule.gain for rule in AMPLIFIER_RULES)


def test_eso_writes_its_gain_upside_down():
    cards = {"ESO DET OUT1 GAIN": 0.52, "ESO DET OUT1 CONAD": 1.92, "GAIN": 7.0}
    assert sensor(cards).gain_e_per_dn.value == 1.92
    del cards["ESO DET OUT1 CONAD"]
    assert sensor(cards).gain_e_per_dn.value == pytest.approx(1.923, rel=1e-3)


@pytest.mark.parametrize(
    "cards",
    [
        {"GAIN": 30, "SWCREATE": "N.I.N.A. 2.0.0.9001 (x64)"},
        {"GAIN": 30, "INSTRUME": "ZWO ASI2600MM Pro"},
        {"GAIN": 26.0, "INSTRUME": "QHY268M"},
        {"GAIN": 30, "XPIXSZ": 3.76},
        {"GAIN": 30, "EGAIN": 30, "SWCREATE": "N.I.N.A. 1.8"},
    ],
)
def test_a_setting_of_a_camera_is_no_gain(cards):
    found = sensor(cards)
    assert found.gain_e_per_dn is None
    assert any("GAIN = " in note and "setting" in note for note in found.notes)
    assert sensor({**cards, "EGAIN": 0.25}).gain_e_per_dn.value == 0.25


def test_a_gain_of_an_observatory_is_a_gain_beside_a_pixel_size():
    assert sensor({"GAIN": 1.4, "XPIXSZ": 15.0}).gain_e_per_dn.value == 1.4


def test_amplifiers_outrank_single_cards():
    found = sensor(DECAM)
    assert (found.gain_e_per_dn.value, found.read_noise_e.value) == (4.5, 7.0)
    assert found.gain_e_per_dn.source == "mean of cards GAINA, GAINB"
    assert any("mean taken" in guess for guess in found.guesses)
    assert found.amplifiers == ()


def test_amplifiers_whose_pixels_are_known_are_kept_apart():
    found = sensor({**DECAM, **HALVES}, shape=(80, 100))
    assert [amp.section[1] for amp in found.amplifiers] == [slice(0, 50), slice(50, 100)]
    assert not any("mean taken" in guess for guess in found.guesses)


def test_the_read_noise_of_some_amplifiers_is_not_that_of_all():
    cards = {**DECAM, **HALVES, "RDNOISE": 7.5}
    del cards["RDNOISEB"]
    found = sensor(cards, shape=(80, 100))
    assert found.read_noise_e == Sourced(7.5, "e", "card RDNOISE")
    assert found.amplifiers == ()


def test_a_gain_that_is_given_is_that_of_all_amplifiers():
    given = SensorOverrides(gain_e_per_dn=3.0)
    found = sensor({**DECAM, **HALVES}, given=given, shape=(80, 100))
    assert (found.amplifiers, found.gain_e_per_dn.value) == ((), 3.0)


def test_a_read_noise_that_is_given_leaves_each_amplifier_its_gain():
    given = SensorOverrides(read_noise_e=3.0)
    found = sensor({**DECAM, **HALVES}, given=given, shape=(80, 100))
    assert [amp.gain.value for amp in found.amplifiers] == [4.0, 5.0]
    assert [amp.read_noise.value for amp in found.amplifiers] == [3.0, 3.0]
    assert found.read_noise_e.value == 3.0
    whole = sensor(DECAM, given=given)
    assert any("mean taken" in guess for guess in whole.guesses)


def test_of_pixels_in_electrons_amplifiers_differ_by_their_read_noise_alone():
    found = sensor({**DECAM, **HALVES}, "electron", shape=(80, 100))
    assert [amp.gain.value for amp in found.amplifiers] == [1.0, 1.0]
    assert [amp.read_noise.value for amp in found.amplifiers] == [6.0, 8.0]


@pytest.mark.parametrize(
    "sections",
    [
        {"CCDSECA": "[1:1024,1:4096]", "CCDSECB": "[1025:2048,1:4096]"},  # of the whole chip
        {"CCDSECA": "[1:50,1:80]", "CCDSECB": "[50:99,1:80]"},  # overlap, and leave a column
        {"CCDSECA": "[1:50,1:80]"},
    ],
)
def test_sections_that_do_not_fit_the_frame_are_not_believed(sections):
    amplifiers = amplifiers_of({**DECAM, **sections}, (80, 100))
    assert [amp.section for amp in amplifiers] == [None, None]


@pytest.mark.parametrize(
    "cards",
    [
        {"GAINA": 1.1, "GAINB": 1.2, "OBSRDNA": 3.0, "OBSRDNB": 4.0},
        {"ATODGNA": 1.1, "ATODGNB": 1.2, "READNSEA": 3.0, "READNSEB": 4.0},
        {"GAIN1": 1.1, "GAIN2": 1.2, "RDNOISE1": 3.0, "RDNOISE2": 4.0},
        {
            "ESO DET OUT1 CONAD": 1.1,
            "ESO DET OUT2 CONAD": 1.2,
            "ESO DET OUT1 RON": 3.0,
            "ESO DET OUT2 RON": 4.0,
        },
    ],
)
def test_amplifiers_of_every_writer_are_found(cards):
    found = sensor(cards)
    assert found.gain_e_per_dn.value == pytest.approx(1.15)
    assert found.read_noise_e.value == pytest.approx(3.5)


def test_a_rate_takes_the_exposure_time():
    cards = {"GAIN": 2.0, "RDNOISE": 6.0, "EXPTIME": 50.0, "SATURATE": 5e4}
    rate = sensor(cards, "DN/s")
    assert (rate.gain_e_per_dn.value, rate.gain_e_per_dn.unit) == (100.0, "e/(DN/s)")
    assert rate.saturation_dn.value == 1000.0
    assert "EXPTIME" in rate.gain_e_per_dn.source
    assert sensor({"EXPTIME": "53.9", "GAIN": 2.0}, "ELECTRONS/S").gain_e_per_dn.value == 53.9
    without = sensor({"GAIN": 2.0, "RDNOISE": 6.0}, "DN/s")
    assert without.gain_e_per_dn is None
    assert any("no exposure time" in note for note in without.notes)


def test_a_gain_that_is_given_is_of_data_numbers_in_a_rate_too():
    """Electrons per data number, like the card; without a time they are those of one unit."""
    given = SensorOverrides(gain_e_per_dn=2.0)
    card = sensor({"GAIN": 2.0, "EXPTIME": 50.0}, "DN/s").gain_e_per_dn
    told = sensor({"GAIN": 7.0, "EXPTIME": 50.0}, "DN/s", given).gain_e_per_dn
    assert (told.value, told.unit) == (card.value, card.unit)
    assert "--gain" in told.source
    assert "EXPTIME" in told.source
    assert sensor({}, "DN/s", given).gain_e_per_dn.value == 2.0
    assert sensor({"EXPTIME": 50.0}, "DN", given).gain_e_per_dn.value == 2.0


def test_a_rate_without_a_gain_is_full_all_the_same():
    rate = sensor({"EXPTIME": 50.0, "SATURATE": 5e4}, "DN/s")
    assert rate.saturation_dn.value == 1000.0
    assert rate.gain_e_per_dn is None
    assert not any("no exposure time" in note for note in rate.notes)


def test_the_variance_of_a_rate_is_that_of_the_counts():
    """variance(rate) = (rate t g + read noise^2) / (g t)^2, whichever way it is written."""
    gain, seconds, noise, rate = 2.0, 50.0, 6.0, 3.0
    found = sensor({"GAIN": gain, "RDNOISE": noise, "EXPTIME": seconds}, "DN/s")
    effective = found.gain_e_per_dn.value
    ours = rate / effective + (found.read_noise_e.value / effective) ** 2
    electrons = rate * seconds * gain
    assert ours == pytest.approx((electrons + noise**2) / (gain * seconds) ** 2)


def test_hubble_adds_up_what_it_combines():
    cards = {"READNSE": 4.0, "NCOMBINE": 4, "TELESCOP": "HST"}
    found = sensor(cards, "COUNTS")
    assert (found.read_noise_e.value, found.n_combined) == (8.0, None)
    averaged = sensor({**cards, "TELESCOP": "CTIO"}, "COUNTS")
    assert (averaged.read_noise_e.value, averaged.n_combined.value) == (4.0, 4.0)


def test_a_pedestal_to_be_added_is_a_bias_all_the_same():
    assert sensor({"PEDESTAL": -100.0}).pedestal_dn.value == 100.0


def test_what_is_taken_for_granted_is_told():
    assert sensor({"GAIN": 2.0}).guesses == ("no pedestal named: taken as removed",)
    assert "no unit named: taken as DN" in sensor({"GAIN": 2.0}, "").guesses
    assert sensor({}, "electron").guesses == ()
    given = SensorOverrides(pedestal_dn=0.0, gain_e_per_dn=1.0)
    assert sensor(DECAM, "", given).guesses == ()


def test_numbers_are_numbers():
    assert sensor({"GAIN": math.inf, "RDNOISE": math.nan}).gain_e_per_dn is None
    assert sensor({"GAIN": 60.0}).gain_e_per_dn is None


@pytest.mark.parametrize(
    ("cards", "unit", "level"),
    [
        ({"GAIN": 0.5}, "electron", 30000.0), ({"GAIN": 4.0}, "electron", 60000.0),
        ({"GAIN": 0.5, "EXPTIME": 10.0}, "electron/s", 3000.0),
        ({"GAIN": 0.5, "SATURATE": 90000.0}, "electron", 90000.0),  # of electrons already
        ({"GAIN": 1.0}, "electron", 60000.0), ({}, "electron", 60000.0),
        (DECAM | HALVES, "electron", 60000.0), ({"GAIN": 4.0}, "adu", 60000.0),
    ],
)  # fmt: skip
def test_saturation_is_in_the_unit_of_the_pixels(cards, unit, level):
    found = sensor({"SATURATE": 60000.0, **cards}, unit).saturation_dn
    assert found.value == pytest.approx(level)
    assert found.unit == {"electron": "e", "electron/s": "e/s"}.get(unit, "DN")


@pytest.mark.parametrize("unit", ["adu/s", "electron/s"])
def test_amplifiers_that_differ_in_a_rate_are_a_guess(unit):
    found = sensor(DECAM | HALVES | {"EXPTIME": 10.0}, unit, shape=(80, 100))
    assert found.amplifiers == ()
    assert any("amplifiers differ" in guess and "a rate" in guess for guess in found.guesses)
    alike = DECAM | HALVES | {"EXPTIME": 10.0, "GAINB": 4.0, "RDNOISEB": 6.0}
    assert not any("amplifiers" in guess for guess in sensor(alike, unit).guesses)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.0 e/ADU", 2.0), ("5.2 e-", 5.2), ("1.6 (e-/DN)", 1.6), ("0.5 ADU/e-", 2.0),
        ("1.5e0 electrons per count", 1.5), ("6 e rms", 6.0), ("300 s", 300.0), ("0 ADU/e", 0.0),
        ("2. e/ADU", 2.0), (".5 DN/e", 2.0), ("6e-", 6.0),
        ("2x2", None), ("4 ports", None), ("1.2.3 e", None), ("high", None), ("2 e/ADU/s", None),
    ],
)  # fmt: skip
def test_a_number_with_its_unit_is_read(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize("rule", GAIN_RULES, ids=lambda rule: rule.keyword)
@pytest.mark.parametrize("text", ["2.0 e/ADU", "0.5 DN/e-"])
def test_a_unit_in_the_text_of_a_gain_says_which_way_it_goes(rule, text):
    assert sensor({rule.keyword: text}).gain_e_per_dn.value == 2.0


@pytest.mark.parametrize(("text", "notes"), [("HIGH", 1), ("", 0), ("  ", 0)])
def test_a_gain_that_is_no_number_is_told(text, notes):
    found = sensor({"GAIN": text})
    assert found.gain_e_per_dn is None
    assert len(found.notes) == notes
    assert all("card GAIN = 'HIGH': no number, not used" in note for note in found.notes)
