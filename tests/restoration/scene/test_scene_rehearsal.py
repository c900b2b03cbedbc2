"""The rehearsal of a scene: errors that noise alone makes are told as large as they are."""

from functools import partial

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.delivering.uncertainty import mean_risk
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.delivery import SceneNetworks
from dip_pipeline.restoration.scene.features import channels_of
from dip_pipeline.restoration.scene.rehearsal import scene_error_table
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.task import Task

SIDE_PX = 128
OPTICS = Optics(factor=2)


class Silent(torch.nn.Module):
    """Answers zero: a scene is the first guess that its optics make.

    restless : every second answer is so many noises of a fine pixel too bright, the others too dark
    """

    multiple = 16

    def __init__(self, restless=0.0):
        super().__init__()
        self.restless, self.sign = restless, 1

    def forward(self, features):
        channels = channels_of(scene_optics(OPTICS))[1]
        answer = torch.zeros(len(features), channels, *features.shape[-2:])
        answer[:, -4:], self.sign = self.sign * self.restless, -self.sign
        return answer


class Leaning(Silent):
    """Answers what stands out of the sky around, and nothing of holes."""

    def forward(self, features):
        answer = super().forward(features)
        answer[:, -4:] = features[:, 1:2].clamp(min=0.0)
        return answer


def restored(problem, law, light, *, sigma=1.0, network=None, views=1, noise=None):
    """Restore a sky of that light in noise; its delivery, and the table of its errors.

    noise : its law; Gaussian of that sigma where none is given
    """
    drawn = sigma * np.random.default_rng(3).standard_normal(light.shape)
    asked = problem(
        light + drawn,
        noise or law.gaussian(sigma),
        options=FitOptions(views=views, task=Task.SUPER_RESOLVE, flux_scale_px=0.0),
        optics=OPTICS,
    )
    scale = measure_sky([asked])
    region = prepare(asked, scale).with_shown_stars()
    ones = torch.ones_like(region.known)
    networks = SceneNetworks([network or Silent()], [ones], OPTICS, asked.options)
    delivery = networks.deliver(region, Restraint(), seed=1)
    table = scene_error_table([networks], [region], Restraint(), seed=1)
    return delivery, table


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_of_noise_alone_the_error_of_a_fine_pixel_is_as_large_as_it_is(problem, law, sigma):
    """What a guess leaves of the noise is above 1 of its sigma, or below -1, in a third of it."""
    delivery, table = restored(problem, law, np.full((SIDE_PX, SIDE_PX), 50.0), sigma=sigma)
    told = table.look_up(delivery.predictor, delivery.light) * delivery.fine_sigma
    scene = delivery.scene[0, 0, 8:-8, 8:-8].numpy()
    assert float(told.median()) == pytest.approx(scene.std(), rel=0.05)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_views_that_differ_are_unsure_by_as_much_in_noises_of_a_fine_pixel(problem, law, sigma):
    asked = partial(restored, problem, law, np.full((48, 48), 50.0), sigma=sigma, views=2)
    calm, _ = asked()
    unsure, _ = asked(network=Silent(restless=3.0))
    more = (unsure.predictor**2 - calm.predictor**2).median()
    assert float(more) ** 0.5 == pytest.approx(3.0, rel=0.02)


def test_what_is_lost_of_sources_is_told_there_and_not_in_the_dark(problem, law):
    """A guess that smooths loses the more of a source, the brighter that is: no response to noise
    tells it, but what is lost once more where the restored sky is seen anew."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX))
    away = (rows % 16 - 7.3) ** 2 + (cols % 16 - 7.8) ** 2
    light = 50 + 60 * np.exp(-away / (2 * 1.2**2))
    delivery, table = restored(problem, law, light)
    same = delivery.predictor.median().repeat(2)
    dark, bright = table.look_up(same, torch.tensor([0.0, 20.0])).tolist()
    assert bright > 1.5 * dark


def test_what_the_estimate_lacks_is_measured_where_photons_make_the_noise(problem, law):
    light = np.full((SIDE_PX, SIDE_PX), 24.0)
    asked = partial(restored, problem, law, light, sigma=33**0.5, network=Leaning())
    _, table = asked(noise=law.sensor(gain=1.0, read_noise=3.0))
    assert table.lacking[0] > 0.01
    _, table = asked()
    assert not any(table.lacking)


def test_the_risk_of_a_dark_scene_is_not_low(problem, law):
    """As often below the dark level as above it: no pixel's noise may be taken for larger."""
    noise = law.sensor(gain=1.0, read_noise=2.0)
    delivery, _ = restored(problem, law, np.zeros((256, 256)), sigma=2.0, noise=noise)
    risk, error, _ = mean_risk(delivery.squared_error, torch.ones_like(delivery.seen))
    level = float(delivery.seen.mean())  # the scale is that of the median
    truth = float(((delivery.seen - level) ** 2).mean())
    assert risk == pytest.approx(truth, abs=3 * error)
    assert error < 0.02
