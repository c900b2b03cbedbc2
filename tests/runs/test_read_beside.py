"""Laws of what is read beside an input: whatever of it changes, a product is another one."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import open_frames
from dip_pipeline.runs.read_beside import digests_beside

SHAPE = (16, 20)


def write(path, value=1.0):
    path.parent.mkdir(exist_ok=True)
    fits.writeto(path, np.full(SHAPE, value, np.float32))
    return str(path)


def digests(source, **options):
    config = RunConfig().with_overrides(**options)
    frames = open_frames(source, config.frame_reading())
    return digests_beside(frames, Exposures.of(config, frames), config)


def changed(path):
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[3, 4] += 1


def test_nothing_beside_is_nothing(tmp_path):
    assert digests(write(tmp_path / "a.fits")) == {}


@pytest.mark.parametrize("folder", ["weights", "masks"])
def test_two_files_of_one_name_count_both(tmp_path, folder):
    source = write(tmp_path / "a.fits")
    planes = {name: write(tmp_path / name / "a.fits") for name in ("weights", "masks")}
    options = {"reading.error": f"sigma:{planes['weights']}", "reading.flags": planes["masks"]}
    before = digests(source, **options)
    assert set(before) == {"a.fits", "a.fits (2)"}
    changed(planes[folder])
    after = digests(source, **options)
    assert sum(before[name] != after[name] for name in before) == 1


@pytest.mark.parametrize("each", [False, True])
def test_a_mask_beside_a_further_exposure_counts(tmp_path, each):
    names = [write(tmp_path / f"{n}.fits", n) for n in range(3)]
    write(tmp_path / "2_mask.fits", 0.0)
    options = {"task.name": "combine", "task.each": each, "task.exposures": tuple(names[1:])}
    before = digests(names[0], **options)
    assert set(before) == {"exposure-1", "exposure-2", "exposure-2: 2_mask.fits"}
    changed(tmp_path / "2_mask.fits")
    after = digests(names[0], **options)
    assert [name for name in before if before[name] != after[name]] == ["exposure-2: 2_mask.fits"]


def test_a_mask_beside_a_guide_counts(tmp_path):
    source, guide = (write(tmp_path / name) for name in ("a.fits", "deep.fits"))
    write(tmp_path / "deep_mask.fits", 0.0)
    before = digests(source, **{"task.guides": (guide,)})
    assert set(before) == {"guide-1", "guide-1: deep_mask.fits"}
    changed(tmp_path / "deep_mask.fits")
    after = digests(source, **{"task.guides": (guide,)})
    assert before["guide-1"] == after["guide-1"]
    assert before != after


def test_folders_do_not_count(tmp_path):
    write(tmp_path / "here" / "a.fits")
    write(tmp_path / "here" / "a_mask.fits", 0.0)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    first, other = (digests(str(tmp_path / at / "a.fits")) for at in ("here", "there"))
    assert first == other
    assert set(first) == {"a_mask.fits"}
