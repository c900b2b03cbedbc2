import dataclasses

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering import asking
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_bytes import errors_record, read_errors
from dip_pipeline.restoration.priors.shared_prior import SharedPrior, fit_shared_prior
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate

SHAPE = (128, 128)
SMALL = (64, 64)


@pytest.fixture(scope="module")
def frame(problem, law):
    """A crowded frame by its seed, with a gain of its own; the problem and its simulation."""

    def draw(seed, gain, sky_dn=200.0, *, shape=SHAPE):
        scene = SceneOptions("crowded", shape=shape, seed=seed, sky_dn=sky_dn)
        simulation = simulate(scene, DetectorOptions(gain_e_per_dn=gain, read_noise_e=6.0))
        asked = problem(
            simulation.observed_dn,
            law.sensor(gain=gain),
            options=FitOptions(steps=50),
            masked=simulation.masked & ~simulation.saturated,
            saturated=simulation.saturated,
        )
        return asked, simulation

    return draw


@pytest.fixture(scope="module")
def two_frames(frame):
    """Of other skies, gains and levels."""
    return frame(1, 2.0), frame(2, 1.2, sky_dn=900.0)


@pytest.fixture(scope="module")
def shared(two_frames):
    frames = [([asked], SHAPE) for asked, _ in two_frames]
    return fit_shared_prior(frames, seed=3, origin={"frames": ["a", "b"], "note": None})


@pytest.fixture(scope="module")
def bound(shared, frame):
    """A small frame, and what it is restored with."""
    asked, _ = frame(7, 1.6, shape=SMALL)
    return asked, shared.bound_to([asked], SMALL, seed=5, seen=False)


def true_risk(restored, simulation):
    judged = ~simulation.masked & ~simulation.saturated
    wrong = (restored.science - simulation.truth_dn) / simulation.sigma_true_dn
    return float(np.mean(wrong[judged] ** 2))


def apply(shared, asked, *, seen):
    prior = shared.bound_to([asked], SHAPE, seed=5, seen=seen)
    return prior, restore(asked, prior)


def test_on_a_frame_that_it_never_saw_the_risk_is_honest_and_low(shared, frame):
    asked, simulation = frame(7, 1.6, sky_dn=400.0)
    prior, restored = apply(shared, asked, seen=False)
    outcome = restored.outcome
    assert prior.cross_fit is None
    assert outcome.risk == pytest.approx(
        true_risk(restored, simulation), abs=4 * outcome.risk_error
    )
    assert outcome.risk < 0.4
    error = restored.error[asked.valid]
    wrong = np.abs(restored.science - simulation.truth_dn)[asked.valid]
    assert 0.4 < np.mean(wrong < error) < 0.85


def test_on_a_frame_that_it_was_fitted_on_each_network_is_used_where_it_was_not_fitted(
    shared, two_frames
):
    asked, simulation = two_frames[1]
    prior, restored = apply(shared, asked, seen=True)
    assert prior.cross_fit is not None
    outcome = restored.outcome
    assert outcome.risk == pytest.approx(
        true_risk(restored, simulation), abs=4 * outcome.risk_error
    )
    averaged = apply(shared, asked, seen=False)[1]
    assert averaged.science.tobytes() != restored.science.tobytes()


def test_of_both_networks_the_mean_is_taken_where_neither_has_seen_the_frame(bound, monkeypatch):
    # What the observation contradicts gives way to it: not in proportion.
    monkeypatch.setattr(asking, "believable", lambda estimated, *_: estimated)
    asked, prior = bound
    region = prepare(asked, prior.scale)
    alone = [
        dataclasses.replace(prior, networks=(network,))
        ._ask(region, asked.options, seed=1)
        .said.plain
        for network in prior.networks
    ]
    both = prior._ask(region, asked.options, seed=1).said.plain
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-5, atol=1e-3)
    assert not torch.equal(*alone)


def test_sky_restraint_and_errors_are_those_of_the_frame_at_hand(shared, frame):
    faint, bright = (
        frame(*of, sky_dn=sky_dn, shape=SMALL) for of, sky_dn in (((7, 1.6), 100), ((8, 0.8), 3e3))
    )
    priors = [shared.bound_to([asked], SMALL, seed=5, seen=False) for asked, _ in (faint, bright)]
    for prior, (asked, _) in zip(priors, (faint, bright), strict=True):
        assert prior.scale == measure_sky([asked])
    assert priors[0].errors != priors[1].errors
    assert priors[0].restraint != priors[1].restraint


def test_a_prior_comes_back_from_its_bytes(shared, bound):
    asked, prior = bound
    stored = shared.to_bytes()
    again = SharedPrior.from_bytes(stored)
    assert again.to_bytes() == stored
    assert again.origin == {"frames": ["a", "b"], "note": None}
    assert again.report == shared.report
    rebound = again.bound_to([asked], SMALL, seed=5, seen=False)
    first, second = (restore(asked, one) for one in (prior, rebound))
    assert first.science.tobytes() == second.science.tobytes()
    assert first.error.tobytes() == second.error.tobytes()


def test_a_prior_without_blocks_comes_back_from_its_bytes(bound):
    _, prior = bound
    again = Prior.from_bytes(prior.to_bytes())
    assert again.cross_fit is None
    assert again.to_bytes() == prior.to_bytes()
    assert len(prior.errors.lacking) == len(prior.errors.tables)
    assert again.errors == prior.errors


def test_errors_of_priors_that_did_not_measure_what_they_lack_are_read(bound):
    errors = bound[1].errors
    edges, tables, _ = errors_record(errors)
    assert read_errors([edges, tables]) == dataclasses.replace(errors, lacking=())


def test_the_prior_of_one_frame_is_no_prior_for_many_and_the_reverse(shared, bound):
    with pytest.raises(RestorationError, match="need dip-shared-prior"):
        SharedPrior.from_bytes(bound[1].to_bytes())
    with pytest.raises(RestorationError, match="need dip-prior"):
        Prior.from_bytes(shared.to_bytes())
    for spoilt in (b"", shared.to_bytes()[:-1], b"SIMPLE  =" + shared.to_bytes()):
        with pytest.raises(RestorationError, match="not a prior, or a damaged one"):
            SharedPrior.from_bytes(spoilt)


def test_the_weights_depend_on_the_frames_and_the_seed_alone(problem, law):
    rng = np.random.default_rng(1)
    frames = [
        ([problem(rng.normal(level, 9, (32, 32)), law.sensor())], (32, 32)) for level in (9, 90)
    ]
    first, again, other = (fit_shared_prior(frames, seed=seed).to_bytes() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_each_crop_has_the_noise_law_of_its_own_frame(two_frames):
    """Sigma of a crop follows from its own frame's gain, pedestal and sky."""
    regions = []
    for asked, _ in two_frames:
        regions.append(prepare(asked, measure_sky([asked])))
    slopes = {float(region.noise.slope) for region in regions}
    assert len(slopes) == 2
    zones = [torch.ones_like(region.known) for region in regions]
    batch = CropSource(regions, zones, np.random.default_rng(1)).draw(32)
    drawn = batch.noise.slope.flatten()
    assert {round(float(slope), 4) for slope in drawn} == {round(slope, 4) for slope in slopes}
    whole = [float((r.sigma / r.noise.sigma(r.observed)).median()) for r in regions]
    assert whole == pytest.approx([1, 1], abs=0.02)
    ratio = batch.sigma / batch.noise.sigma(batch.observed)
    assert ratio.flatten(1).median(dim=1).values.numpy() == pytest.approx(np.ones(32), abs=0.05)


def test_a_frame_without_anything_to_fit_is_refused(problem, law, frame):
    empty = problem(np.full(SHAPE, np.nan), law.sensor(), options=FitOptions(steps=2))
    with pytest.raises(RestorationError, match="no valid pixel"):
        fit_shared_prior([([frame(1, 2.0)[0]], SHAPE), ([empty], SHAPE)], seed=1)


def test_a_shared_prior_says_how_its_fit_went(shared):
    assert shared.report.steps == 50
    assert len(shared.report.risks) == 2
    assert shared.report.stop_reason in (StopReason.STEP_LIMIT, StopReason.JUDGED_RISK)
