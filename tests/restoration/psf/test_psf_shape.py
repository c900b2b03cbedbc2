"""A PSF between its pixels, and what stars of a scene look like through it."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.forward.gaussian_psf import gaussian_psf
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.psf.psf_shape import PsfShape
from dip_pipeline.restoration.psf.shown_in_scene import height_in_scene, in_scene
from dip_pipeline.restoration.stars.shown_stars import find_shown_stars
from dip_pipeline.restoration.stars.star_shape import StarShape

PLACES = [(0.0, 0.0), (0.5, 0.5), (0.3, -0.2), (-0.5, 0.0)]


def moffat(fwhm_px, beta=3.0, tilt=0.1):
    a = 4 * (2 ** (1 / beta) - 1) / fwhm_px**2
    return StarShape(a=a * 1.1, b=a * tilt, d=a / 1.1, beta=beta)


def psf_of(shape, reach_px=14):
    stamp = shape.stamp(reach_px)
    return stamp / stamp.sum()


def star_at(shape, row, col, side=61):
    rows, cols = np.indices((side, side), dtype=np.float64)
    return shape.at(rows - row, cols - col) / shape.stamp(14).sum()


@pytest.mark.parametrize("fwhm_px", [1.9, 2.2, 2.7, 4.0])
def test_a_star_through_a_psf_is_right_wherever_in_a_pixel_it_lies(fwhm_px):
    shape = moffat(fwhm_px)
    found = PsfShape.of(psf_of(shape))
    for down, across in PLACES:
        right = star_at(shape, 30 + down, 30 + across)
        drawn = found.drawn(right.shape, np.array([[1.0, 30 + down, 30 + across]]))
        assert np.abs(drawn - right)[18:43, 18:43].max() < 0.002 * right.max()


def test_what_no_profile_has_is_drawn_too():
    """Two stars side by side, taken for a PSF; its middle pixel is not its brightest."""
    core = moffat(2.4)
    psf = 0.8 * star_at(core, 12.2, 11.6, 25) + 0.2 * star_at(moffat(5.0), 14.0, 14.0, 25)
    psf /= psf.sum()
    found = PsfShape.of(psf)
    np.testing.assert_allclose(
        found.drawn((41, 41), np.array([[2.0, 20, 20]]))[8:33, 8:33], 2 * psf, atol=1e-6
    )
    moved = found.drawn((41, 41), np.array([[1.0, 20.5, 19.7]]))
    right = 0.8 * star_at(core, 20.7, 19.3, 41) + 0.2 * star_at(moffat(5.0), 22.5, 21.7, 41)
    assert np.abs(moved - right)[10:31, 10:31].max() < 0.02 * right.max()


def test_a_star_at_a_border_is_drawn_as_far_as_it_lies_inside():
    found = PsfShape.of(psf_of(moffat(2.5)))
    whole = found.drawn((60, 60), np.array([[1.0, 30.2, 29.7]]))
    for row, part in ((30.2 - 29, whole[29:]), (-20.0, np.zeros((31, 60)))):
        drawn = found.drawn((31, 60), np.array([[1.0, row, 29.7]]))
        np.testing.assert_allclose(drawn, part[:31], atol=1e-12)


def test_no_star_is_drawn_beyond_an_oblong_psf():
    psf = psf_of(moffat(2.4))[:, 8:-8]
    drawn = PsfShape.of(psf / psf.sum()).drawn((61, 61), np.array([[1.0, 30.0, 30.0]]))
    assert not drawn[:, :24].any()
    assert not drawn[:, 37:].any()
    assert drawn[18, 30] > 0
    np.testing.assert_allclose(drawn[16:45, 24:37], psf / psf.sum(), atol=1e-7)


def test_a_psf_that_no_profile_fits_has_none():
    assert PsfShape.of(gaussian_psf(14.0)) is None


@pytest.mark.parametrize(("factor", "fwhm_px"), [(1, 2.1), (1, 2.7), (2, 1.3)])
def test_stars_through_a_narrow_psf_leave_nothing_in_the_frame_that_they_are_taken_off(
    factor, fwhm_px
):
    """Seen by the kernel that turns a star of the scene into the PSF they would leave stripes."""
    shape = moffat(fwhm_px)
    psf = psf_of(shape.widened(factor) if factor > 1 else shape, 14 * factor)
    optics = Optics(factor, psf=psf.astype(np.float32))
    side = 64
    rows, cols = np.indices((side, side), dtype=np.float64)
    places = [(20.5, 20.5), (20.0, 44.3), (44.3, 20.0), (44.25, 44.75)]
    light = sum(3000.0 * shape.at(rows - row, cols - col) for row, col in places)
    sigma = np.ones_like(light)
    shown = find_shown_stars(light, sigma, np.ones_like(light, bool), shape)
    assert len(shown.places) == 4
    sharp = in_scene(shown, shape, optics)
    left = np.abs(sharp.light - light).max() / light.max()
    assert left < 0.01
    by_kernel = (
        scene_optics(optics).observe(torch.from_numpy(sharp.scene[0])[None, None])[0, 0].numpy()
    )
    if factor == 1 and fwhm_px < 2.5:
        assert np.abs(by_kernel - light).max() / light.max() > 2 * left


def test_a_star_of_a_scene_has_as_much_light_as_it_shows():
    shape = moffat(2.5)
    optics = Optics(1, psf=psf_of(shape).astype(np.float32))
    assert height_in_scene(shape, optics) == pytest.approx(
        shape.stamp(14).sum() / (2 * np.pi * (2 / 2.3548) ** 2), rel=1e-4
    )


@pytest.mark.parametrize("factor", [1, 2])
def test_the_error_of_fitted_stars_in_a_scene_is_that_of_their_heights_and_places(factor):
    """Over draws of the noise; in the middle of a star it is more than pixels alone tell."""
    shape = moffat(2.7)
    psf = psf_of(shape.widened(factor) if factor > 1 else shape, 14 * factor)
    optics = Optics(factor, psf=psf.astype(np.float32))
    rows, cols = np.indices((96, 96), dtype=np.float64)
    spots = [
        (row + 0.3, col - 0.2, 40.0 + row) for row in range(12, 90, 24) for col in (12, 36, 60)
    ]
    spots.append((14.1, 38.5, 50.0))  # beside another
    light = sum(height * shape.at(rows - row, cols - col) for row, col, height in spots)
    drawn, variance = [], []
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(light.shape)
        shown = find_shown_stars(
            light + noise, np.ones_like(light), np.ones_like(light, bool), shape
        )
        if shown is not None and len(shown.places) == len(spots):
            sharp = in_scene(shown, shape, optics)
            drawn.append(sharp.scene[0])
            variance.append(sharp.variance_in_scene())
    assert len(drawn) > 20
    true, told = np.var(drawn, axis=0), np.mean(variance, axis=0)
    cores = np.mean(drawn, axis=0) > 0.3 * np.median(np.max(drawn, axis=(1, 2)))
    assert 0.7 < np.median(true[cores] / told[cores]) < 1.4
    assert told[np.mean(drawn, axis=0) < 1e-6].max() < 1e-4
