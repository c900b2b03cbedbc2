"""Laws of the tiles of a frame: none is made twice, none is taken that is not this run's.

The restoration itself is a stand-in: a tile's pixels follow from its problem by arithmetic alone.
"""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory, faults
from dip_pipeline.errors import OutputError
from dip_pipeline.pipeline import restore_frame, scratch_of
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from dip_pipeline.runs import ways
from tests.stand_in import QUICK, arithmetic, planes


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "in.fits"
    science = np.random.default_rng(3).normal(100, 3, (96, 112)).astype(np.float32)
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN", "OBSERVER": "Herschel"})
    fits.PrimaryHDU(science, header).writeto(path)
    return path


@pytest.fixture
def made(monkeypatch):
    """Origins of the tiles that are restored, in order."""
    origins = []

    def restore(problem, prior):
        origins.append(problem.origin)
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", restore)
    return origins


def leave_scratch(frame, target, monkeypatch, tiles=9, **options):
    """Run until so many tiles are done."""

    class Stop:
        def frame_started(self, source, tiles, found_done): ...
        def note(self, message): ...

        def tile_done(self, record):
            if record["tile"] == tiles - 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_frame(str(frame), target, config(**options), progress=Stop())


def test_a_header_that_changes_no_pixel_keeps_the_tiles(frame, made, tmp_path, monkeypatch, caplog):
    target = tmp_path / "out.fits"
    leave_scratch(frame, target, monkeypatch, tiles=4)
    with fits.open(frame, mode="update") as hdus:
        hdus[0].header["OBSERVER"] = "Caroline Herschel"
    made.clear()
    report = restore_frame(str(frame), target, config())
    assert (report.found_done, len(made)) == (4, report.tiles - 4)
    assert "4 tiles kept" in caplog.text
    again = tmp_path / "again.fits"
    restore_frame(str(frame), again, config())
    assert planes(again) == planes(target)
    assert not scratch_of(target).exists()


@pytest.mark.parametrize(
    "changed", [{"fit.seed": 1}, {"fit.flux_scale_px": 1.0}, {"noise.gain_e_per_dn": 3.0}]
)
def test_what_changes_pixels_keeps_none_and_says_why(frame, made, tmp_path, monkeypatch, changed):
    target, notes = tmp_path / "out.fits", []
    leave_scratch(frame, target, monkeypatch, tiles=4)

    class Notes:
        def frame_started(self, source, tiles, found_done): ...
        def tile_done(self, record): ...
        def note(self, message):
            notes.append(message)

    report = restore_frame(str(frame), target, config(**changed), progress=Notes())
    assert report.found_done == 0
    (name,) = changed
    assert any("begun anew" in note and name.split(".")[1] in note for note in notes)


def test_a_changed_pixel_costs_its_own_tiles_alone(frame, made, tmp_path, monkeypatch):
    target = tmp_path / "out.fits"
    leave_scratch(frame, target, monkeypatch, tiles=9)
    with fits.open(frame, mode="update") as hdus:
        hdus[0].data[0, 0] += 1
    made.clear()
    report = restore_frame(str(frame), target, config())
    assert report.tiles == 9
    assert made == [(0, 0)]


def test_where_a_number_of_the_noise_was_found_decides_no_pixel(frame, made, tmp_path, monkeypatch):
    target = tmp_path / "out.fits"
    leave_scratch(frame, target, monkeypatch, tiles=9)
    report = restore_frame(str(frame), target, config(**{"noise.gain_e_per_dn": 2.0}))
    assert report.found_done == 9


@pytest.mark.parametrize("damage", ["bit", "torn", "gone"])
def test_a_tile_that_is_damaged_when_it_is_blended_is_made_anew(
    frame, made, tmp_path, monkeypatch, caplog, damage
):
    undisturbed, target = tmp_path / "undisturbed.fits", tmp_path / "out.fits"
    restore_frame(str(frame), undisturbed, config())
    made.clear()
    real = RunDirectory.tell

    def tell(self, doing, **facts):
        real(self, doing, **facts)
        if doing != "blend":
            return
        victim = sorted(self.tiles.folder.glob("*.tile"))[4]
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 4
        victim.write_bytes(content if damage == "bit" else content[:-7])
        if damage == "gone":
            victim.unlink()

    monkeypatch.setattr(RunDirectory, "tell", tell)
    restore_frame(str(frame), target, config())
    assert planes(target) == planes(undisturbed)
    assert len(made) == 10
    assert "tile 4" in caplog.text


@pytest.mark.parametrize("reason", [StopReason.DIVERGED, StopReason.SCENE_DIVERGED])
def test_a_tile_whose_fit_diverges_is_tried_with_other_seeds(
    frame, tmp_path, monkeypatch, caplog, reason
):
    tried = []

    def restore(problem, prior):
        tried.append((problem.origin, problem.seed))
        restored = arithmetic(problem, prior)
        if problem.origin != (0, 0) or sum(origin == (0, 0) for origin, _ in tried) == 3:
            return restored
        failed = Outcome(steps=0, stop_reason=reason, failed=True)
        return Restored(restored.science, restored.error, restored.flags, failed)

    monkeypatch.setattr(ways, "restore", restore)
    report = restore_frame(str(frame), tmp_path / "out.fits", config())
    assert report.ok
    assert "1 of 9 tiles fitted again with another seed" in caplog.text
    seeds = [seed for origin, seed in tried if origin == (0, 0)]
    assert len(set(seeds)) == len(seeds) == 3
    assert len(tried) == report.tiles + 2


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_when_there_is_room(
    frame, made, tmp_path, monkeypatch
):
    undisturbed, target = tmp_path / "undisturbed.fits", tmp_path / "out.fits"
    restore_frame(str(frame), undisturbed, config())
    for fault in ("before publish:5:full", "before link:3:full", "during blend:2:full"):
        faults.forget()
        monkeypatch.setenv(faults.VARIABLE, fault)
        with pytest.raises(OutputError, match=r"disk full .*bytes") as caught:
            restore_frame(str(frame), target, config())
        assert "\n" not in str(caught.value)
        assert not target.exists()
    monkeypatch.delenv(faults.VARIABLE)
    restore_frame(str(frame), target, config())
    assert planes(target) == planes(undisturbed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fits", "out.fits", "undisturbed.fits"]
