"""What the fit of a scene asks of its networks: independent copies, known scenes, honest risk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.features import channels_of, scene_estimate, scene_view
from dip_pipeline.restoration.scene.fit import SceneFit, fit_scene_network
from dip_pipeline.restoration.scene.prior import lay_out
from dip_pipeline.restoration.views.crops import Batch, CropSource
from dip_pipeline.restoration.views.regions import PixelNoise
from dip_pipeline.task import Task

SIDE_PX = 64


class Silent(torch.nn.Module):
    """Answers zero: a scene is the first guess that its optics make, linear in what is seen."""

    def __init__(self, optics):
        super().__init__()
        self.channels = channels_of(scene_optics(optics))[1]

    def forward(self, features):
        return torch.zeros(len(features), self.channels, *features.shape[-2:])


def dark(count=2, side=SIDE_PX, sigma=1.0):
    """Crops of a sky without light, in noise of that sigma."""
    noise = sigma * torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(2))
    ones = torch.ones_like(noise)
    covariance = torch.zeros(count, 5, 5)
    covariance[:, 2, 2] = 1.0
    law = PixelNoise(sigma**2 * ones, 0.0, 0.0)
    return Batch(noise, sigma * ones, ones, ones, covariance, law)


def guessed(batch, optics):
    """What a silent network makes of a batch, on the scene's grid."""
    optics = scene_optics(optics)
    seen = scene_view(batch.observed, batch.noise, batch.known, batch.covariance, optics)
    return scene_estimate(
        torch.zeros(len(batch.observed), channels_of(optics)[1], *batch.observed.shape[-2:]),
        seen,
        optics,
    )


class Watched(SceneFit):
    """Keeps the two parts of a loss apart."""

    def _consistency(self, network, batch, optics):
        self.turned = batch
        self.agreed, self.scene = super()._consistency(network, batch, optics)
        return self.agreed, self.scene

    def _rehearsal(self, network, batch, scene, optics, stars):
        self.rehearsed = super()._rehearsal(network, batch, torch.zeros_like(scene), optics, stars)
        return self.rehearsed


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_two_copies_that_a_fit_compares_have_no_noise_in_common(sigma):
    """Of independent noises the variances add up: a of y + a n, and y - n / a, a = 1/2.

    The first guess passes on a share of the noise's variance; the scene that is moved and seen
    again is the mean over n and -n, in which no drawn noise is left.
    """
    optics, batch = Optics(factor=2), dark(count=8, sigma=sigma)
    fit = Watched(optics, None, seed=1)
    fit.loss(Silent(optics), batch)
    seen = scene_optics(optics).observe(guessed(batch, optics)) / sigma
    share = float(seen[..., 4:-4, 4:-4].var())
    assert float(fit.agreed) == pytest.approx(0.5 * (1.25 * share + 5), rel=0.03)
    alone = guessed(fit.turned, optics)
    torch.testing.assert_close(fit.scene, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_rehearsal_in_the_dark_costs_what_noise_does_to_it_in_a_fine_pixels_own(sigma, factor):
    """A fine pixel alone, of 1 / factor^2 of the light, has factor times the noise."""
    optics, batch = Optics(factor=factor), dark(count=8, sigma=sigma)
    fit = Watched(optics, None, seed=1)
    fit.loss(Silent(optics), batch)
    fine = guessed(dark(count=8), optics) / factor
    expected = 0.5 * float(fine[..., 8:-8, 8:-8].square().mean())
    assert float(fit.rehearsed) == pytest.approx(expected, rel=0.05)


def test_all_of_a_batch_is_turned_alike_and_so_is_the_kernel_of_its_noise():
    """Each plane is the same lopsided pattern: it is one in each of the turned batch as well."""
    optics = Optics(factor=2)
    pattern = 1 + torch.arange(15.0 * 15).view(1, 1, 15, 15) / 225
    law = PixelNoise(pattern, 0.0, 0.0, pattern)
    batch = replace(
        dark(1, 15), observed=pattern, sigma=pattern, known=pattern, weight=pattern, noise=law
    )
    fit = Watched(optics, None, seed=1)
    for _ in range(8):
        fit.loss(Silent(optics), batch)
        turned = fit.turned
        noise = turned.noise
        for plane in (turned.sigma, turned.known, turned.weight, noise.floor, noise.root):
            torch.testing.assert_close(plane, turned.observed)


def test_a_scene_that_is_moved_is_as_near_or_nearer_and_never_seen_larger():
    """Seen from farther away, its stars are narrower: a wide one covers no more pixels."""
    rows, cols = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    star = torch.exp(-((rows - 32) ** 2 + (cols - 32) ** 2) / (2 * 6.0**2))[None, None]
    fit = SceneFit(Optics(factor=2), None, seed=4)
    areas = []
    for _ in range(40):
        moved = fit._moved(star, 2)
        areas.append(int((moved > 0.5 * moved.max()).sum()) / int((star > 0.5).sum()))
    assert max(areas) < 1.03
    assert 1.6**-2 * 0.95 < min(areas) < 0.6


def test_what_is_left_to_a_network_is_in_noises_of_a_fine_pixel():
    optics = Optics(factor=2)
    batch, laid = dark(sigma=3.0), scene_optics(optics)
    seen = scene_view(batch.observed, batch.noise, batch.known, batch.covariance, laid)
    answer = torch.zeros(2, channels_of(laid)[1], SIDE_PX, SIDE_PX)
    answer[:, -4:] = 1.0  # the residual of each of the four fine pixels
    change = scene_estimate(answer, seen, laid) - scene_estimate(0 * answer, seen, laid)
    torch.testing.assert_close(change, torch.full_like(change, 2 * 3.0))


@pytest.mark.parametrize("hanging", [False, True])
def test_the_risk_of_a_fit_is_the_squared_error_of_what_it_shows(problem, law, hanging):
    """Of dark sky: what is shown is what is wrong."""
    pixels = np.random.default_rng(6).standard_normal((128, 128))
    noise = law.gaussian(1.0)
    asked = problem(
        ndimage.convolve(pixels, np.array(law.kernel.root)) if hanging else pixels,
        law.correlated(noise) if hanging else noise,
        options=FitOptions(steps=1, views=1, task=Task.SUPER_RESOLVE),
        optics=Optics(factor=2),
    )
    _, (region,) = lay_out([asked])
    zones = [torch.ones_like(region.trusted)]
    crops = [CropSource([region], zones, np.random.default_rng(n), turned=False) for n in (1, 2)]
    fitted = fit_scene_network(*crops, asked.options, (asked.optics, None), seed=1)
    optics = scene_optics(asked.optics)
    view = scene_view(region.observed, region.noise, region.known, region.covariance, optics)
    with torch.no_grad():
        shown = optics.observe(scene_estimate(fitted.network(view.features), view, optics))
    assert fitted.risk == pytest.approx(float(shown.square().mean()), abs=0.06)
