"""The way to an observation and back: operators, kernels, interpolation that keeps flux."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from torch.nn.functional import avg_pool2d

from dip_pipeline.restoration.forward import interpolation
from dip_pipeline.restoration.forward.interpolation import refine
from dip_pipeline.restoration.forward.optics import DecimationKind, Optics
from dip_pipeline.restoration.forward.scene_optics import (
    remaining_kernel,
    scene_optics,
    wiener_kernel,
)
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.simulate import MoffatPsf


def moffat(fwhm_px, reach=12, stretch=1.0):
    offsets = np.arange(-reach, reach + 1.0)
    density = MoffatPsf(fwhm_px).density(offsets[:, None], stretch * offsets[None, :])
    return (density / density.sum()).astype(np.float32)


def target():
    offsets = np.arange(-12, 13.0)
    profile = np.exp(-0.5 * (offsets / TARGET_SIGMA_PX) ** 2)
    star = np.outer(profile, profile)
    return star / star.sum()


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("decimation", list(DecimationKind))
@pytest.mark.parametrize("psf", [None, moffat(3.0, stretch=1.3)])
@pytest.mark.parametrize("turned", [(0, False), (3, True)])
def test_the_data_term_has_its_adjoint_for_every_optics(factor, decimation, psf, turned):
    optics = scene_optics(Optics(factor, psf, decimation), turned[0], flip=turned[1])
    scene, seen = draw(1, 1, 1, 24 * factor, 28 * factor), draw(2, 1, 1, 24, 28)
    there = (optics.observe(scene) * seen).sum()
    back = (scene * optics.operator.adjoint(seen)).sum()
    torch.testing.assert_close(there, back)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("psf", [None, moffat(3.0)])
def test_an_even_sky_looks_even_and_its_brightness_is_kept(factor, psf):
    optics = scene_optics(Optics(factor, psf))
    sky = torch.full((1, 1, 20 * factor, 20 * factor), 7.0, dtype=torch.float64)
    torch.testing.assert_close(optics.observe(sky), torch.full((1, 1, 20, 20), 7.0).double())


def test_a_turned_scene_is_seen_as_the_turned_observation():
    optics = Optics(2, moffat(4.0, stretch=1.5))
    scene = draw(3, 1, 1, 64, 64)
    seen = torch.rot90(scene_optics(optics).observe(scene).flip(-1), 1, (-2, -1))
    turned = scene_optics(optics, 1, flip=True).observe(torch.rot90(scene.flip(-1), 1, (-2, -1)))
    torch.testing.assert_close(seen[..., 8:-8, 8:-8], turned[..., 8:-8, 8:-8])


@pytest.mark.parametrize("fwhm_px", [3.0, 3.5, 5.0])
def test_the_target_seen_through_what_remains_is_the_psf(fwhm_px):
    psf = moffat(fwhm_px)
    seen = fftconvolve(target(), remaining_kernel(psf), mode="same")
    assert np.abs(seen - psf).max() < 0.01 * psf.max()


def test_nothing_is_left_to_undo_of_a_psf_as_narrow_as_the_target():
    kernel = remaining_kernel(target())
    assert kernel[12, 12] > 0.9
    assert kernel.sum() == pytest.approx(1)


def test_a_wiener_filter_undoes_its_kernel_the_more_the_less_noise_there_is():
    kernel = remaining_kernel(moffat(3.5))
    star = np.pad(target(), 30)
    seen = fftconvolve(star, kernel, mode="same")
    filters = [wiener_kernel(kernel, share) for share in (1e-4, 2e-3, 1e-2)]
    back = [fftconvolve(seen, one, mode="same") for one in filters]
    left = [np.abs(image - star).max() / star.max() for image in (*back, seen)]
    assert left == sorted(left)
    assert left[0] < 0.1  # not nothing: a filter ends where its kernel's light does
    assert left[-1] > 0.4


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(6, 20), st.integers(6, 20), st.integers(0, 99))
def test_every_coarse_pixel_keeps_its_flux_when_it_is_cut_finer(factor, rows, cols, seed):
    coarse = draw(seed, 2, 3, rows, cols)
    torch.testing.assert_close(avg_pool2d(refine(coarse, factor), factor), coarse)


def test_planes_too_large_for_a_matrix_are_cut_finer_alike(monkeypatch):
    coarse = draw(1, 1, 2, 30, 25)
    by_matrix = refine(coarse, 3)
    monkeypatch.setattr(interpolation, "_MATRIX_PX", 8)
    torch.testing.assert_close(refine(coarse, 3), by_matrix)


def test_a_cubic_scene_is_found_again_from_the_means_over_its_pixels():
    edges = np.linspace(-1, 1, 41)
    primitive = edges**4 - 2 * edges**3 + edges
    fine = torch.from_numpy(np.diff(primitive))[None, None, None, :].repeat(1, 1, 20, 1)
    found = refine(avg_pool2d(fine, 2), 2)
    torch.testing.assert_close(found[..., 10:-10], fine[..., 10:-10])
