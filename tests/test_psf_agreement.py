"""A PSF that is wider than the stars of the frame is warned of; the right one never is."""

import logging

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.planning import settle_frame
from dip_pipeline.psf_agreement import warn_of_psf
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene, observe
from dip_pipeline.task_optics import AskedOptics


def told(tmp_path, caplog, *, stars_px, psf_px, task="deconvolve", kind="crowded", seed=2):
    options = SceneOptions(
        kind, shape=(160, 160), seed=seed, psf=MoffatPsf(stars_px), saturated_star=False
    )
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    header = fits.Header([fits.Card(*card) for card in frame.header_cards()])
    path = tmp_path / "frame.fits"
    fits.writeto(path, frame.observed_dn.astype(np.float32), header)
    config = RunConfig().with_overrides(**{"task.name": task, "task.fwhm_px": psf_px})
    settled, noise = settle_frame(open_frame(path), config)
    with caplog.at_level(logging.WARNING):
        warn_of_psf(settled, noise, AskedOptics.of(config))
    return [line for line in caplog.messages if "its stars are" in line]


@pytest.mark.parametrize("task", ["deconvolve", "super-resolve"])
def test_a_psf_wider_than_the_stars_is_told_with_both_widths(tmp_path, caplog, task):
    (line,) = told(tmp_path, caplog, stars_px=1.8, psf_px=3.6, task=task)
    assert "FWHM" in line
    assert "Gaussian, FWHM 3.6 px" in line
    assert "give the PSF of these stars" in line


@pytest.mark.parametrize("kind", ["crowded", "galaxies", "nebula"])
@pytest.mark.parametrize("psf_px", [1.2, 1.8])
def test_the_right_psf_and_a_narrower_one_are_not(tmp_path, caplog, kind, psf_px):
    assert told(tmp_path, caplog, stars_px=1.8, psf_px=psf_px, kind=kind) == []
