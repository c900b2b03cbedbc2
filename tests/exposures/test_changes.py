"""Of a source that is not the same everywhere it is told which exposure stands out."""

import pytest

from dip_pipeline.exposures.changes import (
    change_facts,
    changes_in_words,
    source_changes,
    unlike_sources,
    warn_of_trails,
)
from dip_pipeline.registration import Change, Compared

_NAMES = ["a.fits", "b.fits", "c.fits"]


def _words(names, *changes):
    return [each.words for each in source_changes(names, changes)]


def test_the_one_exposure_that_differs_is_named():
    brighter = Change(10.0, 20.0, 100.0, 45.0, 12.0)
    assert _words(_NAMES, (), (brighter,)) == [
        "at row 10.0, column 20.0 45 % brighter in c.fits (12 sigma)"
    ]


def test_where_all_others_differ_the_first_is_named():
    fainter = [Change(10.0, 20.0 + by, 200.0, -100.0, -9.0 - by) for by in (0.0, 0.4)]
    (words,) = _words(_NAMES, fainter[:1], fainter[1:])
    assert words.endswith("100 % brighter in a.fits (9 sigma)")


def test_sources_of_one_exposure_alone():
    new, gone = Change(1.0, 2.0, 3.0, 500.0, 30.0), Change(40.0, 2.0, 500.0, -495.0, -20.0)
    assert "only in b.fits (30 sigma)" in _words(_NAMES, (new,), ())[0]
    assert "not in b.fits" in _words(_NAMES, (gone,), ())[0]
    assert "only in a.fits" in _words(_NAMES, (gone,), (gone,))[0]
    assert "only in a.fits" in _words(_NAMES[:2], (gone,))[0]


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([-1193, -1887, -2375, -2623, -2888], "272 % brighter in a.fits (24 sigma)"),
        ([-1193, -2700, -2800, -2900, -3000], "by far brightest in a.fits (25 sigma)"),
        ([-2888, -2700, -2800, -2900, -3000], "only in a.fits (25 sigma)"),
        ([0, -1600, -1700, -1500, -1600], "brighter in a.fits (14 sigma)"),
    ],
)
def test_what_fades_from_exposure_to_exposure_is_not_in_one_alone(others, told):
    """Of a source of 3248 in the first; no change is told of one that is as bright."""
    changes = [(Change(31.5, 100.0, 3248.0, more, more / 120),) if more else () for more in others]
    assert told in _words(["a.fits", "b.fits", "c.fits", "d.fits", "e.fits", "f.fits"], *changes)[0]


def test_a_moving_source_is_told_at_each_of_its_places():
    path = [Change(10.0, 10.0 * number, 0.0, 300.0, 10.0 + number) for number in range(2)]
    words = _words(_NAMES, path[:1], path[1:])
    assert ["only in c.fits" in words[0], "only in b.fits" in words[1]] == [True, True]


def test_a_line_is_short_and_the_account_has_all():
    many = [Change(10.0 * number, 5.0, 100.0, 50.0, 60.0 - number) for number in range(9)]
    line = changes_in_words(source_changes(_NAMES, (many, ())))
    assert line.count("brighter") == 5
    assert line.endswith("and 4 more (dip provenance)")
    told = change_facts(many, 2.0)["sources_unlike_first"]
    assert len(told) == 9
    assert told[0]["more_here"] == 100.0
    assert changes_in_words([]) == ""
    assert change_facts([], 2.0) == {}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([Compared((), 0.01, 3), Compared((), 0.02, 80)], []),
        (
            [Compared((), 0.01, 3), Compared((), 0.09, 80)],
            ["c.fits: its stars are drawn out at 80"],
        ),
        (
            [Compared((), 0.1, 2), Compared((), 0.08, 178)],
            ["a.fits: its stars are drawn out at 90"],
        ),
        ([Compared((), 0.1, 0), Compared((), 0.1, 90)], ["b.fits: its", "c.fits: its"]),
        ([Compared((), 0.1, 20)], ["or those of a.fits across that"]),
    ],
)
def test_the_exposure_whose_stars_are_trailed_is_warned_of(found, told, caplog):
    warn_of_trails(_NAMES[: len(found) + 1], found)
    assert len(caplog.messages) == len(told)
    assert all(words in text for words, text in zip(told, caplog.messages, strict=True))


@pytest.mark.parametrize(
    ("unlike", "told"),
    [
        ((0.05, 0.01), {}),
        ((0.02, 0.3), {2: "c.fits: the light of its sources is unlike that in the others"}),
        ((0.3, 0.2), {0: "a.fits: the light of its sources is unlike that in the others"}),
        ((0.3, 0.0), {1: "b.fits: the light of its sources is unlike that in the others"}),
        ((0.3,), {1: "b.fits: the light of its sources is unlike that in a.fits"}),
    ],
)
def test_the_exposure_that_shows_another_scene_is_told(unlike, told):
    found = unlike_sources(_NAMES[: len(unlike) + 1], [Compared(unlike=each) for each in unlike])
    assert found.keys() == told.keys()
    assert all(words.startswith(told[number]) for number, words in found.items())
