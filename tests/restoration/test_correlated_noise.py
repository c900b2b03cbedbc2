"""Laws of correlated noise: draws have it, and risks estimated with such draws are true."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dip_pipeline.restoration.delivering.asking import ask_networks
from dip_pipeline.restoration.delivering.delivery import finished, judged
from dip_pipeline.restoration.delivering.restraint import NO_RESTRAINT
from dip_pipeline.restoration.delivering.uncertainty import mean_risk
from dip_pipeline.restoration.fits.fit_code import SPLIT_STRENGTH, judged_split
from dip_pipeline.restoration.fits.fit_image import _Jury
from dip_pipeline.restoration.noise.correlation import draw_noise, root_of, same_sided
from dip_pipeline.restoration.noise.laws import split_along
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate

KERNEL = NoiseKernel.from_neighbour(0.4, "test")
ALONG_ROWS = NoiseKernel.from_correlation(np.array([[0, 0, 0], [0.4, 1, 0.4], [0, 0, 0]]), "test")


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def correlations(planes):
    """Variance, and the correlation with the next pixel of the column and of the row."""
    plane = planes.numpy()
    column = np.mean(plane[..., 1:, :] * plane[..., :-1, :])
    row = np.mean(plane[..., 1:] * plane[..., :-1])
    return np.mean(plane**2), column, row


@pytest.mark.parametrize("kernel", [KERNEL, ALONG_ROWS], ids=["round", "along rows"])
@pytest.mark.parametrize("shape", [(1, 1, 600, 500), (40, 1, 64, 64), (400, 1, 5, 40)])
def test_draws_have_unit_variance_and_the_correlation_of_the_kernel(kernel, shape):
    drawn = draw_noise(torch.zeros(shape), generator(), root_of(kernel))
    assert drawn.shape == shape
    variance, *neighbours = correlations(drawn)
    assert variance == pytest.approx(1.0, abs=0.03)
    assert neighbours == pytest.approx(kernel.neighbours, abs=0.03)


def test_borders_are_like_the_rest():
    drawn = draw_noise(torch.zeros(20_000, 1, 4, 4), generator(), root_of(KERNEL))
    variances = drawn.var(dim=0)
    torch.testing.assert_close(variances, torch.ones_like(variances), atol=0.06, rtol=0)


def test_white_draws_are_what_the_generator_gives():
    like = torch.zeros(3, 1, 17, 9)
    assert root_of(NoiseKernel()) is None
    assert torch.equal(
        draw_noise(like, generator()), torch.randn(like.shape, generator=generator())
    )


def test_kernels_of_several_frames_fit_into_one_batch():
    wide = NoiseKernel.from_neighbour(0.4, "test")
    narrow, white = root_of(ALONG_ROWS), root_of(NoiseKernel())
    roots = same_sided([root_of(wide), narrow, white])
    drawn = draw_noise(torch.zeros(3, 1, 400, 400), generator(), torch.cat(roots))
    for plane, kernel in zip(drawn, (wide, ALONG_ROWS, NoiseKernel()), strict=True):
        assert correlations(plane)[1:] == pytest.approx(kernel.neighbours, abs=0.015)
    assert same_sided([white, white]) is None


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_split_copies_are_independent_in_every_pair_of_neighbours(strength):
    root = root_of(KERNEL)
    like = torch.zeros(1, 1, 1200, 1200)
    observed = 3 * draw_noise(like, generator(), root)
    first, second = split_along(observed, 3 * draw_noise(like, generator(2), root), strength)
    for shift in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2)):
        moved = torch.roll(second, shift, (-2, -1))
        correlation = np.corrcoef(first.ravel(), moved.ravel())[0, 1]
        assert abs(correlation) < 6 / 1200


def test_copies_split_with_white_noise_would_not_be():
    """So the bound above is a test with teeth."""
    like = torch.zeros(1, 1, 600, 600)
    observed = draw_noise(like, generator(), root_of(KERNEL))
    first, second = split_along(observed, draw_noise(like, generator(2)), 1.0)
    moved = torch.roll(second, 1, -1)
    assert np.corrcoef(first.ravel(), moved.ravel())[0, 1] > 0.15


class Smoother(nn.Module):
    """A network that answers with the smoothed copy of what it sees: linear, and not fitted."""

    multiple = 16

    def forward(self, features):
        answer = torch.zeros(len(features), ANSWER_CHANNELS, *features.shape[-2:])
        answer[:, 1] = 40.0
        return answer


@pytest.fixture(scope="module")
def field(problem, law):
    """A region of a field with correlated noise, and the noiseless truth in its units."""
    detector = DetectorOptions(
        neighbour_correlation=0.4, defects=False, quantised=False, saturation_dn=1e9
    )
    scene = SceneOptions("crowded", shape=(384, 384), seed=2, saturated_star=False)
    shot = simulate(scene, detector)
    noise = replace(law.sensor(), correlation=KERNEL)
    asked = problem(shot.observed_dn, noise, options=FitOptions(steps=1, flux_scale_px=0.0))
    scale = measure_sky([asked])
    truth = torch.from_numpy((shot.truth_dn - scale.level) / scale.sigma)[None, None]
    return asked, scale, truth


def estimated_and_true(field, kernel, flux_scale_px):
    asked, scale, truth = field
    region = prepare(replace(asked, noise=replace(asked.noise, correlation=kernel)), scale)
    options = FitOptions(steps=1, flux_scale_px=flux_scale_px)
    ones = [torch.ones_like(region.sigma)]
    answers = ask_networks([Smoother()], ones, region, options, seed=3)
    delivery = judged(finished(answers, region, NO_RESTRAINT, options), region)
    # In bright light the noise of a pixel depends on the pixel: there the estimate is rough.
    faint = (truth < 5).float()
    risk, error, _ = mean_risk(delivery.squared_error, faint)
    wrong = ((delivery.delivered + region.stars - truth) / delivery.sigma)[faint > 0]
    return risk, error * kernel.widening, float((wrong**2).mean())


@pytest.mark.parametrize("flux_scale_px", [0.0, 2.0])
def test_the_estimated_mean_square_error_is_the_true_one(field, flux_scale_px):
    risk, error, true = estimated_and_true(field, KERNEL, flux_scale_px)
    assert risk == pytest.approx(true, abs=4 * error)
    assert error < 0.01
    assert true > 0.1


def test_with_white_probes_it_is_not(field):
    risk, error, true = estimated_and_true(field, NoiseKernel(), 0.0)
    assert abs(risk - true) > 10 * error


@pytest.mark.parametrize("kernel", [KERNEL, NoiseKernel()], ids=["correlated", "white"])
def test_the_stated_error_of_the_risk_is_its_scatter(kernel):
    root = root_of(kernel)
    risks, errors = [], []
    for seed in range(150):
        squares = draw_noise(torch.zeros(1, 1, 64, 64), generator(seed), root) ** 2
        risk, error, _ = mean_risk(squares, torch.ones_like(squares))
        risks.append(risk)
        errors.append(error * kernel.widening)
    assert np.std(risks) == pytest.approx(np.mean(errors), rel=0.25)


def test_crops_turn_the_kernel_with_the_pixels(problem, law):
    noise = replace(law.gaussian(1.0), correlation=ALONG_ROWS)
    asked = problem(np.random.default_rng(1).normal(0, 1, (96, 96)), noise)
    region = prepare(asked, measure_sky([asked]))
    batch = CropSource([region], [region.known], np.random.default_rng(2)).draw(24)
    drawn = draw_noise(batch.observed, generator(), batch.noise.root)
    found = np.sort([correlations(plane)[1:] for plane in drawn], axis=1)
    assert found.mean(axis=0) == pytest.approx((0.0, 0.4), abs=0.02)
    upright = sum(correlations(plane)[1] > 0.2 for plane in drawn)
    assert 4 <= upright <= 20  # quarter turns, and none or half ones


def test_crops_of_white_frames_carry_no_kernel(problem, law):
    asked = problem(np.random.default_rng(1).normal(0, 1, (96, 96)), law.gaussian(1.0))
    region = prepare(asked, measure_sky([asked]))
    source = CropSource([region], [region.known], np.random.default_rng(2))
    assert source.draw(2).noise.root is None


def test_the_judged_split_of_overlapping_regions_is_the_same(problem, law):
    noise = replace(law.gaussian(1.0), correlation=KERNEL)
    pixels = np.random.default_rng(3).normal(0, 1, (128, 160))
    whole, part = problem(pixels, noise), problem(pixels[20:100, 70:], noise, origin=(20, 70))
    scale = measure_sky([whole])
    copies = [judged_split(prepare(asked, scale), 4) for asked in (whole, part)]
    for of_whole, of_part in zip(*copies, strict=True):
        torch.testing.assert_close(of_whole[..., 20:100, 70:], of_part)
    drawn = (copies[0][0] - copies[0][1]) / (SPLIT_STRENGTH + 1 / SPLIT_STRENGTH)
    assert correlations(drawn)[1:] == pytest.approx((0.4, 0.4), abs=0.06)


def test_the_jury_of_a_fit_probes_with_the_frames_correlation(problem, law):
    asked = problem(np.random.default_rng(3).normal(0, 1, (256, 256)), law.gaussian(1.0))
    region = prepare(asked, measure_sky([asked]))
    region = replace(region, noise=replace(region.noise, root=root_of(KERNEL)))
    zone = torch.ones_like(region.observed)
    jury = _Jury(CropSource([region], [zone], np.random.default_rng(1)), generator())
    variance, *neighbours = correlations(jury.probe)
    assert variance == pytest.approx(1.0, abs=0.06)
    assert neighbours == pytest.approx(KERNEL.neighbours, abs=0.06)
