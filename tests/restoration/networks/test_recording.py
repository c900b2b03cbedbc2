"""Laws of recorded steps: the same fit, whether a GPU plays a recording or takes step by step."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.fits import finer_picture, fit_code, stack_steps
from dip_pipeline.restoration.fits.finer_picture import FinerOptions, draw_finer
from dip_pipeline.restoration.fits.fit_code import fit_code_network
from dip_pipeline.restoration.networks.recording import Recorded, adam, repeated, set_rate
from dip_pipeline.restoration.priors.packets import fit_priors
from dip_pipeline.restoration.problem import Effort, FitOptions, InputKind, Scope
from dip_pipeline.restoration.views.regions import measure_sky, prepare

STEPS = 6
USERS = (stack_steps, fit_code, finer_picture)


def fit_a_stack(tile, device):
    options = FitOptions(scope=Scope.TILE, steps=STEPS, effort=Effort.FAST)
    (prior,) = fit_priors([tile(options, device)])
    return weights_of(prior.networks)


def fit_a_code(tile, device):
    options = FitOptions(input=InputKind.CODE, steps=STEPS)
    # Two shapes of parts: two recordings take turns, and share what the optimiser remembers.
    problems = [tile(options, device, rows) for rows in (64, 48)]
    scale = measure_sky(problems)
    regions = [prepare(one, scale) for one in problems]
    fitted = fit_code_network(regions, options, seed=3, device=device, judged=True)
    return weights_of([fitted.network])


def draw_a_picture(tile, device):
    rows, cols = np.indices((32, 40))
    picture = 0.2 + 0.6 * np.exp(-((rows - 14) ** 2 + (cols - 18) ** 2) / 60)[None]
    steps = STEPS if device == "cpu" else 40  # the first few go anywhere, by the last bit
    return draw_finer(picture, 2, FinerOptions(steps=steps), seed=1, device=device).ravel()


def weights_of(networks):
    return torch.cat([w.detach().cpu().flatten() for n in networks for w in n.parameters()]).numpy()


FITS = [fit_a_stack, fit_a_code, draw_a_picture]


@pytest.fixture
def tile(problem, law):
    pixels = 100 + 5 * np.random.default_rng(4).standard_normal((64, 64))
    pixels[30:34, 20:24] += 300

    def make(options, device, rows=64):
        noise = law.sensor()
        return problem(pixels[:rows], noise, options=options, seed=7, device=device)

    return make


@pytest.mark.parametrize("fit", FITS)
def test_where_steps_cannot_be_recorded_the_fit_is_the_same_but_slower(
    tile, fit, monkeypatch, caplog
):
    wanted = fit(tile, "cpu")

    def disturbed(recorded):
        for _ in range(3):
            recorded._step()
        raise failure

    monkeypatch.setattr(Recorded, "_record", disturbed)
    for user in USERS:
        monkeypatch.setattr(user, "repeated", Recorded)
    failure = RuntimeError("operation not permitted when stream is capturing")
    assert fit(tile, "cpu").tobytes() == wanted.tobytes()
    assert "not permitted" in caplog.text
    failure = torch.cuda.OutOfMemoryError("no room")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fit(tile, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("fit", FITS)
def test_on_a_gpu_a_recorded_fit_is_that_of_steps_one_by_one(tile, fit, monkeypatch, caplog):
    recorded = fit(tile, "cuda")
    assert caplog.text == ""
    for user in USERS:
        monkeypatch.setattr(user, "repeated", lambda step, *_: step)
    apart = fit(tile, "cuda")
    assert np.std(recorded - apart) < 0.25 * np.std(apart)


def test_a_rate_is_set_in_either_form():
    weight = torch.nn.Parameter(torch.zeros(3))
    plain = adam([weight], 0.1)
    with_tensor = torch.optim.SGD([weight], torch.tensor(0.1))
    for optimiser in (plain, with_tensor):
        place = optimiser.param_groups[0]["lr"]
        set_rate(optimiser, 0.25)
        assert float(optimiser.param_groups[0]["lr"]) == 0.25
    assert optimiser.param_groups[0]["lr"] is place  # a recording goes on reading there


def test_elsewhere_a_step_is_taken_as_it_is():
    def step():
        return torch.zeros(())

    assert repeated(step, [torch.zeros(1)], []) is step
