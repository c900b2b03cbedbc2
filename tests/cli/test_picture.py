"""Laws of `dip picture`: a picture of every restored image, none of what is no product."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from matplotlib import pyplot

from dip_pipeline import picturing
from dip_pipeline.config import RunConfig
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from tests.cli.test_each import write
from tests.stand_in import QUICK, arithmetic, spread_evenly

CONFIG = RunConfig().with_overrides(**QUICK | {"noise.law": "auto"})


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    yield
    close_files()


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(2)
    chips = [
        fits.ImageHDU(rng.normal(100, 7.35, (64, 80)).astype("f4"), name="SCI", ver=ver)
        for ver in (1, 2)
    ]
    for chip in chips:
        chip.header.update({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "adu"})
    flags = fits.ImageHDU(np.zeros((64, 80), "u1"), name="DQ")
    flags.data[30, 40] = 1
    fits.HDUList([fits.PrimaryHDU(), *chips, flags]).writeto(tmp_path / "in.fits")
    return tmp_path / "in.fits"


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn of each image."""
    seen = []
    real = picturing.panel

    def keep(evidence, **options):
        seen.append((evidence, options))
        return real(evidence, **options)

    monkeypatch.setattr(picturing, "panel", keep)
    return seen


@pytest.mark.parametrize("suffix", ["fits", "fits.gz", "fits.fz", "zarr"])
def test_before_after_and_what_was_taken_away_are_drawn(dip, source, tmp_path, drawn, suffix):
    product = tmp_path / f"out.{suffix}"
    restore_frame(f"{source}[SCI,1]", product, CONFIG)
    code, out, err = dip("picture", product, "-o", tmp_path / "pictures")
    assert (code, err) == (0, "")
    assert out == f"{product} -> {tmp_path / 'pictures' / 'out.png'}\n"
    assert pyplot.imread(tmp_path / "pictures" / "out.png").shape[2] == 4
    ((evidence, options),) = drawn
    np.testing.assert_array_equal(evidence.observed, fits.getdata(source, "SCI", 1))
    assert evidence.masked[30, 40]
    level = np.median(evidence.restored)
    assert np.median(evidence.sigma) == pytest.approx((level / 2 + 4) ** 0.5, rel=0.01)
    assert (options["unit"], options["with_residual"]) == ("adu", True)
    assert options["title"].startswith(f"{product.name}")


def test_of_several_images_each_has_a_picture(dip, source, tmp_path, drawn):
    restore_frame(str(source), tmp_path / "out.fits", CONFIG)
    assert dip("picture", tmp_path / "out.fits")[0] == 0
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == ["out_001.png", "out_002.png"]
    for number, (evidence, options) in enumerate(drawn, start=1):
        np.testing.assert_array_equal(evidence.observed, fits.getdata(source, "SCI", number))
        assert f"(SCI,{number})" in options["title"]


@pytest.fixture
def cube(tmp_path):
    """A restored cube of nine planes, each of a sky of its own."""
    rng = np.random.default_rng(3)
    planes = rng.normal(100, 7.35, (9, 32, 40)) + 50 * np.arange(1, 10)[:, None, None]
    cards = fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "adu"})
    fits.PrimaryHDU(planes.astype("f4"), cards).writeto(tmp_path / "cube.fits")
    restore_frame(str(tmp_path / "cube.fits"), tmp_path / "out.fits", CONFIG)
    return tmp_path / "out.fits"


@pytest.fixture
def sketched(monkeypatch):
    """What would be drawn of each image, without the time that it takes."""
    seen = []
    monkeypatch.setattr(picturing, "panel", lambda evidence, **_: seen.append(evidence))
    monkeypatch.setattr(picturing, "save_figure", lambda _, path: path.touch())
    return seen


def numbers(folder):
    return [int(path.stem.removeprefix("out_")) for path in sorted(folder.glob("*.png"))]


def test_of_a_cube_a_few_planes_are_drawn_evenly_chosen(dip, cube, tmp_path, sketched):
    """Each of the 3600 of a MUSE cube was."""
    code, out, err = dip("picture", cube)
    assert (code, err) == (0, "")
    assert numbers(tmp_path) == [1, 3, 4, 6, 7, 9]
    told = out.splitlines()[-1]
    assert told == f"{cube}: 3 of 9 planes left out: --plane N draws one, --all each"
    skies = [np.median(evidence.observed) for evidence in sketched]
    assert skies == pytest.approx([100 + 50 * n for n in numbers(tmp_path)], rel=0.02)


def test_the_planes_that_are_asked_for_are_drawn(dip, cube, tmp_path, sketched):
    code, out, _ = dip("picture", cube, "--plane", 9, "--plane", 2, "--plane", 9)
    assert code == 0
    assert numbers(tmp_path) == [2, 9]
    assert "left out" not in out
    code, out, _ = dip("picture", cube, "--all", "--overwrite")
    assert numbers(tmp_path) == list(range(1, 10))
    assert "left out" not in out
    code, _, err = dip("picture", cube, "--plane", 10, "-o", tmp_path / "none")
    assert code == 1
    assert f"{cube}: has no plane 10; it holds 9, counted from 1" in err
    assert not numbers(tmp_path / "none")
    assert dip("picture", cube, "--plane", 1, "--all")[0] == 2


def test_pixels_of_the_input_are_cut_up_where_the_product_is_finer(dip, source, tmp_path, drawn):
    finer = CONFIG.with_overrides(**{"task.name": "super-resolve", "task.factor": 2})
    restore_frame(f"{source}[SCI,1]", tmp_path / "out.fits", finer)
    assert dip("picture", tmp_path / "out.fits")[0] == 0
    ((evidence, options),) = drawn
    assert evidence.observed.shape == evidence.restored.shape == (128, 160)
    assert np.nanmedian(evidence.observed) == pytest.approx(25, rel=0.1)  # a quarter of the light
    assert options["with_residual"] is False  # what moves there is light


def test_brightness_is_that_of_the_input_on_finer_pixels(dip, source, tmp_path, drawn, monkeypatch):
    """Around a sky of zero both have medians of nothing but noise, which told it before."""

    def denoised(problem, prior=None):
        restored = spread_evenly(problem, prior)
        return replace(restored, science=restored.science * np.float32(0.2))

    monkeypatch.setattr(ways, "restore_scene", denoised)
    with fits.open(source, mode="update") as hdus:
        for chip in hdus[1:3]:
            chip.data -= 100
            chip.header["BUNIT"] = "MJy/sr"
    asked = {"task.name": "super-resolve", "task.factor": 2, "noise.sigma": 7.35}
    restore_frame(f"{source}[SCI,1]", tmp_path / "out.fits", CONFIG.with_overrides(**asked))
    assert dip("picture", tmp_path / "out.fits")[0] == 0
    ((evidence, _),) = drawn
    brightness = fits.getdata(source, "SCI", 1)
    np.testing.assert_array_equal(evidence.observed[::2, ::2], brightness)
    assert np.nanmedian(evidence.sigma) == pytest.approx(7.35)


def test_what_cannot_be_drawn_is_one_line_and_does_not_stop_the_next(dip, source, tmp_path):
    product = tmp_path / "out.fits"
    restore_frame(f"{source}[SCI,1]", product, CONFIG)
    code, _, err = dip("picture", source, product)
    assert code == 1
    assert "not a product of dip" in err
    assert (tmp_path / "out.png").exists()
    code, _, err = dip("picture", product)
    assert code == 1
    assert "exists already" in err
    assert "workflow" not in err  # where its key would be of no use
    assert dip("picture", product, "--overwrite")[0] == 0
    moved = tmp_path / "elsewhere.fits"
    shutil.move(source, moved)
    code, _, err = dip("picture", product, "--overwrite")
    assert code == 1
    assert "say with --input where it is now" in err
    assert dip("picture", product, "--overwrite", "--input", moved)[0] == 0
    with fits.open(moved, mode="update") as hdus:
        hdus[1].data[3, 3] += 1
    code, _, err = dip("picture", product, "--overwrite", "--input", moved)
    assert code == 1
    assert "is not the file" in err


def test_a_name_of_a_picture_is_no_folder_to_be_made(dip, tmp_path):
    code, _, err = dip("picture", tmp_path / "out.fits", "-o", tmp_path / "m13.png")
    assert code == 2
    assert "m13.png: is no folder; pictures are named OUT.png" in err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_drawn_with_what_can_be_written(source, tmp_path, drawn):
    """As every name beyond ASCII is where the locale is C."""
    product = tmp_path / os.fsdecode(b"n\xffb.fits")
    restore_frame(f"{source}[SCI,1]", product, CONFIG)
    (picture,) = picturing.draw_product(product, tmp_path).files
    assert picture.is_file()
    ((_, options),) = drawn
    assert options["title"].startswith("n\ufffdb.fits")


def test_of_an_exposure_at_its_own_epoch_is_drawn_what_was_taken_away(
    dip, tmp_path, drawn, monkeypatch
):
    monkeypatch.setattr(ways, "restore_epoch", arithmetic)
    sources = [str(write(tmp_path, number)) for number in (0, 1)]
    each = {"task.name": "combine", "task.each": True, "task.exposures": (sources[1],)}
    restore_frame(sources[0], tmp_path / "out.fits", CONFIG.with_overrides(**each))
    assert dip("picture", tmp_path / "out.fits")[0] == 0
    ((_, options),) = drawn
    assert options["with_residual"] is True
