"""What exposures show unlike each other is added up over tiles, and warned of where implausible."""

import json

import pytest

from dip_pipeline.exposure_tallies import agreements, warn_of_exposures

_NAMES = ["a.fits", "b.fits", "c.fits"]


def _row(number, **changes):
    usual = {
        "number": number,
        "pixels": 10000,
        "left_out": 50,
        "lit": 1000,
        "lit_left_out": 5,
        "light": 1e5,
        "unlike": 1e3,
    }
    return usual | changes


def _tiles(**changes):
    """Two tiles, one as it was restored, one as a table holds it; changes are of the second."""
    rows = [_row(0), _row(1, **changes), _row(2)]
    return [{"exposures": rows}, {"exposures": json.dumps(rows)}]


def test_tiles_are_added_up_and_those_without_a_tally_left_out():
    found = agreements([*_tiles(left_out=150), {"exposures": ""}, {"exposures": []}, {}])
    assert [each.number for each in found] == [0, 1, 2]
    assert [each.share for each in found] == pytest.approx([0.005, 0.015, 0.005])
    assert found[1].pixels == 20000
    assert found[0].unlike_share == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"left_out": 400, "lit_left_out": 70}, ""),  # many cosmic rays, on sources as on the sky
        ({"left_out": 100, "lit_left_out": 80}, "contradict 8 % of its pixels that show sources"),
        ({"left_out": 1500, "lit_left_out": 150}, "contradict 15 % of its pixels"),
        ({"unlike": 1.2e4}, "by 12 % of their light"),
        ({"lit": 20, "lit_left_out": 10, "unlike": 5e4}, ""),  # too few to tell
    ],
)
def test_what_cosmic_rays_do_not_explain_is_warned_of(caplog, changes, words):
    warn_of_exposures(_NAMES, agreements(_tiles(**changes)))
    assert words in caplog.text
    assert bool(caplog.records) == bool(words)
    assert not words or "b.fits" in caplog.text


def test_the_worst_of_several_is_named(caplog):
    rows = [_row(0, unlike=1.3e4), _row(1, unlike=4.4e4), _row(2, unlike=1.4e4)]
    warn_of_exposures(_NAMES, agreements([{"exposures": rows}]))
    assert len(caplog.records) == 1
    assert caplog.text.count("b.fits") == 1


@pytest.mark.parametrize(("left_out", "warned"), [(900, True), (300, False)])
def test_two_exposures_that_share_no_sources_are_warned_of(caplog, left_out, warned):
    """Of two the fainter pixel is believed: stars that lie elsewhere are gone, and not shown."""
    rows = [_row(number, left_out=left_out, lit=400, lit_left_out=0) for number in (0, 1)]
    warn_of_exposures(_NAMES, agreements([{"exposures": rows}]))
    assert ("contradict each other in more pixels" in caplog.text) == warned
