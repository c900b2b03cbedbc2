"""Laws of a product that is there already: it is left alone, and what it was made with is told."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.account.earlier_product import told_differences
from dip_pipeline.errors import OutputError
from dip_pipeline.pipeline import restore_frame, scratch_of
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.runs import restoring, ways, work
from dip_pipeline.runs.work import restore_tile
from tests.stand_in import any_prior, arithmetic, planes
from tests.test_pipeline import quick


@pytest.fixture(autouse=True)
def _standing_in(monkeypatch):
    """Cheap arithmetic for what networks do."""
    monkeypatch.setattr(ways, "fit_prior", any_prior)
    monkeypatch.setattr(ways, "restore", arithmetic)


@pytest.fixture
def made(tmp_path):
    """Give a frame and its product."""
    source, target = tmp_path / "m13.fits", tmp_path / "m13_dip.fits"
    pixels = np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32)
    fits.writeto(source, pixels, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN"}))
    restore_frame(str(source), target, quick())
    return source, target


def refusal(source, target, **options):
    before = target.read_bytes()
    with pytest.raises(OutputError, match=r"exists already; .* --overwrite ") as told:
        restore_frame(str(source), target, quick(**options))
    assert target.read_bytes() == before
    return str(told.value)


def test_options_that_differ_are_named_with_both_values(made):
    told = refusal(*made, **{"fit.steps": 6, "noise.gain_e_per_dn": 3.0})
    assert told.endswith(
        "; it was made with another fit.steps (4, now 6), noise.gain_e_per_dn (none, now 3.0)"
    )


def test_another_input_is_named(made):
    source, target = made
    with fits.open(source, mode="update") as hdus:
        hdus[0].data[3, 3] += 1
    assert refusal(source, target).endswith("; it was made with another content of the input")


def test_of_a_file_that_is_no_product_nothing_is_told(made):
    source, target = made
    target.write_bytes(source.read_bytes())
    assert refusal(source, target).endswith("(in a workflow: frames.overwrite = true)")


def test_a_long_list_is_cut():
    made = {"configuration": {f"k{number}": 0 for number in range(9)}}
    wanted = {"configuration": {f"k{number}": 1 for number in range(9)}}
    told = told_differences(made, wanted)
    assert "k5 (0, now 1), and 3 more" in told
    assert "k6" not in told


def test_files_beside_go_by_their_names():
    made = {"companions": {"mask": "a", "psf": "b"}, "prior": ""}
    wanted = {"companions": {"mask": "c", "guide": "d"}, "prior": "e"}
    assert told_differences(made, wanted) == (
        "; it was made with another guide, mask, psf, prior file"
    )


def test_a_file_beside_is_named_where_there_was_none_before():
    alone, beside = {"prior": ""}, {"companions": {"mask": "a"}, "prior": ""}
    said = "; it was made with another mask"
    assert [told_differences(alone, beside), told_differences(beside, alone)] == [said, said]


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".zarr"])
def test_a_damaged_product_is_not_done(tmp_path, suffix):
    source, target = tmp_path / "m13.fits", tmp_path / f"m13_dip{suffix}"
    fits.writeto(source, np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32))
    options = {"noise.sigma": 5.0}
    restore_frame(str(source), target, quick(**options))
    assert restore_frame(str(source), target, quick(**options)).status == "already done"
    file = target / "science/c/0/0" if suffix == ".zarr" else target
    content = gzip.decompress(file.read_bytes()) if suffix == ".fits.gz" else file.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2 if suffix == ".zarr" else 5000] ^= 1
    file.write_bytes(gzip.compress(changed) if suffix == ".fits.gz" else changed)
    with pytest.raises(OutputError, match=r"made by this very run; .*; give --overwrite"):
        restore_frame(str(source), target, quick(**options))
    again = restore_frame(str(source), target, quick(**options), overwrite=True)
    assert again.status == "restored"


def test_a_cut_product_is_told_to_be_cut(made):
    source, target = made
    for content, why in ((target.read_bytes()[:9000], "truncated: HDU 0"), (b"mine", "not a FITS")):
        target.write_bytes(content)
        told = refusal(source, target)
        assert f"it cannot be read whole: {why}" in told
        assert "get a complete copy" not in told  # that is for inputs
        assert "frames.list" not in told


def test_of_several_planes_what_is_done_is_told_as_it_was(tmp_path, monkeypatch):
    """Not the residual noise of the first plane, which its card tells."""

    def judged(problem, prior=None):
        made = arithmetic(problem, prior)
        risk = float(np.var(problem.pixels)) / 1000
        return replace(made, outcome=replace(made.outcome, risk=risk, judged_pixels=100))

    monkeypatch.setattr(ways, "restore", judged)
    rng = np.random.default_rng(3)
    chips = [rng.normal(100, sigma, (64, 64)).astype(np.float32) for sigma in (5.0, 9.0)]
    source, target = tmp_path / "chips.fits", tmp_path / "out.fits"
    hdus = [fits.ImageHDU(chip, name="SCI", ver=ver) for ver, chip in enumerate(chips, start=1)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(source)
    options = quick(**{"noise.sigma": 5.0})
    first = restore_frame(str(source), target, options)
    again = restore_frame(str(source), target, options)
    assert again.status == "already done"
    assert again.risk == pytest.approx(first.risk, abs=1e-5)
    assert again.risk_error == pytest.approx(first.risk_error, abs=1e-5)
    assert again.risk != pytest.approx(fits.getheader(target, 1)["DIPRISK"], abs=1e-3)


def test_with_overwrite_a_whole_product_of_this_run_is_left_alone(made, monkeypatch):
    """So that a night that is made again goes on where it was interrupted."""
    source, target = made
    before = target.stat().st_ino, target.stat().st_mtime_ns
    report = restore_frame(str(source), target, quick(), overwrite=True)
    assert report.status == "already done"
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == before
    report = restore_frame(str(source), target, quick(**{"fit.seed": 5}), overwrite=True)
    assert report.status == "restored"


def _with(reason, index):
    """Copy one tile for a reason."""

    def restored(task):
        if task.tile.index != index:
            return restore_tile(task)
        problem = work.problem_of(task)
        return work._publish(task, problem, work._unchanged(problem, reason), seconds=0.0)

    return restored


def test_tiles_whose_workers_died_are_restored_by_the_same_command(tmp_path, monkeypatch):
    source, target, whole = (tmp_path / name for name in ("a.fits", "a_dip.fits", "whole.fits"))
    pixels = np.random.default_rng(1).normal(100, 5, (96, 112)).astype(np.float32)
    fits.writeto(source, pixels, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN"}))
    restore_frame(str(source), whole, quick())
    with monkeypatch.context() as patched:
        patched.setattr(restoring, "restore_tile", _with(StopReason.WORKER_LOST, 1))
        for _ in range(2):  # as long as they die
            report = restore_frame(str(source), target, quick())
            assert (report.status, report.failed_tiles) == ("restored", 1)
    again = restore_frame(str(source), target, quick())
    assert (again.status, again.failed_tiles) == ("restored", 0)
    assert again.found_done == again.tiles - 1
    assert planes(target) == planes(whole)
    assert restore_frame(str(source), target, quick()).status == "already done"
    assert not scratch_of(target).exists()


def test_tiles_that_diverged_are_made_again_only_where_that_is_asked_for(
    tmp_path, monkeypatch, caplog
):
    source, target = tmp_path / "a.fits", tmp_path / "a_dip.fits"
    pixels = np.random.default_rng(1).normal(100, 5, (96, 112)).astype(np.float32)
    fits.writeto(source, pixels, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN"}))
    with monkeypatch.context() as patched:
        patched.setattr(restoring, "restore_tile", _with(StopReason.DIVERGED, 1))
        report = restore_frame(str(source), target, quick())
    assert (
        report.failure
        == "the fit diverged: check the noise model, give more --steps or another --seed"
    )
    assert report.failure in caplog.text
    assert not scratch_of(target).exists()
    report = restore_frame(str(source), target, quick())
    assert (report.status, report.failed_tiles) == ("already done", 1)
    report = restore_frame(str(source), target, quick(), overwrite=True)
    assert (report.status, report.failed_tiles) == ("restored", 0)
