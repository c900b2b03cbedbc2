"""Which planes of its files a prior is fitted on."""

from dataclasses import dataclass, field

import pytest

from dip_pipeline.runs.fitted_planes import planes_in_turn


@dataclass(frozen=True)
class Plane:
    header: dict = field(default_factory=dict)


def of(*counts):
    return planes_in_turn([[Plane()] * count for count in counts])


@pytest.mark.parametrize(
    ("counts", "turns"),
    [
        ((1,), [[0]]),
        ((1, 1, 1), [[0], [0], [0]]),
        ((4,), [[0, 1, 2, 3]]),
        ((4, 4), [[0, 1], [2, 3]]),
        ((4, 4, 4), [[0, 1], [2, 3], [0, 1]]),
        ((4,) * 6, [[0], [1], [2], [3], [0], [1]]),
        ((2,), [[0, 1]]),
        ((200,), [[0, 50, 100, 150]]),
        ((60, 60, 60, 60, 60), [[0], [12], [24], [36], [48]]),
        ((1, 4), [[0], [2, 3]]),
    ],
)
def test_over_all_files_every_part_has_its_turn(counts, turns):
    assert of(*counts) == turns


def test_no_file_gives_a_plane_twice():
    for files in range(1, 7):
        for planes in range(1, 12):
            for turns in of(*[planes] * files):
                assert len(set(turns)) == len(turns)
                assert max(turns) < planes


def test_planes_behind_another_filter_than_the_first_are_left_out():
    bands = [Plane({"FILTER": name}) for name in "grgr"] + [Plane()]
    assert planes_in_turn([bands]) == [[0, 2, 4]]
