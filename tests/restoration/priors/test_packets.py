"""Laws of a packet: what is fitted beside others equals what is fitted alone, whoever they are."""

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.fits import cross_fitting, stacked
from dip_pipeline.restoration.fits import fit_image as alone
from dip_pipeline.restoration.priors.packets import fit_priors
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, InputKind, Scope, StopReason
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.crops import Batch
from dip_pipeline.restoration.views.lessons import by_thinning
from dip_pipeline.restoration.views.regions import PixelNoise
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate

OPTIONS = FitOptions(scope=Scope.TILE, steps=3, views=1, effort=Effort.FAST)
FOUR = FitOptions(scope=Scope.TILE, steps=3, views=1)  # networks


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    """In bfloat16, or TensorFloat-32, rounding alone would hide what these tests look for."""
    monkeypatch.setattr(alone, "_has_bfloat16", lambda _: False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def tiles(problem, law):
    """Cuts of a crowded field with defects, each a problem of its own."""
    scene = SceneOptions("crowded", shape=(128, 192), seed=3, saturated_star=False)
    simulation = simulate(scene, DetectorOptions(gain_e_per_dn=2.0, read_noise_e=6.0))

    def cut(row, col, rows=32, cols=32, *, options=OPTIONS, noise=None, **more):
        window = slice(row, row + rows), slice(col, col + cols)
        return problem(
            simulation.observed_dn[window],
            noise or law.sensor(),
            options=options,
            masked=simulation.masked[window],
            origin=(row, col),
            seed=row + col + 7,
            **more,
        )

    return cut


def image(tile, prior):
    restored = restore(tile, prior)
    return restored.science, restored.error, restored.flags


def in_sigma(tile, ours, theirs):
    """Largest difference, in units of the sky's scatter; NaN where both are."""
    scatter = np.nanstd(np.diff(tile.pixels)) / 2**0.5
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    return float(np.nanmax(np.abs(ours - theirs)) / scatter)


def test_each_of_a_packet_is_what_it_is_alone_up_to_rounding(tiles, law):
    """Sizes, and the correlation of the noise, may differ from one to the next."""
    packet = [
        tiles(0, 0),
        tiles(0, 64, rows=28, cols=36),
        tiles(64, 0, noise=law.correlated(law.sensor())),
    ]
    for tile, prior in zip(packet, fit_priors(packet), strict=True):
        assert isinstance(prior, Prior)
        ours, error, flags = image(tile, prior)
        theirs, its_error, its_flags = image(tile, None)
        assert in_sigma(tile, ours, theirs) < 0.02
        np.testing.assert_allclose(error, its_error, rtol=0.05)
        np.testing.assert_array_equal(flags, its_flags)
        assert in_sigma(tile, ours, tile.pixels) > 0.5  # something was done


def test_it_does_not_matter_who_the_others_are(tiles):
    one = tiles(0, 0)
    among = [fit_priors([one, tiles(64, 64)])[0]]
    among += [fit_priors([one, tiles(33, 7)])[0]]
    first, second = (image(one, prior) for prior in among)
    for ours, theirs in zip(first, second, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_it_does_not_matter_how_many_steps_are_laid_out_at_once(tiles, monkeypatch):
    tile = tiles(0, 0)
    (each,) = fit_priors([tile])
    monkeypatch.setitem(stacked._CROPS_AT_ONCE, "cpu", 2 * 2 * 2)  # two of three steps
    (several,) = fit_priors([tile])
    assert in_sigma(tile, image(tile, each)[0], image(tile, several)[0]) < 0.02


def test_a_stack_of_the_networks_of_a_frame_is_what_they_are_side_by_side(tiles, monkeypatch):
    """As a GPU fits them; steps are told of as of one fit."""
    tile = tiles(0, 0, options=FOUR)
    apart = fit_prior([tile], tile.pixels.shape, seed=tile.seed)
    told = []
    monkeypatch.setattr(cross_fitting, "stacks_pay", lambda *_: True)
    stack = fit_prior(
        [tile],
        tile.pixels.shape,
        seed=tile.seed,
        on_step=lambda *now: told.append(now[:2]),
    )
    assert in_sigma(tile, image(tile, apart)[0], image(tile, stack)[0]) < 0.02
    assert told == [(step, 3) for step in range(1, 4)]


def test_a_frame_that_cannot_be_fitted_in_a_stack_is_tried_again(tiles, monkeypatch):
    tile, tried = tiles(0, 0), []
    monkeypatch.setattr(cross_fitting, "stacks_pay", lambda *_: True)
    monkeypatch.setattr(alone, "_RISK_OF_A_GOOD_FIT", -1.0)  # nothing is good enough

    def fit(fit_on, judge_on, options, *, seed, on_step):
        tried.append(seed)
        return real(fit_on, judge_on, options, seed=seed, on_step=on_step)

    real = alone.fit_image_network
    monkeypatch.setattr(cross_fitting, "fit_image_network", fit)
    fitted = fit_prior([tile], tile.pixels.shape, seed=tile.seed)
    assert len(set(tried)) == len(fitted.networks) == 2


def test_one_that_cannot_be_fitted_is_an_error_of_its_own(tiles, problem, law):
    empty = np.ones((64, 64), bool)
    nothing = problem(np.ones((64, 64)), law.sensor(), options=OPTIONS, masked=empty)
    small = problem(np.ones((8, 64)), law.sensor(), options=OPTIONS)
    results = fit_priors([nothing, tiles(0, 0), small])
    assert [type(result) for result in results] == [RestorationError, Prior, RestorationError]


def test_one_whose_fit_fails_is_tried_again_alone_and_disturbs_nobody(tiles, monkeypatch):
    """As it would be tried again without a packet."""
    packet = [tiles(0, 0), tiles(64, 64)]
    undisturbed = [
        image(tile, prior) for tile, prior in zip(packet, fit_priors(packet), strict=True)
    ]
    tried = []
    real = alone.fit_image_network

    def fit(*arguments, **options):
        tried.append(options["seed"])
        return real(*arguments, **options)

    risk = alone._Jury.risk
    bad = alone._Jury.__init__

    def spoilt(self, judge_on, generator):
        bad(self, judge_on, generator)
        self.spoilt = judge_on.regions[0].origin == (64, 64) and not tried

    monkeypatch.setattr(alone._Jury, "__init__", spoilt)
    monkeypatch.setattr(alone._Jury, "risk", lambda s, n: 99.0 if s.spoilt else risk(s, n))
    monkeypatch.setattr(alone, "fit_image_network", fit)
    again = fit_priors(packet)
    assert len(tried) == 2  # its networks
    assert again[1].report.stop_reason is not StopReason.DIVERGED
    first = image(packet[0], again[0])
    assert [plane.tobytes() for plane in first] == [p.tobytes() for p in undisturbed[0]]
    assert in_sigma(packet[1], image(packet[1], again[1])[0], undisturbed[1][0]) < 0.02


def test_a_fit_from_a_code_is_the_one_alone_byte_for_byte(tiles):
    options = FitOptions(input=InputKind.CODE, scope=Scope.TILE, steps=3)
    tile = tiles(0, 0, rows=32, cols=32, options=options)
    (prior, _) = fit_priors([tile, tile])
    assert image(tile, prior)[0].tobytes() == image(tile, None)[0].tobytes()


@pytest.mark.gpu
def test_on_a_gpu_a_packet_is_what_each_is_alone(tiles):
    assert torch.cuda.is_available()
    packet = [tiles(0, 0, device="cuda"), tiles(64, 64, device="cuda")]
    for tile, prior in zip(packet, fit_priors(packet), strict=True):
        assert in_sigma(tile, image(tile, prior)[0], image(tile, None)[0]) < 0.2


@pytest.mark.gpu
def test_on_a_gpu_a_frame_comes_out_the_same_each_time_and_as_on_a_cpu(problem, law):
    assert torch.cuda.is_available()
    scene = SceneOptions("crowded", shape=(128, 160), seed=3, saturated_star=False)
    simulation = simulate(scene, DetectorOptions(gain_e_per_dn=2.0, read_noise_e=6.0))
    options = FitOptions(steps=60, views=8)

    def restored(device):
        pixels, masked = simulation.observed_dn, simulation.masked
        noise = law.sensor()
        tile = problem(pixels, noise, options=options, masked=masked, seed=5, device=device)
        return image(tile, None)[0]

    first, again, here = restored("cuda"), restored("cuda"), restored("cpu")
    assert first.tobytes() == again.tobytes()
    off = (first - simulation.truth_dn) / np.nanstd(np.diff(simulation.observed_dn))
    its = (here - simulation.truth_dn) / np.nanstd(np.diff(simulation.observed_dn))
    good = ~simulation.masked
    assert np.std(off[good]) < 1.1 * np.std(its[good])


def test_few_counts_are_split_in_a_packet_as_they_are_alone():
    """Step by step, by the generator of each network."""
    steps, crops = 3, 3 * alone._PAIRS
    one, number = torch.ones(crops, 1, 16, 16), torch.ones(crops, 1, 1, 1)
    noise = PixelNoise(0 * one, number, 0 * number, counted=True)
    batches = [
        Batch(torch.poisson(2 * one, torch.Generator().manual_seed(seed)), *[one] * 4, noise)
        for seed in (1, 2)
    ]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    drawn = stacked._drawn(batches, stacked._joined(batches), generators, steps)
    apart = drawn.reshape(2, len(batches), steps, alone._PAIRS, 1, 16, 16)
    for place, (batch, seed) in enumerate(zip(batches, (3, 4), strict=True)):
        generator = torch.Generator().manual_seed(seed)
        for step, observed in enumerate(batch.observed.split(alone._PAIRS)):
            part = PixelNoise(*(plane[: alone._PAIRS] for plane in (0 * one, number, 0 * number)))
            expected = by_thinning(observed, part, generator).chunk(2)
            for way in range(2):
                assert torch.equal(apart[way, place, step], expected[way])
