"""Writing FITS: only what was declared changes, and every check sum holds."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.errors import OutputError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import (
    FinerGrid,
    RestoredFrame,
    RestoredPlanes,
    check_target,
    finer_frame,
    hdu_plans,
    open_frame,
    open_frames,
    save_frame,
    save_frames,
)
from dip_pipeline.frames.fits_checksum import ALL_ONES, RunningSum, encode_checksum, sum_of
from dip_pipeline.frames.fits_layout import scan_layout
from dip_pipeline.frames.restored_hdu import RestoredHdu

ALL = slice(None)
OURS = ["DIP_ERR", "DIP_FLAG", "DIP_PROV", "DIP_TILE"]
DECLARED = {"BITPIX", "BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM"}


def layout_of(path):
    with path.open("rb") as stream:
        return scan_layout(stream, path.stat().st_size, path).hdus


def cards_but(header, unwanted):
    return [str(card) for card in header.cards if card.keyword not in unwanted]


def test_every_other_hdu_keeps_its_cards_and_bytes(layered, tmp_path, restored, provenance):
    frame = open_frame(layered)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    before, after = layered.read_bytes(), (tmp_path / "out.fits").read_bytes()
    spans = list(zip(layout_of(layered), layout_of(tmp_path / "out.fits"), strict=False))
    for old, new in spans:
        if old.name == "SCI" and old.version == 1:
            continue
        assert list(new.cards[: len(old.cards)]) == list(old.cards)
        assert {card[:8].strip() for card in new.cards[len(old.cards) :]} <= {
            b"CHECKSUM",
            b"DATASUM",
        }
        assert after[new.data_start : new.end] == before[old.data_start : old.end]
    assert len(spans) == 6


def test_an_hdu_with_check_sums_is_copied_byte_for_byte(tmp_path, restored, provenance):
    path = tmp_path / "in.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((4, 5), "f4"), name="SCI"),
        fits.ImageHDU(np.arange(7, dtype="i2"), name="EXTRA"),
    ]
    fits.HDUList(hdus).writeto(path, checksum=True)
    frame = open_frame(path)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    before, after = path.read_bytes(), (tmp_path / "out.fits").read_bytes()
    old, new = layout_of(path), layout_of(tmp_path / "out.fits")
    assert [hdu.name for hdu in new[:3]] == ["", "SCI", "EXTRA"]
    for place in (0, 2):
        there, here = (hdus[place] for hdus in (new, old))
        assert after[there.header_start : there.end] == before[here.header_start : here.end]


def test_sums_that_were_wrong_in_the_input_are_made_anew(tmp_path, restored, provenance):
    path = tmp_path / "in.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((4, 5), "f4"), name="SCI"),
        fits.ImageHDU(np.arange(7, dtype="i2"), name="EXTRA"),
    ]
    hdus[2].header["NOTE"] = "as it was"
    fits.HDUList(hdus).writeto(path, checksum=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"as it was", b"edited by"))
    frame = open_frame(path)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert fitscheck.main(["-c", str(tmp_path / "out.fits")]) == 0
    with fits.open(tmp_path / "out.fits") as new:
        assert new["EXTRA"].header["NOTE"] == "edited by"
        np.testing.assert_array_equal(new["EXTRA"].data, np.arange(7))


def test_science_cards_change_only_as_declared(layered, tmp_path, restored, provenance):
    frame = open_frame(layered)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    ours = [keyword for keyword, _, _ in provenance.cards]
    with fits.open(layered) as old, fits.open(tmp_path / "out.fits") as new:
        kept = cards_but(new["SCI", 1].header, DECLARED | set(ours))
        assert kept[:-1] == cards_but(old["SCI", 1].header, DECLARED)
        assert kept[-1].startswith("HISTORY dip denoise")
        headers = [hdus["SCI", 1].header.copy() for hdus in (old, new)]
        for header in headers:
            for keyword in {*DECLARED, *ours, "HISTORY"}:
                header.remove(keyword, ignore_missing=True, remove_all=True)
        difference = fits.HeaderDiff(*headers)
        assert difference.identical, difference.report()


def test_the_restored_planes_are_what_is_in_the_file(layered, tmp_path, restored, provenance):
    frame = open_frame(layered)
    planes = restored(frame)
    save_frame(tmp_path / "out.fits", frame, planes, provenance=provenance)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [hdu.name for hdu in hdus][-4:] == OURS
        np.testing.assert_array_equal(hdus["SCI", 1].data, planes.science)
        np.testing.assert_array_equal(hdus["DIP_ERR"].data, planes.error)
        np.testing.assert_array_equal(hdus["DIP_FLAG"].data, planes.flags)
        assert hdus["SCI", 1].header["BITPIX"] == -32
        assert hdus["DIP_ERR"].header["BUNIT"] == "adu"
        assert hdus["DIP_FLAG"].header["BITPIX"] == 8
        bits = "\n".join(hdus["DIP_FLAG"].header["COMMENT"])
        assert all(f"{int(flag)}:" in bits for flag in PixelFlag)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8"])
def test_fitscheck_passes_and_scaling_is_gone(tmp_path, restored, provenance, dtype):
    hdu = fits.PrimaryHDU(np.arange(35).reshape(5, 7).astype(dtype))
    hdu.header["CRVAL1"] = 1.5
    hdu.header["AUTHOR"] = "n"
    if dtype == "f4":
        hdu.header["EXTEND"] = False
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    out = tmp_path / "out.fits"
    save_frame(out, frame, restored(frame), provenance=provenance)
    assert fitscheck.main(["-c", str(out)]) == 0
    header = fits.getheader(out)
    assert not {"BZERO", "BSCALE", "BLANK"} & set(header)
    assert out.read_bytes().count(b"EXTEND  =                    T") == 1
    assert header["CRVAL1"] == 1.5


def test_cards_that_break_the_standard_are_kept_and_pass(tmp_path, restored, provenance):
    path = tmp_path / "in.fits"
    hdu = fits.PrimaryHDU(np.zeros((4, 4), "f4"))
    hdu.header["CD1_1"] = 2.5e-07
    hdu.header["AUTHOR"] = "Mxller"
    hdu.writeto(path)
    content = path.read_bytes().replace(b"2.5E-07", b"2.5e-07").replace(b"Mxller", b"M\xfcller")
    path.write_bytes(content)
    frame = open_frame(path)
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    written = (tmp_path / "out.fits").read_bytes()
    assert b"M\xfcller" in written
    path.write_bytes(content.replace(b"M\xfcller", b"Mueller"[:6]))
    frame = open_frame(path)
    save_frame(tmp_path / "ascii.fits", frame, restored(frame), provenance=provenance)
    assert fitscheck.main([str(tmp_path / "ascii.fits")]) == 0
    assert fits.getheader(tmp_path / "ascii.fits")["CD1_1"] == 2.5e-07


def test_compression_cards_go_and_the_others_stay(tmp_path, restored, provenance):
    hdu = fits.CompImageHDU(np.arange(1200, dtype="i2").reshape(40, 30), name="SCI")
    hdu.header["GAIN"] = (1.5, "electrons per DN")
    hdu.header["HISTORY"] = "packed"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert fitscheck.main(["-c", str(tmp_path / "out.fits")]) == 0
    with fits.open(tmp_path / "out.fits", disable_image_compression=True) as hdus:
        header = hdus["SCI"].header
        assert header["XTENSION"] == "IMAGE"
        assert not [keyword for keyword in header if keyword.startswith(("Z", "TTYPE", "TFORM"))]
        assert header["GAIN"] == 1.5
        assert header.comments["GAIN"] == "electrons per DN"
        assert header["HISTORY"][0] == "packed"


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_byte_that_the_disk_changed_is_noticed(
    tmp_path, restored, provenance, monkeypatch, place
):
    """Before the product gets its name: what was there stays."""
    fits.PrimaryHDU(np.ones((40, 30), "f4")).writeto(tmp_path / "in.fits")
    frame, scan = open_frame(tmp_path / "in.fits"), hdu_plans.scan_layout

    def damaged(stream, size, path):
        with path.open("r+b") as file:
            file.seek(int(place * size))
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        return scan(stream, size, path)

    monkeypatch.setattr(hdu_plans, "scan_layout", damaged)
    with pytest.raises(OutputError, match="reads back otherwise than written; check the disk"):
        save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]


def test_a_file_of_another_size_than_was_written_is_noticed(
    tmp_path, restored, provenance, monkeypatch
):
    fits.PrimaryHDU(np.ones((40, 30), "f4")).writeto(tmp_path / "in.fits")
    frame, emit = open_frame(tmp_path / "in.fits"), hdu_plans._emit

    def longer(stream, plan):
        span = emit(stream, plan)
        if any(b"DIP_TILE" in card for card in plan.cards):
            stream.write(bytes(2880))
        return span

    monkeypatch.setattr(hdu_plans, "_emit", longer)
    with pytest.raises(OutputError, match="bytes on disk are not what was written"):
        save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]


def test_a_plane_that_gives_fewer_pixels_than_it_has_is_noticed(tmp_path, restored, provenance):
    fits.PrimaryHDU(np.ones((40, 30), "f4")).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    planes = restored(frame)

    class Short:
        shape = frame.shape

        def __getitem__(self, region):
            return planes.error[region][:-1]

    short = RestoredPlanes(planes.science, Short(), planes.flags)
    with pytest.raises(OutputError, match="a plane has 4680 bytes; 4800 were planned"):
        save_frame(tmp_path / "out.fits", frame, short, provenance=provenance)
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]


def test_axes_of_length_one_stay_in_the_output(tmp_path, restored, provenance):
    fits.PrimaryHDU(np.zeros((1, 1, 3, 4), "f4")).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    assert fits.getdata(tmp_path / "out.fits").shape == (1, 1, 3, 4)
    assert open_frame(tmp_path / "out.fits").shape == (3, 4)


@pytest.mark.parametrize("shape", [(30, 40), (2, 30, 40), (1, 30, 40)], ids=str)
def test_planes_of_ours_have_the_coordinates_of_as_many_axes(tmp_path, restored, provenance, shape):
    pixels = np.random.default_rng(2).normal(size=shape).astype("f4")
    hdu = fits.PrimaryHDU(pixels)
    world = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRPIX2": 7.0,
             "CD1_1": -1e-4, "CD2_2": 1e-4, "CTYPE1A": "LINEAR", "LTV1": 3.0}  # fmt: skip
    hdu.header.update(world | {"OBJECT": "M 13", "CDS": "no coordinate", "PCOUNTER": 3})
    hdu.writeto(tmp_path / "in.fits")
    frames = open_frames(tmp_path / "in.fits")
    made = [RestoredFrame(frame, restored(frame), ()) for frame in frames]
    save_frames(tmp_path / "out.fits", made, provenance=provenance)
    for name in ("DIP_ERR", "DIP_FLAG"):
        header = fits.getheader(tmp_path / "out.fits", name)
        found = {keyword: header[keyword] for keyword in world if keyword in header}
        assert found == ({} if shape[0] == 1 else world)
        assert not {"OBJECT", "CDS", "PCOUNTER"} & set(header)


_SIP = {"A_ORDER": 2, "B_ORDER": 2, "AP_ORDER": 2, "BP_ORDER": 2}


@pytest.mark.parametrize(
    ("projection", "cards"),
    [
        ("TAN", {"CDELT1": -1e-3, "CDELT2": 1e-3, "CROTA2": 30.0}),
        ("TAN", {"CDELT1": -1e-3, "CDELT2": 1e-3, "PC1_2": 0.2, "LONPOLE": 150.0}),
        ("TPV", {"CD1_1": -1e-3, "CD2_2": 1e-3, "PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.3}),
        ("TAN-SIP", {"CD1_1": -1e-3, "CD2_2": 1e-3, "A_2_0": 1e-3, "AP_1_0": 1e-3, **_SIP}),
    ],
)
def test_errors_lie_on_the_sky_where_the_science_does_and_back(
    tmp_path, restored, provenance, projection, cards
):
    hdu = fits.PrimaryHDU(np.zeros((30, 40), "f4"))
    hdu.header.update({"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}"})
    hdu.header.update({"CRVAL1": 10.0, "CRVAL2": 60.0, "CRPIX1": 3.0, "CRPIX2": 7.0, **cards})
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    science, *ours = (
        WCS(fits.getheader(tmp_path / "out.fits", name)) for name in (0, "DIP_ERR", "DIP_FLAG")
    )
    sky = science.pixel_to_world([0, 35], [28, 3])
    for plane in ours:
        assert plane.pixel_to_world([0, 35], [28, 3]).separation(sky).arcsec.max() < 1e-6
        if projection == "TAN-SIP":
            assert science.sip.ap[1, 0] == 1e-3
            np.testing.assert_array_equal(plane.sip.ap, science.sip.ap)


def test_planes_of_ours_have_the_distortions_that_cards_hold(tmp_path, restored, provenance):
    """TNX and ZPX stand in WAT cards."""
    hdu = fits.PrimaryHDU(np.zeros((30, 40), "f4"))
    world = {"CTYPE1": "RA---TNX", "WCSDIM": 2, "WAT0_001": "system=image",
             "WAT1_001": "wtype=tnx axtype=ra lngcor", "WAT1_002": "more of it"}  # fmt: skip
    hdu.header.update(world | {"WATER": "none"})
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "out.fits", frame, restored(frame), provenance=provenance)
    for name in ("DIP_ERR", "DIP_FLAG"):
        header = fits.getheader(tmp_path / "out.fits", name)
        assert {keyword: header.get(keyword) for keyword in world} == world
        assert "WATER" not in header


def _filled(frame, restored, flag):
    planes = restored(frame)
    return RestoredPlanes(planes.science, planes.error, np.full_like(planes.flags, flag))


def _masked_shares(path):
    return [frame.read(ALL, ALL).masked.mean() for frame in open_frames(path)]


def test_pixels_that_were_filled_stay_bad_where_hdus_have_gone(tmp_path, restored, provenance):
    """Finer products leave out the errors of their input: chips have other numbers in them."""
    hdus = [fits.PrimaryHDU()]
    for ver in (1, 2):
        pixels = np.full((20, 24), 100.0, "f4")
        hdus.append(fits.ImageHDU(pixels, fits.Header({"BUNIT": "adu"}), name="SCI", ver=ver))
        hdus.append(fits.ImageHDU(np.ones_like(pixels), name="ERR", ver=ver))
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    finer = [finer_frame(frame, FinerGrid(2, True)) for frame in open_frames(tmp_path / "in.fits")]
    made = [
        RestoredFrame(frame, _filled(frame, restored, flag), provenance.cards)
        for flag, frame in enumerate(finer)
    ]
    save_frames(tmp_path / "out.fits", made, provenance=provenance)
    first, second = _masked_shares(tmp_path / "out.fits")
    assert first < 0.01
    assert second == 1.0


def test_pixels_that_were_filled_stay_bad_where_the_primary_has_moved(
    tmp_path, restored, provenance
):
    pixels = np.full((20, 24), 100.0, "f4")
    hdus = [fits.PrimaryHDU(pixels), fits.ImageHDU(pixels, name="SCI", ver=2)]
    hdus[0].header["EXTNAME"] = "SCI"
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    made = [
        RestoredFrame(frame, _filled(frame, restored, flag), provenance.cards)
        for flag, frame in enumerate(open_frames(tmp_path / "in.fits"))
    ]
    save_frames(tmp_path / "out.fits.fz", made, provenance=provenance)
    first, second = _masked_shares(tmp_path / "out.fits.fz")
    assert first < 0.01
    assert second == 1.0


def test_chips_of_one_name_and_version_have_flags_of_their_own(tmp_path, restored, provenance):
    hdus = [fits.ImageHDU(np.full((20, 24), 100.0 + n, "f4"), name="CHIP") for n in range(3)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "in.fits")
    made = [
        RestoredFrame(frame, _filled(frame, restored, flag), provenance.cards)
        for flag, frame in zip((0, 1, 0), open_frames(tmp_path / "in.fits"), strict=True)
    ]
    save_frames(tmp_path / "out.fits", made, provenance=provenance)
    first, second, third = _masked_shares(tmp_path / "out.fits")
    assert max(first, third) < 0.01
    assert second == 1.0


def test_cards_that_no_compressed_image_may_have_are_told_of_before_the_work(tmp_path):
    hdu = fits.PrimaryHDU(np.zeros((30, 40), "f4"))
    hdu.header["ZSCALE"] = 2.0
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    check_target(tmp_path / "out.fits", frame)
    with pytest.raises(OutputError, match="card ZSCALE: has another meaning"):
        check_target(tmp_path / "out.fits.fz", frame)


def test_a_product_restored_again_holds_one_set_of_planes_and_cards(
    layered, tmp_path, restored, provenance
):
    frame = open_frame(layered)
    save_frame(tmp_path / "once.fits", frame, restored(frame), provenance=provenance)
    frame = open_frame(tmp_path / "once.fits")
    save_frame(tmp_path / "twice.fits", frame, restored(frame), provenance=provenance)
    with fits.open(tmp_path / "twice.fits") as hdus:
        names = [hdu.name for hdu in hdus]
        assert [names.count(name) for name in OURS] == [1, 1, 1, 1]
        keywords = list(hdus["SCI", 1].header)
        assert [
            keywords.count(word) for word, value, _ in provenance.cards if value is not None
        ] == [1] * 5
        history = [str(line) for line in hdus["SCI", 1].header["HISTORY"]]
        assert sum(line.startswith("dip denoise") for line in history) == 2
    assert fitscheck.main([str(tmp_path / "twice.fits")]) == 0


def test_cards_of_others_that_start_like_ours_stay(tmp_path, restored, provenance):
    hdu = fits.PrimaryHDU(np.zeros((4, 4), "f4"))
    hdu.header["DIPOLE"] = 3
    hdu.writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    save_frame(tmp_path / "once.fits", frame, restored(frame), provenance=provenance)
    frame = open_frame(tmp_path / "once.fits")
    save_frame(tmp_path / "twice.fits", frame, restored(frame), provenance=provenance)
    assert fits.getheader(tmp_path / "twice.fits")["DIPOLE"] == 3


def test_a_selected_chip_is_restored_in_its_place(layered, tmp_path, restored, provenance):
    frame = open_frame(f"{layered}[SCI,2]")
    planes = restored(frame)
    save_frame(tmp_path / "out.fits", frame, planes, provenance=provenance)
    with fits.open(layered) as old, fits.open(tmp_path / "out.fits") as new:
        np.testing.assert_array_equal(new["SCI", 2].data, planes.science)
        np.testing.assert_array_equal(new["SCI", 1].data, old["SCI", 1].data)
        assert new["DIP_ERR"].ver == 2


class Endless:
    """A plane that is nowhere whole; it counts what is asked of it."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.largest = shape, dtype, 0

    def __getitem__(self, region):
        rows = region[0].stop - region[0].start
        self.largest = max(self.largest, rows)
        return np.zeros((rows, self.shape[1]), self.dtype)


def test_writing_takes_memory_for_a_band(tmp_path, provenance):
    shape = (6000, 1500)
    fits.PrimaryHDU(np.zeros(shape, "u1")).writeto(tmp_path / "in.fits")
    frame = open_frame(tmp_path / "in.fits")
    planes = RestoredPlanes(Endless(shape, "f4"), Endless(shape, "f4"), Endless(shape, "u1"))
    tracemalloc.start()
    save_frame(tmp_path / "out.fits", frame, planes, provenance=provenance)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24_000_000  # one plane is 36 MB
    assert planes.science.largest < 1000


@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(min_size=4, max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_sums_do_not_depend_on_how_bytes_arrive_and_encode_to_all_ones(content, cuts):
    content = content + bytes(-len(content) % 4)
    running = RunningSum()
    edges = [0, *sorted(cuts), len(content)]
    for start, stop in pairwise(edges):
        running.add(content[start:stop])
    total = sum_of(content)
    assert running.value == total
    # As in a header: sixteen zeros at 3 bytes past a word give way to the letters.
    header = b"abc" + b"0" * 16 + b"z" + content
    letters = encode_checksum(sum_of(header)).encode()
    assert letters.isalnum()
    assert sum_of(header.replace(b"0" * 16, letters, 1)) == ALL_ONES


def test_cards_of_an_earlier_restoration_go_also_those_that_this_one_does_not_write(
    tmp_path, restored, provenance
):
    fits.PrimaryHDU(np.ones((40, 30), "f4")).writeto(tmp_path / "in.fits")
    earlier = replace(provenance, cards=(*provenance.cards, ("DIPEX001", "b.fits", "combined")))
    for source, target, told in (("in", "once", earlier), ("once", "twice", provenance)):
        frame = open_frame(tmp_path / f"{source}.fits")
        save_frame(tmp_path / f"{target}.fits", frame, restored(frame), provenance=told)
    assert fits.getheader(tmp_path / "once.fits")["DIPEX001"] == "b.fits"
    header = fits.getheader(tmp_path / "twice.fits")
    assert "DIPEX001" not in header
    assert header.count("DIPVER") == 1


@pytest.mark.parametrize(
    ("steps", "step"), [((0.1, 0.5), 0.1), ((0.5, 0.1), 0.1), ((0.1, None), None)]
)
def test_planes_of_a_stack_are_stored_as_finely_as_the_quietest_needs(steps, step):
    planes = tuple(SimpleNamespace(planes=SimpleNamespace(step=each)) for each in steps)
    assert RestoredHdu(0, (2, 3, 3), [], planes, []).step == step
