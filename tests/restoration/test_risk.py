import dataclasses

import numpy as np
import pytest
import torch
from torch import Generator

from dip_pipeline.restoration.delivering.asking import Answers, ask_networks, moved_by
from dip_pipeline.restoration.delivering.delivery import (
    _first_pixels,
    _put_back,
    _trial,
    choose_restraint,
    finished,
    judged,
)
from dip_pipeline.restoration.delivering.rehearsal import error_table
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.delivering.uncertainty import (
    PROBE_SIGMA,
    Evidence,
    LitErrors,
    calibrate,
    light_of,
    mean_risk,
    spread_predictor,
    stein_map,
    tabulate,
    tabulate_by_light,
)
from dip_pipeline.restoration.fits.fit_code import code_for, judged_split
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.images.spectral import LostLight
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, NetworkKind
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, FEATURE_CHANNELS, view
from dip_pipeline.restoration.views.regions import PixelNoise, measure_sky, prepare


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def deliver(network, region, options, seed=0):
    """The restraint is not trivial: half the observation comes back in bright light."""
    ones = [torch.ones_like(region.sigma)]
    answers = ask_networks([network], ones, region, options, seed=seed)
    restraint = Restraint((0.0, 3.0), (1.0, 0.5))
    return judged(finished(answers, region, restraint, options), region)


def test_the_estimated_risk_of_a_linear_filter_is_unbiased():
    truth = 20 * smooth(draw(1, 1, 512, 512), 3.0)
    observed = truth + draw(1, 1, 512, 512, seed=2)
    probe, one = draw(1, 1, 512, 512, seed=3), torch.ones_like(truth)
    delivered, moved = smooth(observed, 1.0), smooth(observed + PROBE_SIGMA * probe, 1.0)
    response = (moved - delivered) / PROBE_SIGMA
    each = stein_map(delivered, observed, one, probe * response)
    risk, error, count = mean_risk(each, one)
    assert count == 512 * 512
    assert risk == pytest.approx(float(((delivered - truth) ** 2).mean()), abs=4 * error)
    assert error < 0.01


def test_a_network_knows_the_noise_level_of_its_own_input_only():
    observed = 30 + 3 * draw(1, 1, 32, 32)
    noise = PixelNoise(torch.ones_like(observed), 0.5, 0.0)
    known = torch.ones_like(observed)
    moved = observed.clone()
    moved[..., 16, 16] += 5.0
    before, after = (
        view(planes, noise, known, torch.zeros(1, 33, 33)) for planes in (observed, moved)
    )
    assert float(after.sigma[..., 16, 16]) > float(before.sigma[..., 16, 16])
    own = noise.sigma(smooth(observed, 1.0))
    torch.testing.assert_close(before.sigma, own)


def test_whatever_a_delivery_takes_from_the_observation_the_probe_sees(problem, law):
    """The frame's own sigma plane is made from the observation: no delivery may depend on it."""
    asked = problem(40 + 5 * draw(48, 48).numpy(), law.sensor(), options=FitOptions())
    region = prepare(asked, measure_sky([asked]))
    spoilt = dataclasses.replace(region, sigma=region.sigma * (2 + draw(1, 1, 48, 48).abs()))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.normal_(network.last.weight, std=0.1, generator=Generator().manual_seed(6))
    first, second = (deliver(network, planes, asked.options) for planes in (region, spoilt))
    assert torch.equal(first.delivered, second.delivered)
    assert torch.equal(first.sigma, second.sigma)


def test_the_divergence_of_a_delivery_holds_all_its_steps(problem, law):
    """One probe's estimate, averaged over draws, against the derivative pixel by pixel."""
    asked = problem(40 + 5 * draw(16, 16).numpy(), law.sensor(), options=FitOptions(views=2))
    region = prepare(asked, measure_sky([asked]))
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.normal_(network.last.weight, std=0.05, generator=Generator().manual_seed(6))
    still = deliver(network, region, asked.options)
    own = []
    for place in range(0, 256, 2):
        row, col = divmod(place, 16)
        step = 0.05 * float(still.sigma[0, 0, row, col])
        moved = region.observed.clone()
        moved[0, 0, row, col] += step
        change = deliver(
            network, dataclasses.replace(region, observed=moved), asked.options
        ).delivered
        own.append(float((change - still.delivered)[0, 0, row, col]) / step)
    divergence = np.mean(own)
    misfit = ((still.delivered - region.observed) / still.sigma) ** 2 - 1
    probed = []
    for seed in range(24):
        each = deliver(network, region, asked.options, seed=seed).squared_error
        probed.append(float((each - misfit).mean()) / 2)
    # Both are means of a sample: of draws, and of every other pixel.
    scatter = float(np.hypot(np.std(probed) / 24**0.5, np.std(own) / len(own) ** 0.5))
    assert np.mean(probed) == pytest.approx(divergence, abs=4 * scatter + 0.01)
    assert divergence > 0.15 > 4 * scatter


def test_the_risk_of_a_dark_sky_is_not_low(problem, law):
    """As often below the dark level as above it: no pixel's noise may be taken for larger."""
    asked = problem(draw(256, 256).numpy() * 2.0, law.sensor(gain=1.0, read_noise=2.0))
    region = prepare(asked, measure_sky([asked]))
    probe = draw(1, 1, 256, 256, seed=2)
    plain, moved = (
        smooth(observed, 0.7) for observed in (region.observed, moved_by(region, probe))
    )
    nothing = torch.zeros_like(plain)
    answers = Answers(plain, moved, nothing, probe, (nothing, nothing))
    risk, error, _ = mean_risk(judged(answers, region).squared_error, region.trusted)
    truth = float(((plain * region.scale.sigma + region.scale.level) ** 2).mean()) / 2.0**2
    assert risk == pytest.approx(truth, abs=3 * error)
    assert error < 0.01


def leaning_to_light(region):
    """What stands out by more than one sigma of what is around stays by a third."""
    around = smooth(region.observed, 3.0)
    return around + (region.observed - around - 1.0).clamp(min=0.0) / 4


def test_the_risk_of_a_few_photons_is_not_low(problem, law):
    """Their noise is skewed, and grows with the light that is made of it."""
    drawn = torch.poisson(torch.full((512, 512), 24.0), generator=Generator().manual_seed(5))
    pixels = (drawn + 3.0 * draw(512, 512)).numpy()
    asked = problem(pixels, law.sensor(gain=1.0, read_noise=3.0))
    region = prepare(asked, measure_sky([asked]))
    probe = draw(1, 1, 512, 512, seed=2)
    moved = dataclasses.replace(region, observed=moved_by(region, probe))
    plain, nothing = leaning_to_light(region), torch.zeros_like(probe)
    answers = Answers(plain, leaning_to_light(moved), nothing, probe, (nothing, nothing))
    delivery = judged(answers, region)
    sigma = (24.0 + 3.0**2) ** 0.5
    truth = float((((plain * region.scale.sigma + region.scale.level) - 24.0) ** 2).mean())
    table = error_table(leaning_to_light, [region], [delivery], seed=3)
    squares = table.complete(
        delivery.squared_error, light_of(plain, torch.zeros_like(plain), delivery.sigma)
    )
    told, error, _ = mean_risk(squares, region.trusted)
    assert told == pytest.approx(truth / sigma**2, abs=3 * error)
    short, _, _ = mean_risk(delivery.squared_error, region.trusted)
    assert short < truth / sigma**2 - 5 * error


def test_what_estimates_lack_is_added_to_the_risk_by_light(problem, law):
    rows, cols = np.indices((48, 48))
    light = 300 * np.exp(-((rows - 20) ** 2 + (cols - 26) ** 2) / 200)
    asked = problem(light + 40 + 5 * draw(48, 48).numpy(), law.sensor())
    prior = fit_prior([asked], (48, 48), seed=1)
    assert prior.errors is not None
    table = prior.errors.tables[0]
    plain, lit = (
        dataclasses.replace(prior, errors=LitErrors((5.0,), (table, table), lacking))
        for lacking in ((), (0.0, 3.0))
    )
    risks = [restore(asked, one).outcome.risk for one in (plain, lit)]
    region = prepare(asked, prior.scale)
    delivery = prior.deliver(region, asked.options, seed=asked.seed)
    bright = light_of(delivery.delivered, region.stars, delivery.sigma) > 5
    assert 0.05 < float(bright.float().mean()) < 0.95
    assert risks[1] - risks[0] == pytest.approx(3 * float(bright.float().mean()), rel=0.1)


def pure_noise(problem, law, steps, effort=Effort.NORMAL):
    pixels = np.random.default_rng(7).normal(1000, 5, (192, 192))
    asked = problem(pixels, law.gaussian(5.0), options=FitOptions(steps=steps, effort=effort))
    restored = restore(asked)
    return restored.outcome, float(np.mean(((restored.science - 1000) / 5) ** 2))


def test_the_estimated_risk_is_honest_on_pure_noise(problem, law):
    outcome, truth = pure_noise(problem, law, 20, Effort.FAST)
    assert outcome.risk == pytest.approx(truth, abs=4 * outcome.risk_error)
    assert truth < 0.2


@pytest.mark.slow
def test_the_estimated_risk_is_honest_at_ten_times_the_steps(problem, law):
    outcome, truth = pure_noise(problem, law, 5000)
    assert outcome.risk == pytest.approx(truth, abs=4 * outcome.risk_error)


def test_the_code_inputs_risk_agrees_with_the_truth(crowded_code):
    outcome = crowded_code.restored.outcome
    assert outcome.risk == pytest.approx(crowded_code.true_risk, abs=4 * outcome.risk_error)


def test_the_code_of_overlapping_regions_is_the_same():
    whole = code_for((150, 200), (30, 0), 9)
    part = code_for((70, 80), (60, 64), 9)
    assert torch.equal(part, whole[..., 30:100, 64:144])
    assert not torch.equal(part, code_for((70, 80), (60, 64), 8))
    for neighbour in ((0, 64), (64, 0), (64, 64)):
        assert not torch.equal(code_for((64, 64), neighbour, 9), code_for((64, 64), (0, 0), 9))
    assert 0 <= float(whole.min()) < 0.01
    assert 0.99 < float(whole.max()) <= 1


def test_the_judged_split_is_drawn_once_for_a_frame(problem, law):
    """Another region over the same pixels gets the same split: its judge stays unseen."""
    pixels = np.random.default_rng(3).normal(0, 1, (128, 160))
    whole = problem(pixels, law.gaussian(1.0))
    part = problem(pixels[20:100, 70:], law.gaussian(1.0), origin=(20, 70))
    scale = measure_sky([whole])
    copies = [judged_split(prepare(asked, scale), 4) for asked in (whole, part)]
    for of_whole, of_part in zip(*copies, strict=True):
        assert torch.equal(of_whole[..., 20:100, 70:], of_part)
    again = judged_split(prepare(whole, scale), 4)
    assert all(torch.equal(*pair) for pair in zip(again, copies[0], strict=True))


def test_the_judged_copies_are_independent_given_the_truth(problem, law):
    asked = problem(np.random.default_rng(3).normal(0, 1, (512, 512)), law.gaussian(1.0))
    region = prepare(asked, measure_sky([asked]))
    first, second = judged_split(region, 4)
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(correlation) < 4.5 / 512


def test_the_error_table_finds_the_error_behind_noisy_squares():
    rng = np.random.default_rng(4)
    predictors = rng.uniform(0.1, 1.0, 400_000)
    table = calibrate(predictors, (2 * predictors * rng.standard_normal(400_000)) ** 2)
    assert list(table.errors) == sorted(table.errors)
    asked = torch.tensor([0.3, 0.6, 0.9])
    np.testing.assert_allclose(table.look_up(asked), 2 * asked, rtol=0.1)


def test_errors_rise_with_what_comes_through_though_their_estimates_scatter():
    told = evidence(lost=1.0, pixels=20_000)
    falling = dataclasses.replace(told, rehearsed=told.rehearsed[:, np.argsort(-told.predictor)])
    order = np.argsort(told.predictor)
    falling = dataclasses.replace(falling, predictor=told.predictor[order])
    errors = tabulate(falling).errors
    assert len(errors) > 5
    assert list(errors) == sorted(errors)


def test_light_around_a_pixel_is_that_of_its_stars_too():
    one = torch.ones(1, 1, 20, 30)
    torch.testing.assert_close(light_of(3 * one, 5 * one, 2 * one), 4 * one)


def test_pixels_whose_light_is_not_known_tell_nothing():
    told, light = evidence(lost=1.0, pixels=4000), np.linspace(0.0, 5.0, 4000)
    light[::3] = np.nan
    some = told.of(np.flatnonzero(np.isfinite(light)))
    assert tabulate_by_light(told, light) == tabulate_by_light(some, light[np.isfinite(light)])


def test_what_networks_are_unsure_of_adds_to_the_noise_that_comes_through():
    one = torch.ones(1, 1, 20, 30)
    none = torch.zeros_like(one)
    for response, scatter, spread in ((3, 0, 3.0), (0, 4, 4.0), (3, 4, 5.0)):
        found = spread_predictor(none + response, none + scatter)
        torch.testing.assert_close(found, spread * one)


def test_the_error_table_stays_positive_where_the_estimate_is_negative():
    table = calibrate(np.linspace(0, 1, 5000), np.full(5000, -0.3))
    assert all(error > 0 for error in table.errors)


def evidence(*, lost, pixels=200_000, seed=5):
    """Errors of 0.2 to 1 by predictor; `lost` times as large in truth as when rehearsed."""
    rng = np.random.default_rng(seed)
    predictor = rng.uniform(0.2, 1.0, pixels)
    rehearsed = np.abs(predictor * rng.standard_normal((2, pixels)))
    smooth_noise = 0.28 * rng.standard_normal(pixels)
    error = 0.5 * lost * predictor * rng.standard_normal(pixels)
    measured = (error - smooth_noise) ** 2 - 0.28**2 + 2 * error * smooth_noise
    smooth_squares = (0.5 * rehearsed**2).mean(axis=0) / 2
    return Evidence(predictor, rehearsed, smooth_squares, measured, np.zeros(pixels))


@pytest.mark.parametrize("lost", [1.0, 1.5, 2.0])
def test_what_rehearsals_miss_is_measured(lost):
    table = tabulate(evidence(lost=lost))
    asked = torch.tensor([0.3, 0.6, 0.9])
    np.testing.assert_allclose(table.look_up(asked), lost * asked, rtol=0.1)


def test_sources_fall_short_of_the_rehearsal_by_a_factor_of_their_own():
    dark, lit = evidence(lost=1.0), evidence(lost=2.0, pixels=40_000)
    both = Evidence.joined([dark, lit])
    light = np.concatenate([np.zeros(200_000), np.full(40_000, 5.0)])
    errors = tabulate_by_light(both, light)
    asked = torch.tensor([0.3, 0.6, 0.9])
    for level, lost in ((-1.0, 1.0), (0.0, 1.0), (5.0, 2.0), (50.0, 2.0)):
        found = errors.look_up(asked, torch.full((3,), level))
        np.testing.assert_allclose(found, lost * asked, rtol=0.13)
    assert errors.edges == (3.0,)
    between = errors.look_up(asked, torch.full((3,), 3.0))
    assert bool((between > 1.1 * asked).all() & (between < 1.9 * asked).all())


def test_cores_of_stars_fall_short_by_more_than_their_skirts():
    parts = [evidence(lost=lost, pixels=60_000) for lost in (1.0, 1.4, 2.0)]
    light = np.repeat([10.0, 40.0, 200.0], 60_000)
    errors = tabulate_by_light(Evidence.joined(parts), light)
    asked = torch.tensor([0.3, 0.6, 0.9])
    for level, lost in ((10.0, 1.0), (40.0, 1.4), (200.0, 2.0)):
        found = errors.look_up(asked, torch.full((3,), level))
        np.testing.assert_allclose(found, lost * asked, rtol=0.13)


def test_too_few_lit_pixels_share_the_table_of_the_dark():
    errors = tabulate_by_light(evidence(lost=1.5), np.where(np.arange(200_000) < 350, 9.0, 0.0))
    assert len(errors.tables) == 1
    few = tabulate_by_light(evidence(lost=1.5, pixels=100), np.linspace(0, 9, 100))
    assert len(few.tables) == 1


def test_where_nothing_can_be_measured_the_rehearsal_counts():
    table = tabulate(evidence(lost=1.0, pixels=50))
    assert float(table.look_up(torch.tensor([0.6]))) == pytest.approx(0.6, rel=0.4)
    assert tabulate(Evidence(np.zeros(0), np.zeros((2, 0)), *[np.zeros(0)] * 3))


def test_on_a_small_calm_sky_chance_does_not_decide_the_error():
    """Errors far below the noise, known to half of their squares: usually rehearsals exaggerate."""
    for seed in range(12):
        calm = evidence(lost=0.87, pixels=40_000, seed=seed)
        rng = np.random.default_rng(seed)
        chance = 0.6 * calm.rehearsed_smooth.mean() * rng.standard_normal()
        drowned = chance + 60 * calm.rehearsed_smooth.mean() * rng.standard_normal(40_000)
        measured = 0.87**2 * calm.rehearsed_smooth + drowned
        errors = tabulate_by_light(
            dataclasses.replace(calm, measured_smooth=measured), np.zeros(40_000)
        )
        asked = torch.tensor([0.3, 0.6, 0.9])
        np.testing.assert_allclose(errors.look_up(asked, torch.zeros(3)), 0.87 * asked, rtol=0.13)


def test_a_single_pixel_gives_a_finite_error():
    known = [np.array([value]) for value in (0.04, 0.05, 0.0)]
    one = Evidence(np.array([0.5]), np.array([[0.2], [0.3]]), *known)
    assert np.isfinite(tabulate(one).errors).all()


def test_a_rehearsal_that_overflows_does_not_take_the_errors_of_all_with_it():
    whole = evidence(lost=1.5)
    rehearsed = whole.rehearsed.copy()
    rehearsed[0, :50] = np.nan
    broken = dataclasses.replace(whole, rehearsed=rehearsed)
    asked = torch.tensor([0.3, 0.6, 0.9])
    found = tabulate_by_light(broken, np.zeros(200_000)).look_up(asked, torch.zeros(3))
    np.testing.assert_allclose(found, 1.5 * asked, rtol=0.1)


def said_of(region, plain, moved=None, scatter=0.0, seed=4):
    """What networks might say of a region."""
    nothing = torch.zeros_like(plain)
    probe = draw(*plain.shape, seed=seed)
    moved = plain if moved is None else moved(probe)
    return Answers(plain, moved, nothing + scatter, probe, (nothing, nothing))


@pytest.fixture
def sky(problem, law):
    """A region of even sky."""
    noise = 12 * np.random.default_rng(2).standard_normal((128, 128))
    asked = problem((200 + noise).astype(np.float32), law.sensor())
    return prepare(asked, measure_sky([asked]))


def test_what_views_disagree_about_is_told_in_the_noise_of_its_own_light(sky):
    plain = torch.full_like(sky.observed, 400.0)
    sigma = sky.noise.sigma(plain)
    assert float(sigma.min()) > 3
    delivery = judged(said_of(sky, plain, scatter=3 * sigma), sky)
    torch.testing.assert_close(delivery.predictor, torch.full_like(plain, 3.0))


def test_the_risk_of_a_trial_counts_what_of_the_noise_it_follows(sky):
    level = torch.zeros_like(sky.observed)
    left = ((sky.observed / sky.noise.sigma(level)) ** 2).mean()
    still = _trial(said_of(sky, level), sky).risk_of((level, level))
    assert float(still.mean()) == pytest.approx(float(left), rel=1e-5)
    same = said_of(sky, level)
    risk = _trial(same, sky).risk_of((sky.observed, moved_by(sky, same.probe)))
    assert float(risk.mean()) == pytest.approx(2.0, abs=0.1)


def test_trust_goes_by_the_light_of_stars_and_by_no_pixel_that_is_not_trusted(sky):
    stars, trusted = torch.zeros_like(sky.observed), torch.ones_like(sky.observed)
    stars[..., :40], trusted[..., 100:] = 300.0, 0.0
    region = dataclasses.replace(sky, stars=stars, trusted=trusted)
    plain = torch.zeros_like(stars)
    plain[..., 110:] = 9e4
    knots = choose_restraint([said_of(region, plain)], [region]).knots
    assert 200 < max(knots) < 1000


def test_light_that_was_lost_is_looked_for_in_as_much_as_it_takes_and_in_something():
    def of_pixels(*counts):
        return [(Answers(*[torch.zeros(count)] * 4, ()), None) for count in counts]

    assert len(_first_pixels(of_pixels(300_000, 9))) == 1
    assert len(_first_pixels(of_pixels(*[100_000] * 5))) == 3
    assert len(_first_pixels(of_pixels(7, 9))) == 2


def test_a_trial_goes_by_the_light_of_stars_that_were_taken_off(sky):
    said = said_of(sky, torch.zeros_like(sky.observed))
    starry = dataclasses.replace(sky, stars=sky.stars + 7.0)
    more = _trial(said, starry).brightness - _trial(said, sky).brightness
    torch.testing.assert_close(more, 7.0 / sky.noise.sigma(said.plain))


def test_light_that_is_put_back_into_a_moved_image_comes_from_the_moved_observation(sky):
    said = said_of(sky, 50 * smooth(draw(*sky.observed.shape, seed=3), 2.0))
    plain, moved = _put_back(LostLight((0.0,), (0.7,), (1.0,)), said, sky)
    response = (moved - plain) / (PROBE_SIGMA * sky.sigma)
    assert float((said.probe * response).mean()) > 0.1
