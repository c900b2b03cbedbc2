"""Raw frames of colour cameras: each filter is restored by itself, and one product holds all."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, EmptyFrameError, ExposureError, FrameError
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import mosaic_of, open_frames, read_provenance
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.filter_pattern import PLACES
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.frames.reading import Reading
from dip_pipeline.noise_planes import write_noise_planes
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing import planning
from dip_pipeline.preparing.stacking import stacks_of
from dip_pipeline.restoration.problem import cut_inner
from dip_pipeline.runs import ways
from dip_pipeline.runs.describing import describe_frame
from dip_pipeline.verifying import verify_product
from tests.stand_in import QUICK, arithmetic

LEVELS = (300.0, 700.0, 700.0, 450.0)  # of the sky behind red, green, green, blue
SIGMA = 5.0
ALL = (slice(None), slice(None))


@pytest.fixture(autouse=True)
def _made(monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)


def mosaic(path, shape=(96, 96), levels=LEVELS, light=0.0, **cards):
    """Write a raw frame: a sky behind four filters, and a bright patch that each passes alike."""
    rng = np.random.default_rng(7)
    pixels = rng.normal(0, SIGMA, shape)
    for (row, col), level in zip(PLACES, levels, strict=True):
        pixels[row::2, col::2] += level
    pixels[40:60, 40:60] += light
    fits.writeto(path, pixels.astype(np.float32), fits.Header({"BAYERPAT": "RGGB"} | cards))
    return path


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, "noise.sigma": SIGMA, **more})


@pytest.mark.parametrize("shape", [(96, 96), (97, 81)])
def test_each_filter_is_restored_by_itself_and_put_back(tmp_path, shape):
    source, target = mosaic(tmp_path / "raw.fits", shape), tmp_path / "out.fits"
    report = restore_frame(str(source), target, config())
    assert (report.status, report.failed_tiles) == ("restored", 0)
    assert sum("raw mosaic of colour filters, RGGB" in note for note in report.notes) == 1
    planes = [tmp_path / f"{row}{col}.fits" for row, col in PLACES]
    for path, (row, col) in zip(planes, PLACES, strict=True):
        fits.writeto(path, fits.getdata(source)[row::2, col::2])
        restore_frame(str(path), path.with_suffix(".out.fits"), config())
    with fits.open(target) as made:
        assert made[0].header["DIPCFA"] == "RGGB"
        assert made[0].header["BAYERPAT"] == "RGGB"
        for path, (row, col) in zip(planes, PLACES, strict=True):
            with fits.open(path.with_suffix(".out.fits")) as alone:
                for name in (0, "DIP_ERR", "DIP_FLAG"):
                    own = made[name].data[row::2, col::2]
                    np.testing.assert_array_equal(own, alone[name].data, str((row, col, name)))
    found = verify_product(target, str(source))
    assert [c.name for c in found.checks if not c.passed and c.passed is not None] == []
    document = read_provenance(target).document
    told = [facts_of(document, name)["plane"] for name in names_of(document, "RestoredPlane")]
    assert told == [f"HDU 0, plane {list(place)}" for place in PLACES]


@pytest.mark.parametrize("shape", [(96, 96), (97, 95)])
def test_filters_share_networks_whatever_the_size_of_the_mosaic(tmp_path, shape, monkeypatch):
    monkeypatch.setattr(planning, "correlation_of", None)  # it would not be used: noise is white
    frames = open_frames(mosaic(tmp_path / "raw.fits", shape))
    whole = RunConfig().with_overrides(**{"fit.scope": "frame"})
    assert stacks_of(frames, whole) == [(0, 1, 2, 3)]
    assert planning.kernels_of_stacks(frames, whole) == {}


def test_a_change_behind_one_filter_is_found_by_verifying(tmp_path):
    source, target = mosaic(tmp_path / "raw.fits"), tmp_path / "out.fits"
    restore_frame(str(source), target, config())
    with fits.open(target, mode="update", checksum=True) as made:
        made[0].data[13, 20] += 1
    failed = [c for c in verify_product(target).checks if c.passed is False]
    assert [c.name for c in failed] == ["pixels"]
    assert "plane [1, 0]" in failed[0].detail


def test_a_product_is_the_same_by_way_of_zarr(tmp_path):
    source, group = mosaic(tmp_path / "raw.fits"), tmp_path / "raw.zarr"
    convert(source, group)
    products = []
    for given, target in ((source, "a.fits"), (source, "b.zarr"), (group, "c.zarr")):
        restore_frame(str(given), tmp_path / target, config())
        checks = verify_product(tmp_path / target, str(given)).checks
        assert [c for c in checks if c.passed is False] == []
        images = open_frames(tmp_path / target)
        assert [image.plane_index for image in images] == list(PLACES)
        products.append([image.read(*ALL).science for image in images])
    for other in products[1:]:
        np.testing.assert_array_equal(products[0], other)


@pytest.mark.parametrize(
    ("was", "became", "check"),
    [("83.0", "83.5", "sky coordinates"), ("[1:96,1:96]", "[2:96,1:96]", "declared changes")],
)
def test_cards_of_a_mosaic_that_changed_are_found_in_zarr(tmp_path, was, became, check):
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.0, "CRVAL2": -5.0}
    sky |= {"CD1_1": -1 / 3600, "CD2_2": 1 / 3600, "TRIMSEC": "[1:96,1:96]"}
    source, target = mosaic(tmp_path / "raw.fits", **sky), tmp_path / "out.zarr"
    restore_frame(str(source), target, config())
    assert [c for c in verify_product(target, str(source)).checks if c.passed is False] == []
    path = target / "zarr.json"
    path.write_text(path.read_text().replace(was, became))
    assert check in {c.name for c in verify_product(target, str(source)).checks if not c.passed}


def test_a_raw_frame_is_described_as_it_is_stored(tmp_path):
    path = mosaic(tmp_path / "raw.fits")
    with fits.open(path, mode="update") as file:
        file[0].data[0::2, 1::2] = np.nan
    told = describe_frame(str(path), config())
    assert (told.shape, told.masked_share) == ((96, 96), 0.25)


def test_the_card_is_believed_unless_pixels_are_those_of_one_image(tmp_path):
    same = (500.0,) * 4
    raw = mosaic(tmp_path / "raw.fits")
    binned = mosaic(tmp_path / "binned.fits", levels=same, light=400.0)
    small = mosaic(tmp_path / "small.fits", (20, 20), levels=same)
    assert [len(open_frames(path)) for path in (raw, binned, small)] == [4, 1, 4]
    notes = describe_frame(str(binned), config()).notes
    assert any("RGGB by its cards, but its pixels do not alternate" in note for note in notes)
    assert len(open_frames(binned, Reading(bayer="RGGB"))) == 4
    assert len(open_frames(raw, Reading(bayer="none"))) == 1
    for path, card in ((tmp_path / "a.fits", "TRUE"), (tmp_path / "b.fits", "")):
        assert len(open_frames(mosaic(path, BAYERPAT=card))) == 1


def test_coloured_light_on_a_black_sky_tells_a_mosaic(tmp_path):
    path = mosaic(tmp_path / "raw.fits", (128, 128), levels=(0.0,) * 4)
    pixels = fits.getdata(path).copy()
    pixels[32:64, 32:64] += 300  # of some width, and twice as bright behind red
    pixels[32:64:2, 32:64:2] += 300
    fits.writeto(path, pixels, fits.getheader(path), overwrite=True)
    assert len(open_frames(path)) == 4


def test_what_each_filter_is_told_of_is_told_with_its_name(tmp_path, monkeypatch):
    def told_of(problem, prior):
        made = arithmetic(problem, prior)
        return replace(made, outcome=replace(made.outcome, kept_pixels=3))

    class Listener:
        def frame_started(self, *_): ...
        def fit_step(self, *_): ...
        def tile_done(self, record): ...

        def note(self, message):
            lines.append(message)

    lines = []
    monkeypatch.setattr(ways, "restore", told_of)
    source = mosaic(tmp_path / "raw.fits", (40, 40))
    restore_frame(str(source), tmp_path / "out.fits", config(), progress=Listener())
    for place in PLACES:
        name = f"{source}, HDU 0, plane {list(place)}: "
        assert sum("3 pixels are sharper than light" in line for line in lines if name in line) == 1


def test_lines_on_a_mosaic_in_zarr_begin_with_words(tmp_path):
    for name, levels in (("raw", LEVELS), ("binned", (500.0,) * 4)):
        path, group = mosaic(tmp_path / f"{name}.fits", levels=levels), tmp_path / f"{name}.zarr"
        convert(path, group)
        found = describe_frame(str(group), config())
        lines = (*found.notes, *found.science)
        assert any("RGGB" in line for line in lines)
        assert [line for line in lines if not line or line[0] in ":,"] == []


def test_a_mask_file_counts_pixels_of_the_whole_frame(tmp_path, monkeypatch):
    def flagging(problem, prior):
        flags = cut_inner(problem, problem.masked).astype(np.uint8)
        return replace(arithmetic(problem, prior), flags=flags)

    monkeypatch.setattr(ways, "restore", flagging)
    source, target = mosaic(tmp_path / "raw.fits"), tmp_path / "out.fits"
    mask = np.zeros((96, 96), np.uint8)
    mask[30, 10:50] = mask[61:63, 7] = 1
    mask[41, 40] = 1
    fits.writeto(tmp_path / "mask.fits", mask)
    given = {"task.name": "inpaint", "task.mask": str(tmp_path / "mask.fits")}
    restore_frame(str(source), target, config(**given))
    np.testing.assert_array_equal(fits.getdata(target, "DIP_FLAG"), mask)


@pytest.mark.parametrize(
    ("changed", "cards"),
    [
        (np.s_[::-1, ::-1], {"BAYERPAT": "BGGR"}),
        (np.s_[::-1], {"BAYERPAT": "GBRG"}),
        (np.s_[:, 1:], {"BAYERPAT": "GRBG"}),
        (np.s_[:, 1:], {"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 0}),
        (np.s_[3:], {"BAYERPAT": "RGGB", "BAYOFFX": 2, "BAYOFFY": -3}),
    ],
)
def test_exposures_are_laid_on_each_other_filter_by_filter(tmp_path, changed, cards):
    first = open_frames(mosaic(tmp_path / "a.fits"))
    pixels = fits.getdata(mosaic(tmp_path / "b.fits"))[changed].copy()
    pixels += np.random.default_rng(3).normal(0, 1, pixels.shape).astype(np.float32)
    other = tmp_path / "c.fits"
    fits.writeto(other, pixels, fits.Header(cards))
    asked = config(**{"task.name": "combine", "task.exposures": (str(other),)})
    (found,) = Exposures.of(asked, first).frames
    assert {image.plane_index for image in found} == set(PLACES)
    levels = [np.median(image.read(*ALL).science) for image in found]
    np.testing.assert_allclose(levels, LEVELS, atol=3)


def test_an_exposure_that_is_not_known_for_a_mosaic_is_called_so(tmp_path):
    raw = open_frames(mosaic(tmp_path / "a.fits"))
    fits.writeto(tmp_path / "b.fits", fits.getdata(mosaic(tmp_path / "c.fits", light=50.0)))
    asked = config(**{"task.name": "combine", "task.exposures": (str(tmp_path / "b.fits"),)})
    with pytest.raises(ExposureError, match=r"a\.fits is a raw mosaic .*b\.fits is none .*--bayer"):
        Exposures.of(asked, raw)


def test_exposures_behind_other_filters_are_refused(tmp_path):
    first = open_frames(mosaic(tmp_path / "a.fits"))
    other = str(mosaic(tmp_path / "b.fits", light=50.0, BAYERPAT="CMYG"))
    asked = {"task.name": "combine", "task.exposures": (other,)}
    with pytest.raises(ExposureError, match=r"filters CMYG, .*RGGB; .*--any-optics"):
        Exposures.of(config(**asked), first)
    (found,) = Exposures.of(config(**asked, **{"fit.any_optics": True}), first).frames
    assert [image.plane_index for image in found] == list(PLACES)


def test_exposures_whose_rows_are_told_to_go_another_way_are_refused(tmp_path):
    first = open_frames(mosaic(tmp_path / "a.fits", ROWORDER="TOP-DOWN"))
    same, other = (
        str(mosaic(tmp_path / f"{order}.fits", light=50.0, ROWORDER=order))
        for order in ("top-down", "BOTTOM-UP")
    )
    assert Exposures.of(config(**{"task.name": "combine", "task.exposures": (same,)}), first)
    asked = {"task.name": "combine", "task.exposures": (other,)}
    with pytest.raises(ExposureError, match=r"ROWORDER BOTTOM-UP, .*TOP-DOWN; .*--any-optics"):
        Exposures.of(config(**asked), first)
    assert Exposures.of(config(**asked, **{"fit.any_optics": True}), first)


def test_a_shifted_pattern_is_told_as_the_pixels_have_it_and_stays_in_the_product(tmp_path):
    cards = {"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": "0"}
    source, target = mosaic(tmp_path / "raw.fits", **cards), tmp_path / "out.fits"
    assert mosaic_of(open_frames(source)[0])[1] == "GRBG"
    assert mosaic_of(open_frames(source, Reading(bayer="RGGB"))[0])[1] == "RGGB"
    restore_frame(str(source), target, config())
    with fits.open(target) as made:
        assert made[0].header["XBAYROFF"] == 1
        assert made[0].header["DIPCFA"] == "GRBG"
    assert mosaic_of(open_frames(target)[0])[1] == "GRBG"
    for nonsense in ("left", 0.5, True):
        path = mosaic(tmp_path / f"{nonsense}.fits", BAYERPAT="RGGB", XBAYROFF=nonsense)
        assert mosaic_of(open_frames(path)[0])[1] == "RGGB"


def test_a_hole_behind_one_filter_leaves_no_other_filter_out(tmp_path):
    source, target = mosaic(tmp_path / "raw.fits"), tmp_path / "out.fits"
    mask = np.zeros((96, 96), np.uint8)
    given = {"task.name": "inpaint", "task.mask": str(tmp_path / "mask.fits")}
    fits.writeto(tmp_path / "mask.fits", mask)
    with pytest.raises(EmptyFrameError, match="nothing to fill"):
        restore_frame(str(source), target, config(**given))
    mask[:, 41] = 1
    fits.writeto(tmp_path / "mask.fits", mask, overwrite=True)
    report = restore_frame(str(source), target, config(**given))
    assert [note for note in report.notes if "left as it is" in note] == []
    with fits.open(target) as made:
        assert not made["DIP_FLAG"].data.any()
        assert np.isfinite(made["DIP_ERR"].data).all()


@pytest.mark.parametrize(
    "given",
    [
        {"task.name": "super-resolve", "task.fwhm_px": 2.0},
        {"task.name": "deconvolve", "task.fwhm_px": 3.0},
        {"task.guides": ("raw.fits",)},
    ],
)
def test_tasks_of_other_pixels_refuse_a_mosaic_and_say_what_to_do(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    source = mosaic(tmp_path / "raw.fits")
    with pytest.raises(FrameError, match=r"raw\.fits: a raw mosaic .*one colour, or --bayer none"):
        restore_frame(str(source), tmp_path / "out.fits", config(**given))
    assert not (tmp_path / "out.fits").exists()
    with pytest.raises(FrameError, match="one colour, or --bayer none"):
        describe_frame(str(source), config(**given))


def test_filters_are_asked_for_by_their_letters():
    for wrong in ("XYZW", "RGG", "rggb"):
        with pytest.raises(ConfigError, match=r"--bayer\).*need none, or the letters of four"):
            RunConfig().with_overrides(**{"reading.bayer": wrong})


def test_noise_planes_of_a_mosaic_lie_on_its_pixels(tmp_path):
    source, target = mosaic(tmp_path / "raw.fits"), tmp_path / "noise.fits"
    write_noise_planes(str(source), target, config())
    np.testing.assert_array_equal(fits.getdata(target), np.full((96, 96), SIGMA, np.float32))


def test_an_image_knows_its_mosaic_and_nothing_that_counts_its_pixels(tmp_path):
    path = mosaic(tmp_path / "raw.fits", CRPIX1=3.0, TRIMSEC="[1:96,1:96]", FILTER="L")
    image = open_frames(path)[1]
    assert {"TRIMSEC", "BAYERPAT"} & set(image.header) == set()
    assert image.header["CRPIX1"] == 1.5
    assert image.header["FILTER"] == "L"
    whole, pattern = mosaic_of(image)
    assert (whole.shape, whole.header["CRPIX1"], pattern) == ((96, 96), 3.0, "RGGB")
    np.testing.assert_array_equal(image.read(*ALL).science, whole.read(*ALL).science[0::2, 1::2])
    part = slice(5, 20), slice(7, 8)
    np.testing.assert_array_equal(image.read(*part).science, image.read(*ALL).science[part])
