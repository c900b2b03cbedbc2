"""Compressed outputs: floats within half a step, the rest exactly, the header as it was."""

import gzip
import io
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dip_pipeline.errors import OutputError
from dip_pipeline.frames import RestoredPlanes, open_frame, save_frame
from dip_pipeline.frames.compression import DITHER_SEED, TILE_PX, compressed
from dip_pipeline.frames.fits_cards import image_cards
from dip_pipeline.frames.hdu_plans import HduPlan, write_fits
from tests.frames.test_fits_writing import Endless

ALL = slice(None)


def plan_of(pixels, step=None, cards=()):
    bitpix = {"f": -8, "i": 8, "u": 8}[pixels.dtype.kind] * pixels.dtype.itemsize
    content = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    cut = len(content) // 3
    return HduPlan(
        [*image_cards(pixels.shape, bitpix, primary=False), *cards],
        len(content),
        lambda: iter((content[:cut], content[cut:])),
        compressible=True,
        step=step,
    )


def round_through_file(folder, pixels, step=None):
    """Pixels after a round through a compressed file."""
    empty = HduPlan(fits_primary(), 0, lambda: iter(()))
    path = folder / "a.fits.fz"
    with compressed([empty, plan_of(pixels, step)], folder) as plans:
        write_fits(path, plans)
    assert_sums_hold(path)
    with fits.open(path) as hdus:
        return np.array(hdus[1].data)


def assert_sums_hold(path):
    """Every HDU as it lies in the file; fitscheck finds no sums in any compressed image."""
    with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
        assert all(hdu._checksum_valid and hdu._datasum_valid for hdu in hdus)
    assert fitscheck.main(["-c", "-i", str(path)]) == 0


def fits_primary():
    return [card.encode() for card in map(str, fits.PrimaryHDU().header.cards)]


floats = st.floats(-1e5, 1e5, width=32) | st.sampled_from([0.0, np.float32("nan"), 3.25])


@settings(max_examples=15, deadline=None)
@given(
    pixels=hnp.arrays("f4", hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=floats),
    step=st.sampled_from([1e-3, 0.25, 1.0, 700.0]),
    stretch=st.integers(1, 30),
)
def test_floats_are_within_half_a_step_and_zeros_and_nans_exact(
    tmp_path_factory, pixels, step, stretch
):
    pixels = np.repeat(pixels, stretch, axis=-2)
    again = round_through_file(tmp_path_factory.mktemp("fz"), pixels, step)
    np.testing.assert_array_equal(np.isnan(again), np.isnan(pixels))
    # Each is written as float32, whose own rounding comes on top.
    rounding = np.spacing(np.abs(np.nan_to_num(pixels)).max(initial=1.0))
    assert np.nanmax(np.abs(again - pixels), initial=0) <= step / 2 * (1 + 1e-5) + rounding
    assert not np.any(again[pixels == 0])


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_what_has_no_step_comes_back_exactly(tmp_path, kind):
    pixels = (np.random.default_rng(3).normal(size=(150, 300)) * 40 + 100).astype(kind)
    np.testing.assert_array_equal(round_through_file(tmp_path, pixels), pixels)


def test_bands_make_the_same_image_as_astropy_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("dip_pipeline.frames.compression._BAND_BYTES", 100_000)
    pixels = np.random.default_rng(4).normal(10, 1, (200, 600)).astype("f4")
    pixels[150:, 580] = np.nan  # in later bands alone
    whole = fits.CompImageHDU(
        pixels, compression_type="RICE_1", quantize_level=-0.3, quantize_method=2,
        dither_seed=DITHER_SEED, tile_shape=TILE_PX,
    )  # fmt: skip
    stream = io.BytesIO()
    whole.writeto(stream)
    with fits.open(io.BytesIO(stream.getvalue())) as hdus:
        np.testing.assert_array_equal(round_through_file(tmp_path, pixels, 0.3), hdus[1].data)


def test_the_mean_is_not_moved(tmp_path):
    """Rounding without dither would put every pixel of a flat sky on the same side."""
    flat = np.full((256, 512), 10.09, "f4")
    flat += np.linspace(0, 0.02, 512, dtype="f4")
    again = round_through_file(tmp_path, flat, 0.5)
    error = float((again - flat).mean(dtype=np.float64))
    assert abs(error) < 5 * 0.5 / 12**0.5 / flat.size**0.5


@pytest.fixture
def stepped(restored):
    def make(frame, step=0.25):
        planes = restored(frame)
        rng = np.random.default_rng(1)
        science = rng.normal(0, 1, frame.shape).astype("f4")
        science[0, 0] = np.nan
        return RestoredPlanes(science, np.abs(science) * 0.1, planes.flags, step=step)

    return make


@pytest.mark.parametrize("suffix", [".fits.fz", ".fits.gz", ".fit.fz"])
def test_a_packed_product_is_the_plain_one(layered, tmp_path, stepped, provenance, suffix):
    frame = open_frame(layered)
    planes = stepped(frame)
    plain, packed = tmp_path / "out.fits", tmp_path / f"out{suffix}"
    save_frame(plain, frame, planes, provenance=provenance)
    save_frame(packed, frame, planes, provenance=provenance)
    assert_sums_hold(packed)
    with fits.open(plain) as old, fits.open(packed) as new:
        assert [(hdu.name, hdu.ver) for hdu in new] == [(hdu.name, hdu.ver) for hdu in old]
        for one, other in zip(old, new, strict=True):
            cards = [
                [str(card) for card in hdu.header.cards if not card.keyword.endswith("SUM")]
                for hdu in (one, other)
            ]
            assert cards[0] == cards[1]
            if one.name not in ("SCI", "DIP_ERR") and one.data is not None:
                assert one.data.tobytes() == other.data.tobytes()
        step = 0.25 if suffix.endswith("fz") else 0
        for name, finer in (("SCI", 1), ("DIP_ERR", 16)):
            apart = np.abs(new[name].data - old[name].data)
            assert np.nanmax(apart) <= step / finer / 2 * 1.0001
    cards = [
        [card for card in open_frame(path).cards if not card[0].endswith("SUM")]
        for path in (plain, packed)
    ]
    assert cards[0] == cards[1]
    assert open_frame(packed).read(ALL, ALL).science.shape == frame.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {layered.name, plain.name, packed.name}
    )


def test_a_primary_image_moves_behind_an_empty_one(tmp_path, stepped, provenance):
    hdu = fits.PrimaryHDU(np.zeros((70, 300), "i2"))
    hdu.header["OBJECT"] = "M 13"
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits.fz", frame, stepped(frame), provenance=provenance)
    with fits.open(tmp_path / "out.fits.fz") as hdus:
        assert hdus[0].data is None
        assert hdus[1].header["OBJECT"] == "M 13"
        assert hdus[1].data.shape == (70, 300)
    with fits.open(tmp_path / "out.fits.fz", disable_image_compression=True) as hdus:
        assert hdus[1].header["ZSIMPLE"] is True
        assert hdus[1].header["ZVAL3"] == -0.25
    again = open_frame(tmp_path / "out.fits.fz")
    save_frame(tmp_path / "plain.fits", again, stepped(again), provenance=provenance)
    assert fitscheck.main(["-c", str(tmp_path / "plain.fits")]) == 0


def test_gzipped_outputs_hold_no_time_and_no_name(layered, tmp_path, stepped, provenance):
    frame = open_frame(layered)
    for name in ("a.fits.gz", "b.fits.gz"):
        save_frame(tmp_path / name, frame, stepped(frame), provenance=provenance)
    content = (tmp_path / "a.fits.gz").read_bytes()
    assert content == (tmp_path / "b.fits.gz").read_bytes()
    assert gzip.decompress(content).startswith(b"SIMPLE")


def test_a_card_that_a_compressed_image_cannot_have_is_refused(tmp_path, restored, provenance):
    hdu = fits.PrimaryHDU(np.zeros((4, 5), "f4"))
    hdu.header["TTYPE1"] = "not of a table"
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    with pytest.raises(OutputError, match=r"card TTYPE1.*\.fits"):
        save_frame(tmp_path / "out.fits.fz", frame, restored(frame), provenance=provenance)
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]


@pytest.mark.parametrize("name", ["a.gz", "a.fits.bz2", "a.png", "a"])
def test_other_names_are_refused(layered, tmp_path, restored, provenance, name):
    frame = open_frame(layered)
    with pytest.raises(OutputError, match="names no format"):
        save_frame(tmp_path / name, frame, restored(frame), provenance=provenance)


def test_compressing_takes_memory_for_a_band(tmp_path, provenance):
    shape = (6000, 1500)
    fits.PrimaryHDU(np.zeros(shape, "u1")).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    planes = RestoredPlanes(
        Endless(shape, "f4"), Endless(shape, "f4"), Endless(shape, "u1"), step=1.0
    )
    tracemalloc.start()
    save_frame(tmp_path / "out.fits.fz", frame, planes, provenance=provenance)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000  # three planes are 81 MB
    sizes = [planes.science.largest, planes.flags.largest]
    assert all(rows < 3000 for rows in sizes)


def test_tiles_of_a_run_are_whole_tiles_of_the_file():
    assert all(256 % side == 0 for side in TILE_PX)
    assert all(first <= second for first, second in pairwise(TILE_PX))
