"""What is told of the error of a delivered image, in units of the noise of its own pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.asking import Answers, moved_by
from dip_pipeline.restoration.delivering.delivery import (
    Delivery,
    deliver_code,
    finished,
    judged,
)
from dip_pipeline.restoration.delivering.rehearsal import error_table
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, estimate, view
from dip_pipeline.restoration.views.regions import measure_sky, prepare

SHAPE = (96, 128)


def dark(problem, law, **more):
    """A sky without light, whose right half is four times as noisy as the left one."""
    sigma = np.where(np.arange(SHAPE[1]) < 64, 1.0, 4.0) * np.ones(SHAPE)
    pixels = sigma * np.random.default_rng(1).standard_normal(SHAPE)
    asked = problem(pixels, law.error_plane, error=sigma.astype(np.float32), **more)
    region = prepare(asked, measure_sky([asked]))
    return replace(region, observed=region.observed - region.observed.mean())


def probe_of(region):
    generator = torch.Generator().manual_seed(3)
    return draw_noise(region.observed, generator, region.noise.root)


@pytest.mark.parametrize("scatter", [0.0, 2.0])
def test_a_share_of_the_noise_is_told_as_that_whatever_a_pixels_noise(problem, law, scatter):
    """Of what passes on half of its noise that half is the error, and what views differ by."""
    region = dark(problem, law)
    probe = probe_of(region)
    moved = 0.5 * moved_by(region, probe)
    plain, nothing = 0.5 * region.observed, torch.zeros_like(moved)
    found = judged(Answers(plain, moved, scatter * region.sigma, probe, (nothing,) * 2), region)
    for half in (np.s_[..., 8:-8, 8:56], np.s_[..., 8:-8, 72:-8]):
        told = float(found.predictor[half].square().mean())
        assert told == pytest.approx(0.25 + scatter**2, rel=0.1)
        assert float(found.squared_error[half].mean()) == pytest.approx(0.25, abs=0.12)


@pytest.mark.parametrize("judge", [True, False])
def test_the_picture_of_a_code_is_judged_by_a_copy_of_as_much_more_noise_as_it_has(
    problem, law, judge
):
    """A dark picture of a dark sky has no error, whatever the noise of what it is held against."""
    region = dark(problem, law)

    class Dark(torch.nn.Module):
        def forward(self, code):
            return torch.zeros(1, 1, *code.shape[-2:])

    options = FitOptions(flux_scale_px=0.0)
    found = deliver_code(Dark(), region, options, seed=2, judged=judge)
    expected = 0.0 if judge else 1.0  # what was seen in the fit is not told from its noise
    assert float(found.squared_error.mean()) == pytest.approx(expected, abs=0.25)


def rehearsed(region, deliver):
    """Errors of a region that is restored so, in the dark and in light, of a predictor that says
    nothing of them."""
    delivered = deliver(region)
    chance = torch.rand(delivered.shape, generator=torch.Generator().manual_seed(5))
    unknown = torch.full_like(delivered, torch.nan)
    delivery = Delivery(delivered, region.noise.sigma(delivered), unknown, 1 + chance)
    table = error_table(deliver, [region], [delivery], seed=4)
    return table.look_up(torch.full((2,), 1.3), torch.tensor([0.0, 100.0])).tolist()


def test_of_noise_that_is_smoothed_the_error_is_what_is_left_of_it(problem, law):
    """On dark sky; pixels that are masked are not judged, and tell nothing of the others."""
    masked = np.zeros(SHAPE, bool)
    masked[:, ::8] = True
    region = dark(problem, law, masked=masked)
    wild = torch.where(region.trusted > 0, region.observed, 10 * region.sigma)

    def smoothed(region):
        return smooth(torch.where(region.trusted > 0, region.observed, torch.zeros(())), 1.0)

    told, _ = rehearsed(replace(region, observed=wild), smoothed)
    left = smoothed(region) / region.sigma
    expected = np.quantile(left[region.trusted > 0].abs().numpy(), 0.683)
    assert told == pytest.approx(expected, rel=0.15)


def test_what_goes_wrong_in_the_light_of_stars_that_were_taken_off_is_told_there(problem, law):
    """In their light all is three sigma too faint, again in the rehearsal; elsewhere nothing."""
    region = dark(problem, law)
    stars = torch.zeros_like(region.observed)
    stars[..., 50:] = 100 * region.sigma[..., 50:]

    def off(region):
        return smooth(region.observed, 1.0) - 3 * region.sigma * (stars > 0)

    dark_sky, lit = rehearsed(replace(region, stars=stars), off)
    assert lit > 2.5
    assert dark_sky < 0.6


def test_no_flux_comes_from_pixels_that_are_not_trusted(problem, law):
    masked = np.zeros(SHAPE, bool)
    masked[40:44, 30:36] = True
    region = dark(problem, law, masked=masked)
    options = FitOptions(flux_scale_px=3.0)
    images = []
    for held in (0.0, 500.0):
        observed = torch.where(region.trusted > 0, region.observed, torch.tensor(held))
        seen = replace(region, observed=observed)
        nothing = torch.zeros_like(observed)
        said = Answers(nothing, nothing, nothing, nothing, (nothing, nothing))
        images.append(finished(said, seen, Restraint(), options).plain)
    torch.testing.assert_close(*images)


def test_what_is_left_to_a_network_is_in_noises_of_the_pixel(problem, law):
    region = dark(problem, law)
    seen = view(region.observed, region.noise, region.known, region.covariance)
    answer = torch.zeros(1, ANSWER_CHANNELS, *SHAPE)
    more = answer.clone()
    more[:, -1] = 2.0
    change = estimate(more, seen) - estimate(answer, seen)
    torch.testing.assert_close(change, 2 * region.sigma, atol=1e-4, rtol=1e-4)
