"""Laws of `dip run --watch`: what is restored is as without it, and it ends."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.runs import ways
from tests.stand_in import arithmetic

TINY = ("--steps", "1", "--tile", "48", "--overlap", "8", "--threads-per-fit", "1", "-q")
WORKFLOW = """
[frames]
out = "restored"
[fit]
scope = "tile"
[workers]
executor = "inline"
device = "cpu"
"""


@pytest.fixture(autouse=True)
def night(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ways, "restore", arithmetic)
    Path("night").mkdir()
    Path("night.toml").write_text(WORKFLOW)
    yield
    close_files()


def put(number):
    pixels = np.random.default_rng(number).normal(100, 5, (40, 40)).astype(np.float32)
    frame = fits.PrimaryHDU(pixels)
    frame.header.update({"GAIN": 4.0, "RDNOISE": 1.0, "BUNIT": "adu", "FILTER": "r"})
    frame.header["DATE-OBS"] = f"2026-03-01T0{number}:00:00"
    frame.writeto(f"night/m13_{number}.fits")
    os.utime(f"night/m13_{number}.fits", (1e9, 1e9))


def watch(dip, *more):
    code, _, err = dip("run", "night.toml", *(more or ("night/",)), "--watch", "0.001", *TINY)
    return code, err


def summary():
    return json.loads(Path("restored/summary.json").read_text())


def test_frames_are_restored_as_without_it(dip):
    put(0)
    put(1)
    assert watch(dip) == (0, "")
    assert summary()["counts"] == {"restored": 2}
    kept = {path.name: path.read_bytes() for path in Path("restored").glob("*.fits")}
    assert sorted(kept) == ["m13_0_dip.fits", "m13_1_dip.fits"]
    assert dip("run", "night.toml", "night/", *TINY)[0] == 0
    assert summary()["counts"] == {"already done": 2}
    assert {path.name: path.read_bytes() for path in Path("restored").glob("*.fits")} == kept


def test_a_frame_that_was_alone_when_it_came_stays_as_it_is_when_its_night_has_a_prior(dip):
    words = WORKFLOW.replace('[fit]\nscope = "tile"', "[prior]\nshared = 'night'")
    Path("night.toml").write_text(words)
    put(0)
    assert watch(dip) == (0, "")
    assert summary()["frames"][0]["prior"] is None
    put(1)
    assert watch(dip) == (0, "")
    assert summary()["counts"] == {"already done": 1, "restored": 1}
    assert summary()["frames"][1]["prior"] is not None
    Path("night.toml").write_text(words.replace("[frames]", "[frames]\noverwrite = true"))
    assert watch(dip, "night/", "--seed", "5") == (0, "")
    assert summary()["counts"] == {"restored": 2}
    assert None not in {frame["prior"] for frame in summary()["frames"]}
    with fits.open("restored/m13_1_dip.fits") as hdus:
        assert "DIPPRIOR" in hdus[0].header


def test_of_two_frames_with_one_output_the_second_fails_and_no_other(dip):
    put(0)
    Path("night/m13_0.fit").write_bytes(Path("night/m13_0.fits").read_bytes())
    Path("night/m13_0.fits.gz").write_bytes(b"no gzip")
    for path in Path("night").iterdir():
        os.utime(path, (1e9, 1e9))
    code, err = watch(dip)
    assert code == 1
    assert "m13_0_dip.fits: is that of night/m13_0.fits; restore it by itself" in err
    assert summary()["counts"] == {"restored": 2, "failed": 1}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("night/",), "no frame came in 0.001 min"),
        (("night/*.fits",), "no frame came in 0.001 min"),
        (("tonight/",), "no frame came in 0.001 min"),
        ((), "no frames; give frames.inputs"),
    ],
)
def test_where_no_frame_comes_it_says_so_and_leaves_no_folder(dip, names, said):
    code, _, err = dip("run", "night.toml", *names, "--watch", "0.001", *TINY)
    assert code == 2
    assert said in err
    assert not Path("restored").exists()


def test_names_of_files_alone_are_told_to_find_no_other(dip):
    put(0)
    words = ("run", "night.toml", "night/m13_0.fits", "--watch", "0.001", *TINY[:-1])
    code, _, err = dip(*words)
    assert code == 0
    assert "no other frame will be found" in err
    for names in (("night/",), ("night/*.fits",)):
        _, _, err = dip("run", "night.toml", *names, "--watch", "0.001", *TINY[:-1])
        assert "no other frame" not in err
