"""Laws of cutting and blending: every pixel covered, weights sum to 1, nothing changed."""

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dip_pipeline.errors import ConfigError
from dip_pipeline.tiling import TileOptions, axis_weights, blend, plan_tiles, tile_borders

law = settings(deadline=None, max_examples=60)  # time says nothing about a law
SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@st.composite
def tile_options(draw):
    size = draw(st.integers(1, 24))
    overlap = draw(st.integers(0, (size - 1) // 2))
    return TileOptions(size, overlap, draw(st.integers(0, 9)), draw(st.booleans()))


def whole(shape):
    return slice(0, shape[0]), slice(0, shape[1])


def planes_of(rng, tiles):
    """Planes of tiles that disagree with each other, as those of fitted networks do."""
    return {
        tile.index: {
            "science": rng.normal(0, 1e3, tile.shape).astype(np.float32),
            "error": rng.uniform(1, 2, tile.shape).astype(np.float32),
            "flags": rng.integers(0, 16, tile.shape).astype(np.uint8),
        }
        for tile in tiles
    }


@law
@given(SHAPES, tile_options())
@example((1, 1), TileOptions())
@example((1, 300), TileOptions())
def test_tiles_cover_every_pixel_and_lie_inside_the_frame(shape, options):
    covered = np.zeros(shape, dtype=int)
    for tile in plan_tiles(shape, options):
        assert 0 <= tile.rows.start < tile.rows.stop <= shape[0]
        assert 0 <= tile.cols.start < tile.cols.stop <= shape[1]
        covered[tile.rows, tile.cols] += 1
    assert covered.min() >= 1


@law
@given(SHAPES, tile_options())
def test_tiles_are_of_one_size_and_counted_row_by_row(shape, options):
    tiles = plan_tiles(shape, options)
    assert [tile.index for tile in tiles] == list(range(len(tiles)))
    assert [(t.rows.start, t.cols.start) for t in tiles] == sorted(
        {(t.rows.start, t.cols.start) for t in tiles}
    )
    assert len({tile.shape for tile in tiles}) == 1
    for side, length in zip(tiles[0].shape, shape, strict=True):
        largest = min(options.size_px, length)
        assert side <= largest if options.evenly else side == largest


@law
@given(SHAPES, tile_options())
def test_even_tiles_are_as_many_and_none_could_be_smaller(shape, options):
    even = plan_tiles(shape, replace(options, evenly=True))
    full = plan_tiles(shape, replace(options, evenly=False))
    assert len(even) == len(full)
    for axis, length in enumerate(shape):
        parts = {((t.rows, t.cols)[axis].start, (t.rows, t.cols)[axis].stop) for t in even}
        side, count = even[0].shape[axis], len(parts)
        # A pixel less a side, and as many of them no longer cover the axis and share as much.
        assert count * (side - 1) - (count - 1) * options.overlap_px < length


@law
@given(SHAPES, tile_options())
def test_neighbours_share_at_least_the_overlap(shape, options):
    for axis in ("rows", "cols"):
        parts = sorted(
            {(getattr(t, axis).start, getattr(t, axis).stop) for t in plan_tiles(shape, options)}
        )
        for before, after in itertools.pairwise(parts):
            assert before[1] - after[0] >= options.overlap_px


@law
@given(SHAPES, tile_options())
def test_the_tile_lies_inside_its_halo_region(shape, options):
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)
    for tile in plan_tiles(shape, options):
        read = pixels[tile.halo_rows, tile.halo_cols]
        np.testing.assert_array_equal(read[tile.inner], pixels[tile.rows, tile.cols])
        assert tile.halo_rows.start in (0, tile.rows.start - options.halo_px)
        assert tile.halo_cols.stop in (shape[1], tile.cols.stop + options.halo_px)


@law
@given(SHAPES, tile_options())
@example((1, 1), TileOptions(1, 0, 0))
@example((25, 25), TileOptions(10, 4))  # the last tile is moved back: three overlap
@example((700, 1), TileOptions(256, 127))
def test_weights_sum_to_one_at_every_pixel_borders_and_corners_included(shape, options):
    tiles = plan_tiles(shape, options)
    rows = sorted({(t.rows.start, t.rows.stop) for t in tiles})
    cols = sorted({(t.cols.start, t.cols.stop) for t in tiles})
    row_weights = axis_weights([slice(*part) for part in rows])
    col_weights = axis_weights([slice(*part) for part in cols])
    total = np.zeros(shape)
    for (row, by_row), (col, by_col) in itertools.product(
        zip(rows, row_weights, strict=True), zip(cols, col_weights, strict=True)
    ):
        assert by_row.min() > 0
        assert by_col.min() > 0
        total[slice(*row), slice(*col)] += np.outer(by_row, by_col)
    np.testing.assert_allclose(total, 1.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("side", "options"), [(25, TileOptions(10, 4)), (15, TileOptions(9, 4, evenly=True))]
)
def test_where_three_tiles_overlap_the_weights_still_sum_to_one(side, options):
    tiles = plan_tiles((side, 1), options)
    covered = np.zeros(side)
    for tile in tiles:
        covered[tile.rows] += 1
    assert covered.max() == 3  # otherwise this test guards nothing
    total = np.zeros(side)
    for tile, weights in zip(tiles, axis_weights([t.rows for t in tiles]), strict=True):
        total[tile.rows] += weights
    np.testing.assert_allclose(total, 1.0, rtol=0, atol=1e-14)


@law
@given(SHAPES, tile_options(), st.integers(0, 2**32 - 1))
@example((1, 1), TileOptions(), 0)
def test_untouched_tiles_blend_back_to_the_frame_bit_by_bit(shape, options, seed):
    rng = np.random.default_rng(seed)
    science = (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(np.float32)
    flags = rng.integers(0, 256, shape).astype(np.uint8)
    blended = blend(
        whole(shape),
        plan_tiles(shape, options),
        lambda t: {"science": science[t.rows, t.cols], "flags": flags[t.rows, t.cols]},
    )
    assert blended["science"].dtype == np.float32
    assert blended["flags"].dtype == np.uint8
    np.testing.assert_array_equal(blended["science"], science)
    np.testing.assert_array_equal(blended["flags"], flags)


@law
@given(SHAPES, tile_options(), st.data())
def test_the_blend_does_not_depend_on_how_the_frame_is_cut_into_regions(shape, options, data):
    tiles = plan_tiles(shape, options)
    planes = planes_of(np.random.default_rng(7), tiles)
    at_once = blend(whole(shape), tiles, lambda t: planes[t.index])
    row_cuts = sorted({0, shape[0], *data.draw(st.lists(st.integers(0, shape[0]), max_size=4))})
    col_cut = data.draw(st.integers(0, shape[1]))
    col_parts = [slice(*p) for p in itertools.pairwise(sorted({0, col_cut, shape[1]}))]
    for name, expected in at_once.items():
        got = np.empty_like(expected)
        for start, stop in itertools.pairwise(row_cuts):
            for cols in col_parts:
                region = slice(start, stop), cols
                got[region] = blend(region, tiles[::-1], lambda t: planes[t.index])[name]
        assert got.tobytes() == expected.tobytes()


@law
@given(SHAPES, tile_options(), st.data())
def test_only_the_tiles_that_touch_the_region_are_loaded_each_once(shape, options, data):
    row, col = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    tiles = plan_tiles(shape, options)
    loaded = []

    def load(tile):
        loaded.append(tile.index)
        return {"science": np.ones(tile.shape, np.float32)}

    blend((slice(row, row + 1), slice(col, col + 1)), tiles, load)
    assert loaded == [
        t.index
        for t in tiles
        if t.rows.start <= row < t.rows.stop and t.cols.start <= col < t.cols.stop
    ]


def test_a_pixel_that_one_tile_could_not_fill_stays_nan():
    tiles = plan_tiles((1, 15), TileOptions(10, 4))
    hole = {0: 7, 1: 0}  # column 7 of tile 0 is also covered by tile 1

    def load(tile):
        science = np.ones(tile.shape, np.float32)
        if tile.index == 0:
            science[0, hole[0]] = np.nan
        return {"science": science}

    blended = blend(whole((1, 15)), tiles, load)["science"]
    np.testing.assert_array_equal(np.isnan(blended[0]), np.arange(15) == 7)


def test_errors_average_flags_collect_and_infinite_error_stays_infinite():
    tiles = plan_tiles((1, 15), TileOptions(10, 4))
    assert [(t.cols.start, t.cols.stop) for t in tiles] == [(0, 10), (5, 15)]

    def load(tile):
        error = np.full(tile.shape, 2.0 + 2.0 * tile.index, np.float32)
        if tile.index == 0:
            error[0, 6] = np.inf
        return {"error": error, "flags": np.full(tile.shape, 1 + tile.index, np.uint8)}

    blended = blend(whole((1, 15)), tiles, load)
    ramp = (np.arange(5) + 0.5) / 5
    expected = np.r_[np.full(5, 2.0), 2.0 + 2.0 * ramp, np.full(5, 4.0)]
    expected[6] = np.inf
    np.testing.assert_allclose(blended["error"][0], expected, rtol=1e-6)
    np.testing.assert_array_equal(blended["flags"][0], np.r_[[1] * 5, [3] * 5, [2] * 5])


@law
@given(SHAPES, tile_options())
def test_borders_are_where_the_set_of_covering_tiles_changes(shape, options):
    tiles = plan_tiles(shape, options)
    for axis, borders in zip(("rows", "cols"), tile_borders(shape, options), strict=True):
        parts = {(getattr(t, axis).start, getattr(t, axis).stop) for t in tiles}
        length = shape[0] if axis == "rows" else shape[1]
        cover = [frozenset(p for p in parts if p[0] <= i < p[1]) for i in range(length)]
        changes = [i for i in range(1, length) if cover[i] != cover[i - 1]]
        np.testing.assert_array_equal(borders, changes)


@pytest.mark.parametrize(
    ("size", "overlap", "halo", "named"),
    [(0, 0, 0, "--tile"), (10, 5, 0, "--overlap"), (10, -1, 0, "--overlap"), (10, 2, -1, "halo")],
)
def test_options_that_cannot_be_are_refused_in_one_line(size, overlap, halo, named):
    with pytest.raises(ConfigError, match=named) as caught:
        TileOptions(size, overlap, halo)
    assert "\n" not in str(caught.value)


def test_tiles_travel_to_other_processes():
    tiles = plan_tiles((50, 40), TileOptions(20, 4))
    assert pickle.loads(pickle.dumps(tiles)) == tiles


def test_a_plane_of_the_wrong_shape_is_refused():
    tiles = plan_tiles((8, 8), TileOptions(8, 0))
    with pytest.raises(ValueError, match=r"tile 0: science is \(1, 8\)"):
        blend(whole((8, 8)), tiles, lambda _: {"science": np.ones((1, 8), np.float32)})


@law
@given(SHAPES, tile_options(), st.integers(1, 4))
def test_tiles_of_finer_pixels_blend_to_the_finer_frame(shape, options, factor):
    """The plan is made on the frame's own pixels; tiles of a factor more cover the finer frame."""
    frame = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    finer_frame = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    tiles = plan_tiles(shape, options)
    finer = [tile.finer(factor) for tile in tiles]
    for tile, fine in zip(tiles, finer, strict=True):
        assert fine.index == tile.index
        assert fine.shape == (tile.shape[0] * factor, tile.shape[1] * factor)
        halo = finer_frame[fine.halo_rows, fine.halo_cols]
        np.testing.assert_array_equal(halo[fine.inner], finer_frame[fine.rows, fine.cols])
    blended = blend(
        whole(finer_frame.shape), finer, lambda tile: {"science": finer_frame[tile.rows, tile.cols]}
    )
    np.testing.assert_allclose(blended["science"], finer_frame, rtol=1e-6)
