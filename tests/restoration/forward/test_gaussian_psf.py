"""Laws of the Gaussian PSF: light is kept, and a pixel takes its part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.restoration.forward.gaussian_psf import FWHM_OF_SIGMA, fwhm_of_peak, gaussian_psf

law = settings(deadline=None, max_examples=40)


@law
@given(st.floats(0.3, 20))
def test_a_gaussian_keeps_light_and_centre_and_has_the_width_of_its_own_and_of_a_pixel(fwhm_px):
    kernel = gaussian_psf(fwhm_px)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1].T, atol=1e-15)
    assert kernel.argmax() == kernel.size // 2
    places = np.arange(len(kernel)) - len(kernel) // 2
    variance = (kernel.sum(axis=0) * places**2).sum()
    if fwhm_px > 1.5:  # sampled well enough for the sum to be the integral
        wanted = (fwhm_px / FWHM_OF_SIGMA) ** 2 + 1 / 12
        assert variance == pytest.approx(wanted, rel=5e-3)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_coarse_pixels_of_a_fine_star_are_those_of_a_coarse_star(factor):
    """Integrated over fine pixels, then over coarse ones: once over coarse ones. Odd factors have
    a fine pixel in the middle of a coarse one."""
    fine, coarse = gaussian_psf(1.8 * factor), gaussian_psf(1.8)
    side = 13 * factor
    scene = np.zeros((side, side))
    first = side // 2 - len(fine) // 2
    scene[first : first + len(fine), first : first + len(fine)] = fine
    seen = scene.reshape(13, factor, 13, factor).sum(axis=(1, 3))
    assert seen.sum() == pytest.approx(1)
    if factor % 2:
        reach = len(coarse) // 2
        middle = slice(6 - reach, 7 + reach)
        np.testing.assert_allclose(seen[middle, middle], coarse, atol=2e-4)


@pytest.mark.parametrize("fwhm_px", [0.7, 1.3, 2.0, 3.4])
def test_the_brightest_pixel_tells_the_width_of_a_gaussian(fwhm_px):
    assert fwhm_of_peak(gaussian_psf(fwhm_px).max()) == pytest.approx(fwhm_px, rel=1e-3)
