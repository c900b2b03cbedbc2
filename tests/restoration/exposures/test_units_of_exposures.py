"""Exposures of other noise, seeing and pixels: in the units and weights that theory gives them."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import ndimage

from dip_pipeline.restoration.exposures import combining
from dip_pipeline.restoration.exposures.combining import restore_combined
from dip_pipeline.restoration.exposures.epochs import with_twin
from dip_pipeline.restoration.exposures.lights import as_exposure, in_common_light
from dip_pipeline.restoration.noise.twinning import joined
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from tests.restoration.exposed import NOISE, SKY, Sky, exposed, with_exposure

NO_STARS = Sky(np.empty((0, 3)))


def test_others_are_averaged_by_their_noise_and_the_error_is_that_of_the_mean():
    """Inverse variances add up: of three exposures of other skies and depths."""
    scales = [(1.0, SKY), (1.0, SKY), (1.0, 4 * SKY), (0.5, SKY)]
    problem, _ = exposed(noise=False, sky=NO_STARS, scales=scales, factor=1)
    one = with_exposure(problem, 2, pixels=problem.exposures[1].pixels + np.float32(20.0))
    variances = [(level / 2 + 9) / scale**2 for scale, level in scales[1:]]
    error = sum(1 / each for each in variances) ** -0.5
    twin = with_twin(one).twin
    assert twin.error[10:-10, 10:-10] == pytest.approx(error, rel=0.02)
    mean = SKY + 20.0 * error**2 / variances[1]
    assert twin.pixels[10:-10, 10:-10] == pytest.approx(mean, abs=0.05)


def test_sharper_exposures_are_as_wide_as_the_frame_that_they_stand_beside():
    problem, _ = exposed(noise=False, sky=Sky(np.array([[24.0, 26.0, 9000.0]])), factor=1)
    sharp = problem.pixels.astype(np.float64)
    wide = ndimage.gaussian_filter(sharp - SKY, 1.0) + SKY
    asked = with_exposure(problem, 0, pixels=wide.astype(np.float32))
    for number in (1, 2, 3):
        still = {"pixels": problem.pixels, "shift_px": (0.0, 0.0), "wider_px2": -1.0}
        asked = with_exposure(asked, number, **still)
    missed = with_twin(asked).twin.pixels - wide
    assert np.abs(missed).max() < 0.02 * (wide.max() - SKY)
    assert np.abs(sharp - wide).max() > 0.3 * (wide.max() - SKY)


def test_each_exposure_has_its_own_seeing_and_correlation():
    problem, _ = exposed(noise=False, sky=NO_STARS, factor=1)
    hanging = replace(NOISE, correlation=NoiseKernel.from_neighbour(0.4, "given"))
    asked = with_exposure(with_exposure(problem, 1, noise=hanging), 2, wider_px2=1.0)
    asked = with_exposure(asked, 3, wider_px2=4.0, seeing=((0.7, 1.5), (0.3, 3.0)))
    lights = in_common_light([as_exposure(asked), *asked.exposures], SKY, 1.0)
    assert [each.seeing for each in lights] == [(), (), ((1.0, 1.0),), ((0.7, 1.5), (0.3, 3.0))]
    assert [each.root is None for each in lights] == [True, False, True, True]
    root = lights[1].root
    assert float((root[..., 1:, :] * root[..., :-1, :]).sum()) == pytest.approx(0.4, abs=1e-4)


def test_up_to_two_pixels_beside_what_they_do_not_agree_in_the_frame_alone_counts():
    """A Gaussian of s px leaves white noise a scatter of 1 / (2 pi^(1/2) s): four are too many."""
    shape = (48, 60)
    light = np.zeros(shape)
    light[20, 30] = 40.0
    off = light / np.hypot(1.0, 0.5)
    odd = np.zeros(shape, bool)
    for scale_px in (1.0, 2.0):
        scatter = 1 / (2 * np.pi**0.5 * scale_px)
        odd |= np.abs(ndimage.gaussian_filter(off, scale_px)) > 4.05 * scatter
    beside = ndimage.binary_dilation(odd, np.ones((5, 5)))
    assert odd.any()
    ones = torch.ones(1, 1, *shape)
    planes = torch.cat([torch.from_numpy(light).float()[None, None], ones, 0.5 * ones], dim=1)
    image, _, (share, *_) = joined(planes, 0 * ones, ones, ones, None)
    assert not share[0, 0].numpy()[beside].any()
    assert not image[0, 0].numpy()[beside].any()
    assert share[0, 0, 0, 0] == pytest.approx(0.8)


@pytest.mark.parametrize(("summed", "change"), [(True, 8.0), (False, 2.0)])
def test_figures_of_finer_pixels_are_told_in_those_of_the_frame(summed, change):
    """Four pixels of a brightness are one of the frame; of shared flux they add up to it."""
    problem, _ = exposed((24, 28), factor=2)
    problem = replace(problem, optics=replace(problem.optics, summed=summed))
    outcome = Outcome(3, StopReason.STEP_LIMIT, judged_pixels=400, flux_change=8.0)
    plane = np.ones((48, 56), np.float32)
    made = Restored(plane, 0.1 * plane, plane.astype(np.uint8), outcome)
    with mock.patch.object(combining, "restore", return_value=made):
        told = restore_combined(problem).outcome
    assert (told.judged_pixels, told.flux_change) == (100, change)
    assert len(told.exposures) == 4
