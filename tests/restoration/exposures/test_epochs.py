"""Laws of an exposure at its own epoch: others help, what they alone show stays with them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering.asking import _MARGIN_PX, _bordered, _margin
from dip_pipeline.restoration.delivering.delivery import Delivery
from dip_pipeline.restoration.delivering.rehearsal import error_table
from dip_pipeline.restoration.exposures.epochs import (
    epoch_unchanged,
    fit_epoch_prior,
    restore_epoch,
    with_twin,
)
from dip_pipeline.restoration.forward.optics import Exposure, Twin
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import draw_noise, root_of
from dip_pipeline.restoration.noise.twinning import joined, lay_out_twin, redrawn
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, StopReason
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.features import view
from dip_pipeline.restoration.views.regions import PixelNoise, measure_sky, prepare
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.simulate.psf import MoffatPsf, add_star
from dip_pipeline.task import Task
from tests.restoration.exposed import (
    NOISE,
    SHIFTS,
    SKY,
    Sky,
    draw_sky,
    exposed,
    noisy,
    with_errors_told,
    with_exposure,
)

SIDE = 80
SIGMA = float(np.sqrt(SKY / 2 + 9))
SNR = 50.0
# Of a moving source, 10 px on from exposure to exposure: row and column on the first one's pixels.
PATH = ((40.3, 25.0), (40.3, 35.0), (40.3, 45.0), (40.3, 55.0))


def _sky():
    """Stars that leave the moving source's path alone."""
    sky = draw_sky((SIDE, SIDE), count=45)
    off_path = (np.abs(sky.stars[:, 0] - 40) > 9) | (np.abs(sky.stars[:, 1] - 40) > 24)
    return replace(sky, stars=sky.stars[off_path])


def _source(place, snr=SNR):
    light = np.zeros((SIDE, SIDE))
    add_star(light, place, 1.0, psf=MoffatPsf(2.1), oversample=1)
    return light * snr * SIGMA / np.sqrt((light**2).sum())


def _near(place):
    rows, cols = np.indices((SIDE, SIDE))
    return np.hypot(rows - place[0], cols - place[1]) < 5


@dataclass(frozen=True)
class Moving:
    """Four exposures of one sky through which a source moves, the second one restored.

    alone : without the others; still : with others through which nothing moves
    """

    truth: np.ndarray
    alone: np.ndarray
    still: np.ndarray
    result: np.ndarray
    outcome: object

    def residual(self, plane):
        return np.std(((plane - self.truth) / SIGMA)[6:-6, 6:-6])

    def left(self, where):
        """Most that what only the others show leaves there, in sigma."""
        return np.abs((self.result - self.still)[where]).max() / SIGMA


OWN = 1
QUICK = FitOptions(steps=2, views=1, effort=Effort.FAST)


@pytest.fixture(scope="module")
def moving():
    sky, nothing = _sky(), np.zeros((SIDE, SIDE), bool)
    levels = [
        sky.seen((SIDE, SIDE), shift) + SKY + _source(np.subtract(place, shift))
        for shift, place in zip(SHIFTS, PATH, strict=True)
    ]
    rng = np.random.default_rng(8)
    frames = [noisy(level, rng) for level in levels]
    still = [
        frame - np.float32(_source(np.subtract(place, shift)))
        for frame, shift, place in zip(frames, SHIFTS, PATH, strict=True)
    ]
    frames[3][20, 60:63] += 4000  # a cosmic ray

    def shift_of(number):
        return tuple(np.subtract(SHIFTS[number], SHIFTS[OWN]).tolist())

    def others(planes):
        return tuple(
            Exposure(planes[k], nothing, nothing, NOISE, shift_px=shift_of(k))
            for k in range(4)
            if k != OWN
        )

    problem, _ = exposed()
    asked = replace(
        problem,
        pixels=frames[OWN],
        masked=nothing,
        saturated=nothing,
        options=FitOptions(steps=40, views=1, effort=Effort.FAST),
        optics=None,
        exposures=(),
    )
    with_others = replace(asked, exposures=others(frames))
    prior = fit_epoch_prior([with_others], (SIDE, SIDE), seed=3)
    made = restore_epoch(with_others, Prior.from_bytes(prior.to_bytes()))
    unmoved = restore_epoch(replace(asked, exposures=others(still)), prior)
    alone = restore(asked)
    return Moving(levels[OWN], alone.science, unmoved.science, made.science, made.outcome)


def test_other_exposures_help(moving):
    assert moving.residual(moving.result) < 0.9 * moving.residual(moving.alone)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_source_that_was_elsewhere_leaves_no_ghost_there(moving, number):
    assert moving.left(_near(np.subtract(PATH[number], SHIFTS[OWN]))) < 0.5


def test_what_moves_keeps_its_own_place_and_light(moving):
    place = np.subtract(PATH[OWN], SHIFTS[OWN])
    near = _near(place)
    light = (moving.result - SKY)[near]
    assert light.sum() == pytest.approx((moving.truth - SKY)[near].sum(), rel=0.1)
    rows, cols = np.nonzero(near)
    centre = [(light * axis).sum() / light.sum() for axis in (rows, cols)]
    np.testing.assert_allclose(centre, place, atol=0.15)


def test_a_cosmic_ray_of_another_exposure_is_not_seen(moving):
    assert moving.left((slice(14, 27), slice(54, 69))) < 0.5


def test_the_estimated_risk_is_that_of_the_epoch(moving):
    true = float(np.mean((moving.result - moving.truth) ** 2 / (moving.truth / 2 + 9)))
    assert moving.outcome.risk == pytest.approx(true, abs=5 * moving.outcome.risk_error + 0.03)


def test_each_rehearsal_draws_other_noise_of_the_other_exposures(four):
    """With the same one each time it was in no error: 0.57 of the pixels were covered."""
    problem, _ = four
    asked = replace(with_twin(problem), options=FitOptions(steps=2, views=1))
    region = prepare(asked, measure_sky([asked]))
    like = region.observed
    calm = Delivery(smooth(like, 2.0), region.sigma, *[torch.zeros_like(like)] * 2)
    seen = []

    def deliver(drawn):
        seen.append(drawn.guides)
        return calm.delivered

    error_table(deliver, [region], [calm], seed=1)
    _, known, noise = region.guides.chunk(3, dim=1)
    dark = (known > 0) & (calm.delivered < 1)
    off = [((one[:, :1] - calm.delivered) / noise)[dark] for one in seen]
    assert all(0.85 < float(one.std()) < 1.15 for one in off)
    together = [float((one * other).mean()) for one, other in ((off[0], off[1]), (off[0], off[0]))]
    assert abs(together[0]) < 0.1 * together[1]


def test_a_twin_is_drawn_again_where_it_is_believed():
    draw = torch.Generator().manual_seed(2)
    frame, light = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    light[0, 0] += torch.from_numpy(_source((32.0, 32.0), 40.0)[:64, :64] / SIGMA).float()
    ones = torch.ones_like(frame)
    planes = torch.cat([light, ones, 0.5 * ones], dim=1)
    noise, truth = (draw_noise(frame, draw, None) for _ in range(2))
    again = redrawn(planes, frame, truth, ones, noise, None)
    core = light > 0.5 * light.max()
    torch.testing.assert_close(again[:, :1][core], light[core])
    far = again[0, 0, :16, :16], (truth + 0.5 * noise)[0, 0, :16, :16]
    torch.testing.assert_close(*far)
    torch.testing.assert_close(again[:, 1:], planes[:, 1:])


@pytest.fixture
def four():
    """A small problem of four exposures on its own pixels, and its truth."""
    problem, truth = exposed(factor=1, sky=draw_sky((48, 52), brightest=3e3))
    return replace(problem, optics=None), truth


def test_a_twin_has_the_noise_that_it_says_and_none_of_the_frame(four):
    problem, truth = four
    twin = with_twin(problem).twin
    inner = (slice(5, -5), slice(5, -5))
    off = ((twin.pixels - truth) / twin.error)[inner]
    assert np.isfinite(off).mean() > 0.97
    assert 0.75 < 1.4826 * np.nanmedian(np.abs(off)) < 1.1
    own = (problem.pixels - truth)[inner] / SIGMA
    assert abs(np.nanmean(own * off)) < 0.1


def test_a_twin_shows_the_cores_of_stars_as_the_frame_does():
    """Six taps between pixels left 0.05 of the peak."""
    problem, truth = exposed(factor=1, noise=False)
    off = (with_twin(problem).twin.pixels - truth)[4:-4, 4:-4]
    assert np.abs(off).max() < 0.02 * (truth.max() - truth.min())


def test_in_cores_of_stars_a_twin_has_the_noise_of_their_photons():
    problem, _ = exposed(factor=1, noise=False, sky=Sky(np.array([[24.0, 26.0, 2e4]])))
    ratio = with_twin(problem).twin.error / with_twin(with_errors_told(problem)).twin.error
    assert ratio[23:26, 25:28] == pytest.approx(1, abs=0.08)


def test_a_hole_of_the_others_is_unknown_and_the_rest_counts(four):
    problem, _ = four
    hidden = problem
    for number in (1, 2, 3):
        masked = np.zeros((48, 52), bool)
        masked[20:30, 20:30] = True
        hidden = with_exposure(hidden, number, masked=masked)
    twin = with_twin(hidden).twin
    assert np.isnan(twin.pixels[23:27, 23:27]).all()
    assert np.isfinite(twin.pixels[5:15, 5:45]).all()


def test_without_anything_beside_it_an_exposure_is_restored_alone(four):
    problem, _ = four
    alone = replace(problem, exposures=(), options=QUICK)
    twin = with_twin(alone).twin
    assert np.isnan(twin.pixels).all()
    assert np.isfinite(restore_epoch(alone).science).all()


def test_a_tile_that_cannot_be_restored_is_given_back(four):
    problem, _ = four
    given = epoch_unchanged(problem, StopReason.DIVERGED)
    assert given.science.tobytes() == problem.pixels.tobytes()
    assert given.outcome.failed


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.6])
def test_both_are_averaged_by_their_noise_where_they_agree(correlation):
    """Noise that hangs together scatters more once it is smoothed, and is no disagreement."""
    draw = torch.Generator().manual_seed(2)
    root = root_of(NoiseKernel.from_neighbour(correlation, "given")) if correlation else None
    like = torch.empty(1, 1, 64, 64)
    frame, light = (draw_noise(like, draw, root) for _ in range(2))
    planes = torch.cat([light * 0.5, torch.ones_like(frame), torch.full_like(frame, 0.5)], dim=1)
    image, sigma, (share, *_) = joined(planes, frame, *[torch.ones_like(frame)] * 2, root)
    assert float(share.median()) == pytest.approx(0.8)
    assert float(image.std()) == pytest.approx(float(sigma.median()), rel=0.1)
    assert float(sigma.median()) == pytest.approx(0.2**0.5)


@pytest.mark.parametrize("at", ["twin", "frame"])
def test_where_they_do_not_agree_the_frame_alone_counts(at):
    frame, light = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    source = torch.from_numpy(_source((32.0, 32.0), 20.0)[:64, :64] / SIGMA).float()
    (light if at == "twin" else frame)[0, 0] += source
    planes = torch.cat([light, torch.ones_like(frame), torch.full_like(frame, 0.5)], dim=1)
    image, *_ = joined(planes, frame, *[torch.ones_like(frame)] * 2, None)
    assert (image - frame).abs().max() < 0.5


def test_what_is_unknown_of_a_twin_changes_nothing():
    frame = torch.randn(1, 1, 32, 32)
    twin = Twin(np.full((32, 32), np.nan, np.float32), np.full((32, 32), np.nan, np.float32))
    planes = lay_out_twin(twin, 100.0, 10.0)
    noise = PixelNoise(torch.ones(1, 1, 1, 1), 0.0, 0.0)
    seen = [
        view(frame, noise, torch.ones_like(frame), torch.zeros(1, 33, 33), guides=guides)
        for guides in (None, planes)
    ]
    assert torch.equal(seen[0].copies, seen[1].copies)


def test_a_prior_knows_whether_a_twin_stood_beside_it(four):
    problem, _ = four
    paired = replace(with_twin(problem), options=QUICK)
    alone = replace(paired, twin=None)
    for fitted, asked in ((paired, alone), (alone, paired)):
        prior = fit_prior([fitted], (48, 52), seed=1)
        with pytest.raises(RestorationError, match="twin"):
            restore(asked, prior)
    with pytest.raises(RestorationError, match="one or the other"):
        replace(paired, guides=(problem.pixels,))
    assert prepare(paired, measure_sky([paired])).guides.shape == (1, 3, 48, 52)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_networks_see_of_a_twin_what_they_were_fitted_on(problem, law, correlation):
    """With its noise taken for white where they are asked, its share was 0.2 and not 0.8."""
    kernel = NoiseKernel.from_neighbour(correlation, "given")
    draw, like = torch.Generator().manual_seed(3), torch.zeros(1, 1, SIDE, SIDE)
    frame, light = (draw_noise(like, draw, root_of(kernel))[0, 0].numpy() for _ in range(2))
    twin = Twin((100 + 0.4 * light).astype("f4"), np.full((SIDE, SIDE), 0.4, "f4"))
    noise = replace(law.gaussian(1.0), correlation=kernel)
    asked = problem(100 + frame, noise, options=FitOptions(task=Task.COMBINE, steps=2), twin=twin)
    region = prepare(asked, measure_sky([asked]))
    fitted = view(
        region.observed, region.noise, region.known, region.covariance, None, region.guides
    )
    applied = _bordered(region.observed, region, _margin(region.shape, 4))
    at = slice(_MARGIN_PX, _MARGIN_PX + SIDE)
    torch.testing.assert_close(applied.cut(at, at).copies[:, :1], fitted.copies[:, :1])


def test_where_the_frame_was_not_seen_the_twin_stands_for_it():
    frame, light = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    source = torch.from_numpy(_source((32.0, 32.0), 30.0)[:64, :64] / SIGMA).float()
    light[0, 0] += source
    seen = torch.ones_like(frame)
    seen[..., 26:39, 26:39] = 0.0
    planes = torch.cat([light, torch.ones_like(frame), torch.full_like(frame, 0.5)], dim=1)
    image, sigma, _ = joined(planes, frame, torch.ones_like(frame), seen, None)
    hidden = seen == 0
    torch.testing.assert_close(image[hidden], light[hidden])
    torch.testing.assert_close(sigma[hidden], torch.full_like(sigma[hidden], 0.5))


@pytest.fixture(scope="module")
def hidden():
    """A star across whose middle columns are bad, beside three exposures that show it; truth."""
    sky = draw_sky((64, 64), count=12, brightest=3e3)
    stars = [*sky.stars, (32.2, 31.7, 8000.0)]
    problem, _ = exposed((64, 64), factor=1, sky=replace(sky, stars=np.array(stars)))
    truth = replace(sky, stars=np.array(stars)).seen((64, 64), SHIFTS[0]) + SKY
    masked = np.zeros((64, 64), bool)
    masked[:, 30:34] = True
    return replace(problem, optics=None, masked=masked), truth, masked


def test_what_the_frame_hides_is_taken_from_the_other_exposures(hidden):
    problem, truth, masked = hidden
    options = FitOptions(steps=20, views=1, effort=Effort.FAST)
    made = restore_epoch(replace(problem, options=replace(options, task=Task.COMBINE)))
    alone = restore(replace(problem, exposures=(), options=options))
    core = masked & (truth - SKY > 3 * SIGMA)
    off, off_alone = (
        np.sqrt(np.mean(((one.science - truth) / np.sqrt(truth / 2 + 9))[core] ** 2))
        for one in (made, alone)
    )
    assert off < 1.5
    assert off < 0.5 * off_alone
    assert (made.flags[masked] & 1).all()


def test_a_wide_hole_that_other_exposures_show_is_not_given_up(hidden):
    problem, *_ = hidden
    masked = np.zeros((64, 64), bool)
    masked[10:54, 10:54] = True
    asked = replace(problem, masked=masked, options=QUICK)
    made = restore_epoch(asked)
    middle = (slice(30, 34), slice(30, 34))
    assert np.isfinite(made.science[middle]).all()
    assert not (made.flags[middle] & 2).any()
    assert np.isnan(restore(replace(asked, exposures=())).science[middle]).any()
