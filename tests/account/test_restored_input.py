"""A result given as an input: told, refused where its noise would count, its photons known."""

import logging

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ExposureError, FrameError
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import identities, open_frame, open_frames
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.runs.describing import describe_frame
from tests.stand_in import QUICK, arithmetic

CONFIG = RunConfig().with_overrides(**QUICK, **{"noise.sigma": 3.0})
INPAINT = CONFIG.with_overrides(**{"task.name": "inpaint"})
SUFFIXES = ["fits", "fits.fz", "zarr"]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", arithmetic)
    yield
    close_files()


@pytest.fixture
def frames(tmp_path):
    """Two exposures; each has a bad pixel in its middle, so that a filled one differs there."""
    paths = []
    for number in range(2):
        pixels = np.random.default_rng(number).normal(100, 3, (64, 80)).astype("f4")
        pixels[32, 40] = np.nan
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]
        fits.HDUList(hdus).writeto(tmp_path / f"{number}.fits")
        paths.append(tmp_path / f"{number}.fits")
    return paths


def exposures(*paths):
    names = tuple(str(path) for path in paths)
    task = {"task.name": "combine", "task.exposures": names[1:]}
    return Exposures.of(CONFIG.with_overrides(**task), open_frames(names[0]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_result_as_an_input_is_warned_of_and_refused_where_nothing_is_guessed(
    frames, tmp_path, caplog, suffix
):
    whole = np.nan_to_num(fits.getdata(frames[0]), nan=100.0)
    fits.writeto(frames[0], whole, overwrite=True)
    once = tmp_path / f"once.{suffix}"
    with caplog.at_level(logging.WARNING):
        restore_frame(str(frames[0]), once, CONFIG)
        assert "a result of dip" not in caplog.text
        restore_frame(str(once), tmp_path / "twice.fits", CONFIG)
    (told,) = [line for line in caplog.messages if "a result of dip (denoise)" in line]
    assert told.endswith("better give the frame that it was made of")
    for path, told in ((once, True), (frames[0], False)):
        assert ("a result of dip" in " ".join(describe_frame(str(path), CONFIG).notes)) is told
    strict = CONFIG.with_overrides(**{"reading.strict": True, "noise.pedestal_dn": 0.0})
    with pytest.raises(FrameError, match=r"a result of dip \(denoise\).*; give the frame"):
        restore_frame(str(once), tmp_path / "thrice.fits", strict)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_result_is_no_exposure_neither_the_first_nor_another(frames, tmp_path, suffix):
    result = tmp_path / f"result.{suffix}"
    restore_frame(str(frames[0]), result, CONFIG)
    for order in ([result, frames[1]], [frames[1], result]):
        with pytest.raises(ExposureError, match=r"a result of dip \(denoise\).*; combine the"):
            exposures(*order)


def test_filled_holes_leave_a_frame_observed_unless_the_rest_was_restored_too(frames, tmp_path):
    filled, restored = tmp_path / "filled.fits", tmp_path / "restored.fits"
    restore_frame(str(frames[0]), filled, INPAINT)
    both = INPAINT.with_overrides(**{"task.denoise_known": True})
    restore_frame(str(frames[0]), restored, both)
    assert inferred_by(open_frame(filled)) == ""
    assert inferred_by(open_frame(restored)) == "inpaint"
    assert len(exposures(filled, frames[1]).frames) == 1
    with pytest.raises(ExposureError, match="a result of dip"):
        exposures(restored, frames[1])


@pytest.mark.parametrize("suffix", ["fits", "fits.fz"])  # a Zarr group names no HDU
def test_a_filled_frame_is_the_exposure_that_it_was_made_of(frames, tmp_path, suffix):
    filled = tmp_path / f"filled.{suffix}"
    restore_frame(str(frames[0]), filled, INPAINT)
    assert set(identities(open_frame(filled))) & set(identities(open_frame(frames[0])))
    with pytest.raises(ExposureError, match="the same exposure as"):
        exposures(frames[0], filled)


def test_one_restored_chip_says_nothing_of_the_others(tmp_path):
    rng = np.random.default_rng(5)
    chips = [
        fits.ImageHDU(rng.normal(9, 3, (64, 80)).astype("f4"), name="SCI", ver=v) for v in (1, 2)
    ]
    source, product = tmp_path / "two.fits", tmp_path / "one.fits"
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(source)
    restore_frame(f"{source}[SCI,1]", product, CONFIG)
    told = [inferred_by(open_frame(f"{product}[SCI,{version}]")) for version in (1, 2)]
    assert told == ["denoise", ""]


@pytest.mark.parametrize("suffix", ["fits", "fits.fz"])
def test_of_a_result_of_several_images_none_is_restored_alone(tmp_path, suffix):
    """Error and flags of the other would be lost, and it would stay as it is."""
    rng = np.random.default_rng(3)
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        pixels = rng.normal(100, 3, (64, 80)).astype("f4")
        hdus.append(fits.ImageHDU(pixels, name="SCI", ver=version))
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    once = tmp_path / f"once.{suffix}"
    restore_frame(str(tmp_path / "in.fits"), once, CONFIG)
    with pytest.raises(FrameError, match="holds 2 restored images"):
        restore_frame(f"{once}[SCI,2]", tmp_path / "twice.fits", CONFIG)
    assert not (tmp_path / "twice.fits").exists()
    assert restore_frame(str(once), tmp_path / "all.fits", CONFIG).ok
    assert restore_frame(f"{tmp_path}/in.fits[SCI,2]", tmp_path / "one.fits", CONFIG).ok
