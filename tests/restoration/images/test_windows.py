"""Windows found by one lookup are those that slices and turns give."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.restoration.images.windows import TURNINGS, Window, WindowLookup
from dip_pipeline.restoration.views.crops import turn

SIDE = 4
SHAPES = ((9, 6), (5, 11), (4, 4))
TURNING = st.integers(0, TURNINGS - 1)


@st.composite
def windows(draw):
    region = draw(st.integers(0, len(SHAPES) - 1))
    top, left = (draw(st.integers(0, length - SIDE)) for length in SHAPES[region])
    return Window(region, top, left), draw(TURNING), draw(TURNING)


def turned(plane, turning):
    return turn(plane, turning % 4, flip=turning >= TURNINGS // 2)


@given(st.lists(windows(), min_size=1, max_size=7))
def test_windows_are_found_where_they_lie_and_turned(chosen):
    planes, start = [], 0
    for rows, cols in SHAPES:
        planes.append(torch.arange(start, start + rows * cols).float().view(1, 1, rows, cols))
        start += rows * cols
    lookup = WindowLookup([cols for _, cols in SHAPES], SIDE, torch.device("cpu"))
    places, firsts, thens = zip(*chosen, strict=True)
    cut = [planes[window.region][window.slices(SIDE)] for window in places]
    once = lookup.of(places, thens).taken(planes)
    wanted = [turned(one, then) for one, then in zip(cut, thens, strict=True)]
    assert torch.equal(once, torch.cat(wanted))
    twice = lookup.of(places, thens, firsts).taken(planes)
    wanted = [
        turned(turned(one, first), then)
        for one, first, then in zip(cut, firsts, thens, strict=True)
    ]
    assert torch.equal(twice, torch.cat(wanted))
