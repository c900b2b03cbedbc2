"""Laws of tasks that restore a scene: PSFs, resuming, shards, repeating, workflows, refusals."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.batch.batch import Job
from dip_pipeline.batch.workflow import Workflow, run_workflow
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import Shard, open_pool
from dip_pipeline.errors import ConfigError, FrameError
from dip_pipeline.frames import open_frame, read_account, read_psf
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.pipeline import finish_run, restore_frame, scratch_of
from dip_pipeline.repeating import repeat_run
from dip_pipeline.runs import asked_run, ways
from dip_pipeline.runs.describing import describe_frame
from dip_pipeline.runs.place import Place
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate
from dip_pipeline.verifying import verify_product
from tests.stand_in import QUICK, spread_evenly
from tests.test_finer_products import SHAPE, config, layered, restore


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    yield
    close_files()


@pytest.fixture
def source(tmp_path):
    return layered(tmp_path / "in.fits")


def test_shards_and_a_finish_give_the_product_of_one_run(source, tmp_path):
    restore(source, tmp_path / "whole.fits", factor=3)
    target = tmp_path / "out.fits"
    asked = config(factor=3)
    with open_pool(asked.worker_options()) as pool:
        for number in (1, 2):
            place = Place(pool, shard=Shard.parse(f"{number}/2"))
            assert restore_frame(str(source), target, asked, place=place).status == "part done"
    finish_run(scratch_of(target))
    with fits.open(target) as one, fits.open(tmp_path / "whole.fits") as other:
        for name in ("SCI", "DIP_ERR", "DIP_FLAG"):
            assert one[name].data.tobytes() == other[name].data.tobytes()


def test_a_finished_product_is_done_and_another_factor_another_product(source, tmp_path):
    target = tmp_path / "out.fits"
    restore(source, target)
    assert restore(source, target).status == "already done"
    with pytest.raises(Exception, match="exists already"):
        restore(source, target, factor=3)


def test_a_tile_that_fails_is_copied_and_counted(source, tmp_path, monkeypatch):
    from dip_pipeline.errors import RestorationError

    def fail(problem, prior=None):
        if [part.start for part in problem.inner] == [0, 0]:
            raise RestorationError("no")
        return spread_evenly(problem, prior)

    monkeypatch.setattr(ways, "restore_scene", fail)
    target = tmp_path / "out.fits"
    assert restore(source, target).failed_tiles == 1
    with fits.open(target) as hdus:
        assert (hdus["DIP_FLAG"].data[:40, :40] & 4).all()
        assert not (hdus["DIP_FLAG"].data[100:, :] & 4).any()
        mean = hdus["SCI"].data[:40, :40].mean()
        assert mean == pytest.approx(500 / 4, rel=0.02)
    assert verify_product(target, str(source)).ok


def write_psf(path, kernel, **more):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(kernel, **more)]).writeto(path, overwrite=True)
    return str(path)


def box(rows=5, cols=5):
    return np.full((rows, cols), 1 / (rows * cols), "f4")


def test_the_content_of_a_psf_counts_and_not_its_name(source, tmp_path):
    target = tmp_path / "out.fits"
    psf = write_psf(tmp_path / "psf.fits", box())
    restore(source, target, **{"task.psf": psf})
    moved = write_psf(tmp_path / "moved.fits", box())
    assert restore(source, target, **{"task.psf": moved}).status == "already done"
    with pytest.raises(Exception, match="exists already"):
        restore(source, target, **{"task.psf": write_psf(tmp_path / "moved.fits", box(3, 3))})
    close_files()
    key = facts_of(read_account(target).document, "input")
    assert key["sha256"]


@pytest.mark.parametrize("doubted", [0, 7])
def test_pixels_that_no_light_explains_through_a_psf_are_counted_and_told(
    source, tmp_path, monkeypatch, caplog, doubted
):
    def doubtful(problem, prior=None):
        restored = spread_evenly(problem, prior)
        return replace(restored, outcome=replace(restored.outcome, doubted_pixels=doubted))

    monkeypatch.setattr(ways, "restore_scene", doubtful)
    for name, psf in (("sharp", write_psf(tmp_path / "psf.fits", box())), ("finer", None)):
        caplog.clear()
        target = tmp_path / f"{name}.fits"
        with caplog.at_level(logging.WARNING):
            restore(source, target, **({} if psf is None else {"task.psf": psf}))
        tiles = fits.getdata(target, "DIP_TILE")
        assert ("doubted_pixels" in tiles.names) is (psf is not None)
        count = doubted * len(tiles) if psf is not None else 0
        assert (f"around {count} pixels the scene is darker" in caplog.text) is (count > 0)
        assert ("no light looks like the frame" in caplog.text) is (count > 0)


def test_a_psf_that_is_replaced_as_a_run_begins_ends_it(source, tmp_path, monkeypatch):
    """Its pixels would be of one version, its sha256 of another: "already done", for ever."""
    psf, target = write_psf(tmp_path / "psf.fits", box()), tmp_path / "out.fits"
    real = asked_run.digests_beside

    def replaced(*arguments):
        write_psf(tmp_path / "new.fits", box(3, 3))
        (tmp_path / "new.fits").replace(tmp_path / "psf.fits")
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(asked_run, "digests_beside", replaced)
        with pytest.raises(FrameError, match=r"psf\.fits: changed while it was being read"):
            restore(source, target, **{"task.psf": psf})
    assert not target.exists()
    assert not scratch_of(target).exists()
    assert restore(source, target, **{"task.psf": psf}).status == "restored"


def test_a_run_with_a_psf_is_repeated_and_refused_once_the_psf_is_another(source, tmp_path):
    target, again = tmp_path / "out.fits", tmp_path / "again.fits"
    psf = write_psf(tmp_path / "psf.fits", box(), name="DET")
    restore(source, target, **{"task.psf": f"{psf}[DET]"})
    repeat_run(target, again)
    with fits.open(target) as one, fits.open(again) as other:
        assert one["SCI"].data.tobytes() == other["SCI"].data.tobytes()
        assert one["SCI"].header["DIPPSF"] == "psf.fits, HDU 1 (DET,1)"
    write_psf(tmp_path / "psf.fits", box(3, 3), name="DET")
    with pytest.raises(FrameError, match="made with other files beside its input: psf"):
        repeat_run(target, tmp_path / "third.fits")


def test_deconvolution_keeps_the_pixels_and_all_that_lies_on_them(source, tmp_path):
    target = tmp_path / "out.fits"
    asked = RunConfig().with_overrides(
        **QUICK, **{"task.name": "deconvolve", "task.fwhm_px": 2.0, "noise.sigma": 3.0}
    )
    restore_frame(str(source), target, asked)
    with fits.open(source) as old, fits.open(target) as new:
        assert [hdu.name for hdu in new][: len(old)] == [hdu.name for hdu in old]
        assert new["SCI"].data.shape == SHAPE
        assert new["SCI"].header["SATURATE"] == 50000
        assert new["SCI"].header["DIPPSF"] == "Gaussian, FWHM 2 px of the input"
        assert "Deconvolved by dip-pipeline" in str(new["SCI"].header["HISTORY"])
    assert verify_product(target, str(source)).ok


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (box() * 2, "the PSF sums to 2; 1 is needed, within 1%: take away what sky is left in it"),
        (box() * 0.9, "the PSF sums to 0.9; 1 is needed, within 1%: divide it by its sum"),
        (box(4, 5) * 1, "a PSF of 4 x 5 px; odd sides are needed"),
        (np.full((5, 5), np.nan, "f4"), "25 pixels of the PSF are not finite"),
        (np.zeros((3, 3), "f4"), "the PSF sums to 0"),
        (np.full((2, 3, 3), 1 / 18, "f4"), "3 axes; a PSF needs two"),
    ],
)
def test_a_psf_that_cannot_be_used_is_refused_in_one_line(source, tmp_path, kernel, said):
    psf = write_psf(tmp_path / "psf.fits", kernel)
    with pytest.raises(FrameError) as caught:
        restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    assert said in str(caught.value)
    assert "psf.fits, HDU 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_psf_that_is_not_there_or_too_large_is_refused_in_one_line(source, tmp_path):
    target = tmp_path / "out.fits"
    with pytest.raises(FrameError, match=r"no\.fits: no such file; --psf needs"):
        restore(source, target, **{"task.psf": str(tmp_path / "no.fits")})
    psf = write_psf(tmp_path / "psf.fits", box(101, 101))
    with pytest.raises(FrameError, match=r"psf\.fits: no image \[9\] for a PSF"):
        restore(source, target, **{"task.psf": f"{psf}[9]"})
    with pytest.raises(ConfigError, match="101 x 101 px of the result is too large for --tile 48"):
        restore(source, target, **{"task.psf": psf})
    with pytest.raises(ConfigError, match="is too large for --tile 48: at most 25 x 25"):
        restore(source, target, **{"task.fwhm_px": 20.0})
    small = tmp_path / "small.fits"
    fits.ImageHDU(np.random.default_rng(1).normal(9, 1, (32, 40)).astype("f4")).writeto(small)
    with pytest.raises(FrameError, match="too large for a frame of 32 x 40 px"):
        restore(small, target, **{"task.psf": psf, "tiles.size_px": 256})


def test_of_several_images_the_psf_has_to_be_named(source, tmp_path):
    path = tmp_path / "stpsf.fits"
    images = [fits.ImageHDU(box(side, side), name=name) for name, side in
              (("OVERSAMP", 5), ("DET_SAMP", 3))]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    target = tmp_path / "out.fits"
    with pytest.raises(FrameError, match=r"2 images; name .*\[1\] OVERSAMP 5 x 5, \[2\] DET_SAMP"):
        restore(source, target, **{"task.psf": str(path)})
    restore(source, target, **{"task.psf": f"{path}[det_samp]"})
    assert "DET_SAMP" in fits.getheader(target, "SCI")["DIPPSF"]


def test_the_first_image_is_primary_whatever_its_name(tmp_path):
    kernel = fits.PrimaryHDU(box(3, 3))
    kernel.header["EXTNAME"] = "MOFFAT"
    fits.HDUList([kernel, fits.ImageHDU(box(5, 5))]).writeto(tmp_path / "psf.fits")
    for name in ("primary", "moffat", "0"):
        assert read_psf(f"{tmp_path}/psf.fits[{name}]").kernel.shape == (3, 3)


def test_a_psf_off_its_middle_is_told(source, tmp_path, caplog):
    kernel = np.zeros((7, 9), "f4")
    kernel[2:5, 5:8] = 1 / 9
    psf = write_psf(tmp_path / "psf.fits", kernel)
    with caplog.at_level(logging.WARNING):
        restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    assert "centred +0.00 rows and +2.00 columns from its middle" in caplog.text


@pytest.mark.parametrize(("away_px", "warned"), [(0.02, False), (0.1, True)])
def test_a_psf_off_its_middle_by_a_part_of_a_pixel_is_told(tmp_path, caplog, away_px, warned):
    offsets = np.arange(-15.0, 16.0)
    kernel = np.multiply.outer(
        *(np.exp(-0.5 * ((offsets - away) / 1.4) ** 2) for away in (0.0, away_px))
    )
    kernel = kernel / kernel.sum() + np.random.default_rng(1).normal(0, 3e-5, kernel.shape)
    with caplog.at_level(logging.WARNING):
        read_psf(write_psf(tmp_path / "psf.fits", (kernel / kernel.sum()).astype("f4")))
    assert ("from its middle pixel" in caplog.text) is warned


@pytest.mark.parametrize(("scale", "warned"), [(0.1836, False), (0.3671, True)])
def test_a_psf_sampled_otherwise_than_the_result_is_told(tmp_path, caplog, scale, warned):
    """The frame's pixels are 0.367 arcsec wide, and those of the result half of that."""
    source = layered(tmp_path / "in.fits")
    psf = write_psf(tmp_path / "psf.fits", box(), header=fits.Header({"PIXELSCL": scale}))
    with caplog.at_level(logging.WARNING):
        restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    assert ("it should be sampled as these are" in caplog.text) is warned


@pytest.mark.parametrize(
    ("psf_card", "of_input"),
    [({"PIXSCALE": 0.2}, None), ({"SECPIX": 0.4}, True), ({"PIXELSCL": 0.3}, False)],
)
@pytest.mark.parametrize("frame_card", [{"PIXSCALE": 0.4}, {"SECPIX1": -0.4, "SECPIX2": 0.4}])
def test_cards_tell_that_a_psf_is_sampled_otherwise(
    tmp_path, caplog, frame_card, psf_card, of_input
):
    """A frame without world coordinates, of pixels 0.4 arcsec wide: those of x2 have 0.2."""
    pixels = np.random.default_rng(1).normal(500, 3, SHAPE).astype("f4")
    source = tmp_path / "in.fits"
    fits.PrimaryHDU(pixels, fits.Header({"BUNIT": "adu", **frame_card})).writeto(source)
    psf = write_psf(tmp_path / "psf.fits", box(), header=fits.Header(psf_card))
    with caplog.at_level(logging.WARNING):
        restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    told = [line for line in caplog.messages if "it should be sampled as these are" in line]
    assert len(told) == (of_input is not None)
    if told:
        assert "result 0.2:" in told[0]
        assert "dip psf --factor 2 measures such a one" in told[0]
        assert ("and is as the frame is" in told[0]) is of_input


@pytest.mark.parametrize("unit", ["mag", "mag/arcsec2", "dex(adu)"])
def test_a_psf_of_magnitudes_is_refused_whatever_it_sums_to(source, tmp_path, unit):
    for kernel in (box(), -2.5 * np.log10(box() / 2)):
        psf = write_psf(tmp_path / "psf.fits", kernel, header=fits.Header({"BUNIT": unit}))
        with pytest.raises(FrameError, match=r"psf\.fits, HDU 1: BUNIT '.*: a logarithm"):
            restore(source, tmp_path / "out.fits", **{"task.psf": psf})


def moffat(side=49, fwhm_px=5.4):
    rows, cols = np.mgrid[:side, :side] - side // 2
    radius = 2 * np.sqrt(2 ** (1 / 3) - 1) * np.hypot(rows, cols) / fwhm_px
    light = (1 + radius**2) ** -3.0
    return light / light.sum()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_psf_that_is_a_line_is_refused_for_what_it_is(source, tmp_path, axis, rows):
    """It has no width across, so no stars of a scene look like that, on pixels however fine."""
    kernel = np.zeros((rows, 49), "f4")
    kernel[rows // 2] = moffat()[24] / moffat()[24].sum()
    psf = write_psf(tmp_path / "psf.fits", kernel if axis == 0 else np.ascontiguousarray(kernel.T))
    line = "row" if axis == 0 else "column"
    with pytest.raises(FrameError, match=f"100% of the light of the PSF is in one {line}") as told:
        restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    assert "not a cut through it" in str(told.value)


@pytest.mark.parametrize(
    ("spoilt", "warned"),
    [
        (lambda kernel: kernel, False),
        (lambda kernel: kernel + np.random.default_rng(1).normal(0, 5e-5, kernel.shape), False),
        (lambda kernel: kernel - 3e-5, True),  # 7 % of the light
        (lambda kernel: np.where(np.arange(49) < 10, kernel - 1e-4, kernel), True),
        (lambda kernel: np.where(np.arange(49) < 10, kernel - 1e-5, kernel), False),
    ],
    ids=["right", "noise", "sky", "block", "faint block"],
)
def test_regions_below_zero_are_told_and_noise_is_not(tmp_path, caplog, spoilt, warned):
    kernel = spoilt(moffat())
    with caplog.at_level(logging.WARNING):
        read_psf(write_psf(tmp_path / "psf.fits", (kernel / kernel.sum()).astype("f4")))
    assert ("regions of the PSF are below zero, by" in caplog.text) is warned


def test_a_compressed_output_is_stored_as_finely_as_its_pixels_are_small(source, tmp_path):
    steps = []
    for name, factor in (("two", 2), ("four", 4)):
        restore(source, tmp_path / f"{name}.fits.fz", factor=factor)
        with fits.open(tmp_path / f"{name}.fits.fz") as hdus:
            steps.append(hdus["SCI"].header["DIPQSTEP"])
    assert steps[0] == pytest.approx(4 * steps[1])


def test_tiles_see_farther_by_as_much_as_the_psf_reaches(source, tmp_path, monkeypatch):
    """Beyond the frame's edges, too: nothing is known there, and nothing is given back."""
    seen = []

    def watch(problem, prior=None):
        seen.append(problem)
        return spread_evenly(problem, prior)

    monkeypatch.setattr(ways, "restore_scene", watch)
    psf = write_psf(tmp_path / "psf.fits", box(13, 5))
    restore(source, tmp_path / "out.fits", **{"task.psf": psf})
    first = seen[0]
    assert first.optics.factor == 2
    assert first.optics.psf.shape == (13, 5)
    rows, cols = 3, 1  # half of the PSF, in pixels of the frame
    assert first.pixels.shape == (rows + 64 + rows, cols + 48 + 16 + 3)
    assert first.inner == (slice(rows, rows + 48), slice(cols, cols + 48))
    assert first.origin == (-rows, -cols)
    beyond = np.ones(first.pixels.shape, bool)
    beyond[rows:-rows, cols:] = False
    assert first.masked[beyond].all()
    assert not first.masked[~beyond].all()


def test_a_run_that_was_stopped_goes_on_and_makes_no_tile_twice(source, tmp_path, monkeypatch):
    made = []

    def stopping(problem, prior=None):
        made.append(problem.seed)
        if len(made) == 3:
            raise KeyboardInterrupt
        return spread_evenly(problem, prior)

    restore(source, tmp_path / "whole.fits")
    monkeypatch.setattr(ways, "restore_scene", stopping)
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.fits")
    report = restore(source, tmp_path / "out.fits")
    assert report.found_done == 2
    assert len(made) == report.tiles + 1  # the one it was stopped in
    with fits.open(tmp_path / "out.fits") as one, fits.open(tmp_path / "whole.fits") as other:
        assert one["SCI"].data.tobytes() == other["SCI"].data.tobytes()


def test_show_tells_what_would_come_out(source):
    shown = describe_frame(str(source), config(factor=3, **{"task.fwhm_px": 2.0}))
    assert shown.result.startswith("192 rows x 240 columns, PSF: Gaussian, FWHM 2 px of the input")
    assert "finer pixels share the flux" in shown.result
    assert "HDU 2 (ERR)" in shown.result
    plain = describe_frame(str(source), RunConfig().with_overrides(**QUICK | {"noise.sigma": 3.0}))
    assert plain.result == ""
    # Blending and product hold 9 bytes a pixel, and there are 8 pixels more for each.
    assert shown.disk_bytes - plain.disk_bytes > 2 * 9 * 8 * SHAPE[0] * SHAPE[1]


def test_a_workflow_names_its_task(source, tmp_path):
    frames = f"[frames]\ninputs = ['{source}']\n"
    path = tmp_path / "work.toml"
    path.write_text(f"task = 'deconvolve'\n{frames}")
    assert Workflow.read(path).config.task.name == "deconvolve"
    with pytest.raises(ConfigError, match=r"work\.toml: deconvolve: no PSF to undo"):
        run_workflow(Workflow.read(path), [], tmp_path)
    path.write_text(f"{frames}[task]\nname = 'super-resolve'\n[prior]\nshared = 'night'\n")
    with pytest.raises(ConfigError, match="a prior of several frames denoises, and cannot super"):
        run_workflow(Workflow.read(path), [], tmp_path)
    path.write_text(f"{frames}[task]\nname = 'super-resolve'\nfactor = 3\n")
    workflow = Workflow.read(path)
    quick = workflow.config.with_overrides(**QUICK | {"noise.sigma": 3.0})
    job = Job(str(source), tmp_path / "out.fits")
    assert run_workflow(replace(workflow, config=quick), [job], tmp_path).exit_code == 0
    assert open_frame(tmp_path / "out.fits").shape == (192, 240)


@pytest.mark.slow
def test_a_scene_does_not_depend_on_the_executor(tmp_path, monkeypatch):
    """With networks, for a stand-in does not reach other processes."""
    monkeypatch.undo()
    sim = simulate(SceneOptions(kind="crowded", shape=(64, 72), seed=4), DetectorOptions())
    path = tmp_path / "sky.fits"
    fits.PrimaryHDU(sim.observed_dn.astype(np.float32)).writeto(path)
    asked = {"task.name": "super-resolve", "task.fwhm_px": 1.8, "fit.steps": 1, "noise.sigma": 4.0}
    asked |= {"tiles.size_px": 48, "tiles.overlap_px": 8, "workers.threads_per_fit": 1}
    planes = []
    for executor in ("inline", "local"):
        target = tmp_path / f"{executor}.fits"
        quick = RunConfig().with_overrides(**asked | {"workers.executor": executor})
        restore_frame(str(path), target, quick)
        with fits.open(target) as hdus:
            planes.append([hdus[name].data.tobytes() for name in (0, "DIP_ERR", "DIP_FLAG")])
        assert verify_product(target, str(path)).ok
    assert planes[0] == planes[1]
