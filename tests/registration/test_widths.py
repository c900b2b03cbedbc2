"""One measure of width for stars and for PSFs: the frame's own PSF is as wide as its stars."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip_pipeline.registration import psf_fwhm_px, see, star_fwhm_px
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene, observe


def seen_through(fwhm_px, kind="crowded", side_px=192, seed=2):
    psf = MoffatPsf(fwhm_px)
    options = SceneOptions(kind, shape=(side_px, side_px), seed=seed, psf=psf, saturated_star=False)
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    return see("x", frame.observed_dn.astype(np.float32), frame.masked)


def moffat(fwhm_px, reach_px=60):
    side = np.arange(-reach_px, reach_px + 1.0)
    kernel = MoffatPsf(fwhm_px).density(side[:, None], side[None])
    return kernel / kernel.sum()


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("fwhm_px", [1.8, 2.4, 3.5])
def test_the_psf_of_the_stars_is_as_wide_as_they_are(fwhm_px, factor):
    seen = seen_through(fwhm_px)
    found = psf_fwhm_px(moffat(fwhm_px * factor), factor, seen)
    assert star_fwhm_px(seen) == pytest.approx(found, rel=0.06)


def test_a_wider_psf_is_wider_and_a_narrower_one_narrower():
    seen = seen_through(2.4)
    stars = star_fwhm_px(seen)
    assert stars < 0.8 * psf_fwhm_px(moffat(3.6), 1, seen)
    assert stars > 1.2 * psf_fwhm_px(moffat(1.6), 1, seen)


def test_where_stars_are_few_nothing_is_said():
    empty = np.random.default_rng(1).normal(100, 3, (96, 96)).astype(np.float32)
    assert np.isnan(star_fwhm_px(see("x", empty, np.zeros(empty.shape, bool))))


def crowded_light(side_px=700):
    """Squares full of peaks that touch at their corners: one source of thousands of parts."""
    rng = np.random.default_rng(1)
    peaks = gaussian_filter((rng.random((side_px, side_px)) < 0.03).astype(float), 1.2)
    squares = (np.indices(peaks.shape) // 20).sum(axis=0) % 2
    light = (peaks * 6e4 + 400) * np.where(squares, 1, 0.02)
    return (100 + light + rng.normal(0, 1, peaks.shape)).astype(np.float32)


def chequered(side_px=900):
    """More bright pixels than sep stacks by itself."""
    squares = (np.indices((side_px, side_px)) // 7).sum(axis=0) % 2
    return np.where(squares, 100, 1e5).astype(np.float32)


@pytest.mark.parametrize("draw", [crowded_light, chequered])
def test_light_everywhere_is_looked_at_without_complaint(draw):
    light = draw()
    seen = see("x", light, np.zeros(light.shape, bool))
    assert len(seen.stars) < 400
