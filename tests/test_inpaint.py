"""Laws of `dip inpaint` from file to file."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, EmptyFrameError, FrameError, OutputError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import read_provenance
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.cli.conftest import dip, log_as_it_was  # noqa: F401  (fixtures)
from tests.frames import layout_files as files
from tests.stand_in import QUICK, arithmetic

SHAPE = (48, 56)


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, "task.name": "inpaint", **more})


@pytest.fixture
def made(monkeypatch):
    """Problems that are restored, in order; a stand-in restores them."""
    problems = []

    def restore(problem, prior):
        problems.append(problem)
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", restore)
    return problems


def sky(folder, dtype="f4", *, saturated=()):
    rng = np.random.default_rng(7)
    science = rng.normal(200.0, 10.0, SHAPE)
    for place in saturated:
        science[place] = 5000.0
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 5.0, "SATURATE": 4000.0, "BUNIT": "adu"})
    path = folder / f"sky-{dtype}.fits"
    fits.PrimaryHDU(np.rint(science).astype(dtype), header).writeto(path)
    return path


def trail(folder, name="trail.fits", first=20):
    mask = np.zeros(SHAPE, np.uint8)
    mask[first : first + 8] = 1
    path = folder / name
    fits.PrimaryHDU(mask).writeto(path, overwrite=True)
    return path, mask > 0


def test_what_the_mask_hides_is_no_data_and_not_left_alone_as_saturated(tmp_path, made):
    mask, hidden = trail(tmp_path)
    source = sky(tmp_path, saturated=[(22, 5), (2, 5)])
    restore_frame(str(source), tmp_path / "out.fits", config(**{"task.mask": str(mask)}))
    problem = next(one for one in made if one.origin == (0, 0))
    rows, cols = problem.pixels.shape
    np.testing.assert_array_equal(problem.masked, hidden[:rows, :cols])
    assert np.argwhere(problem.saturated).tolist() == [[2, 5]]
    assert problem.options.keep_known


def test_another_mask_under_the_same_name_is_another_run(tmp_path, made):
    source, target = sky(tmp_path), tmp_path / "out.fits"
    mask, _ = trail(tmp_path)
    asked = config(**{"task.mask": str(mask)})
    assert restore_frame(str(source), target, asked).status == "restored"
    assert restore_frame(str(source), target, asked).status == "already done"
    moved = tmp_path / "moved.fits"
    moved.write_bytes(mask.read_bytes())
    again = config(**{"task.mask": str(moved)})
    assert restore_frame(str(source), target, again).status == "already done"
    trail(tmp_path, first=30)
    named = config(**{"task.mask": f"{mask}[0]"})
    for other in (asked, named):  # not "already done": what lies there is of another run
        with pytest.raises(OutputError, match="exists"):
            restore_frame(str(source), target, other)
        assert restore_frame(str(source), target, other, overwrite=True).status == "restored"


@pytest.mark.parametrize("ending", ["hides everything", "hides nothing", "missing"])
def test_a_mask_that_is_of_no_use_ends_the_run_before_it_begins(tmp_path, made, ending):
    source = sky(tmp_path)
    mask = tmp_path / "mask.fits"
    if ending != "missing":
        fits.PrimaryHDU(np.full(SHAPE, ending == "hides everything", np.uint8)).writeto(mask)
    words = {"hides everything": "hide every pixel", "hides nothing": "nothing to fill"}
    error = FrameError if ending == "missing" else EmptyFrameError
    with pytest.raises(error, match=words.get(ending, "no such file")):
        restore_frame(str(source), tmp_path / "o.fits", config(**{"task.mask": str(mask)}))
    assert not made
    assert sorted(path.name for path in tmp_path.iterdir() if path != mask) == [source.name]


def test_of_several_planes_those_without_a_hole_stay_as_they_are(tmp_path, made):
    source = files.hubble(tmp_path)
    with fits.open(source, mode="update") as hdus:
        hdus["DQ", 1].data[:] = 0
        shape = hdus["SCI", 2].data.shape
        hdus["DQ", 2].data[:] = 0
        hdus["DQ", 2].data[3, 4] = 4
        before = hdus["SCI", 1].data.copy()
    target = tmp_path / "out.fits"
    report = restore_frame(str(source), target, config())
    assert report.tiles == 1
    assert any("nothing to fill" in note for note in report.notes)
    assert {problem.pixels.shape for problem in made} == {shape}
    with fits.open(target) as hdus:
        np.testing.assert_array_equal(hdus["SCI", 1].data, before)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i4"])
def test_known_pixels_come_back_exactly_whatever_the_file_holds(tmp_path, monkeypatch, dtype):
    """Whole numbers come back as floats of the same value; tiles that overlap agree."""

    def keep(problem, prior):
        science = np.where(problem.masked, np.float32(1), problem.pixels)
        own = arithmetic(problem, prior)
        inner = np.ascontiguousarray(science[problem.inner])
        return type(own)(inner, own.error, own.flags, own.outcome)

    monkeypatch.setattr(ways, "restore", keep)
    source = sky(tmp_path, dtype)
    mask, hidden = trail(tmp_path)
    for name in ("out.fits", "out.fits.fz"):
        asked = config(**{"task.mask": str(mask), "tiles.size_px": 32})
        restore_frame(str(source), tmp_path / name, asked)
        with fits.open(tmp_path / name) as new, fits.open(source) as old:
            made = next(hdu.data for hdu in new if hdu.data is not None)
            assert made.dtype.newbyteorder("=") == np.float32
            np.testing.assert_array_equal(made[~hidden], old[0].data[~hidden])


def test_the_command_fills_a_trail_and_says_what_it_did(tmp_path, dip):  # noqa: F811
    source = sky(tmp_path)
    mask, hidden = trail(tmp_path)
    target = tmp_path / "filled.fits"
    options = ("--mask", mask, "--steps", 2, "--threads-per-fit", 1, "--device", "cpu")
    code, out, err = dip("inpaint", source, "-o", target, *options)
    assert code == 0, err
    assert "restored" in out
    assert f"{hidden.sum()} pixels filled, {hidden.mean():.2%} (flag 1)" in err
    with fits.open(target) as new, fits.open(source) as old:
        science = new[0].data
        assert science[~hidden].tobytes() == old[0].data[~hidden].tobytes()
        assert np.isfinite(science).all()
        assert np.isfinite(new["DIP_ERR"].data).all()
        assert (new["DIP_FLAG"].data[hidden] & PixelFlag.FILLED).all()
        assert not new["DIP_FLAG"].data[~hidden].any()
        assert new[0].header["DIPTASK"] == "inpaint"
        assert new[0].header["DIPRISK"] == 1.0
        assert "Inpainted" in str(new[0].header["HISTORY"])
    assert read_provenance(target) is not None
    assert verify_product(target, against=source).ok
    assert dip("inpaint", source, "-o", tmp_path / "no.fits")[0] != 0


def test_without_a_noise_law_textures_are_learned_from_the_picture_itself(tmp_path, dip):  # noqa: F811
    """Half of a woven picture missing: what is filled is nearer than the mean of neighbours."""
    rows, cols = np.indices((64, 72))
    truth = (100 + 40 * np.sin(1.9 * rows + 0.4 * cols)).astype("f4")
    hidden = np.random.default_rng(3).random(truth.shape) < 0.5
    source, mask = tmp_path / "weave.fits", tmp_path / "holes.fits"
    fits.PrimaryHDU(np.where(hidden, np.float32(0), truth)).writeto(source)
    fits.PrimaryHDU(hidden.astype(np.uint8)).writeto(mask)
    target = tmp_path / "filled.fits"
    options = ("--noise", "none", "--steps", 60, "--threads-per-fit", 1, "--device", "cpu")
    code, _, err = dip("inpaint", source, "-o", target, "--mask", mask, *options)
    assert code == 0, err
    with fits.open(target) as new:
        science = new[0].data
        np.testing.assert_array_equal(science[~hidden], truth[~hidden])
        assert np.sqrt(np.mean((science - truth)[hidden] ** 2)) < 0.5 * truth.std()
        assert np.isnan(new["DIP_ERR"].data).all()
        assert (new["DIP_FLAG"].data[hidden] & PixelFlag.FILLED).all()
        assert new[0].header["DIPSCOPE"] == "tile"
        assert new[0].header["DIPSTEPS"] == 60
    assert verify_product(target, against=source).ok


@pytest.mark.parametrize("more", [{"task.denoise_known": True}, {"fit.prior": "night.prior"}])
def test_without_a_noise_law_nothing_is_denoised(tmp_path, made, more):
    mask, _ = trail(tmp_path)
    asked = RunConfig().with_overrides(
        **{"task.name": "inpaint", "task.mask": str(mask), "noise.law": "none", **more}
    )
    with pytest.raises(ConfigError, match="--noise none"):
        restore_frame(str(sky(tmp_path)), tmp_path / "out.fits", asked)
    assert not made
