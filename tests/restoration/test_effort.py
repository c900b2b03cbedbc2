import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering.asking import ask_networks
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import (
    SPENDING,
    VIEW_COUNTS,
    Effort,
    FitOptions,
    InputKind,
    NetworkKind,
)
from dip_pipeline.restoration.views.features import ANSWER_CHANNELS, FEATURE_CHANNELS
from dip_pipeline.restoration.views.regions import measure_sky, prepare


def test_every_input_has_every_effort_and_more_effort_is_never_less_work():
    assert set(SPENDING) == set(InputKind)
    for efforts in SPENDING.values():
        assert list(efforts) == list(Effort)
        spent = list(efforts.values())
        assert [item.steps for item in spent] == sorted({item.steps for item in spent})
        assert [item.views for item in spent] == sorted(item.views for item in spent)
        assert {item.views for item in spent} <= set(VIEW_COUNTS)


@pytest.mark.parametrize("effort", list(Effort))
def test_what_is_asked_for_outranks_the_effort(effort):
    plain = FitOptions(effort=effort)
    spent = SPENDING[InputKind.IMAGE][effort]
    assert (plain.step_limit, plain.view_count) == (spent.steps, spent.views)
    asked = FitOptions(effort=effort, steps=7, views=2)
    assert (asked.step_limit, asked.view_count) == (7, 2)


@pytest.mark.parametrize("views", [0, 3, 16])
def test_views_are_turns_or_the_whole_dihedral_group(views):
    with pytest.raises(RestorationError, match="need one of"):
        FitOptions(views=views)


@pytest.fixture(scope="module")
def answered(problem, law):
    """What a network says of a turned or mirrored field with holes, turned back."""
    rng = np.random.default_rng(2)
    field, holes = rng.normal(100, 10, (48, 64)), rng.uniform(size=(48, 64)) < 0.03
    network = build_network(NetworkKind.UNET, FEATURE_CHANNELS, ANSWER_CHANNELS, seed=1)
    torch.nn.init.normal_(network.last.weight, std=0.05)

    def answer(views, *, turned=0, mirrored=False):
        planes = [plane[:, ::-1] if mirrored else plane for plane in (field, holes)]
        pixels, masked = (np.rot90(plane, turned) for plane in planes)
        options = FitOptions(views=views)
        asked = problem(pixels, law.sensor(), masked=masked, options=options)
        region = prepare(asked, measure_sky([asked]))
        share = torch.ones_like(region.observed)
        plain = ask_networks([network], [share], region, options, seed=1).plain
        back = np.rot90(plain[0, 0].numpy(), -turned)
        return back[:, ::-1] if mirrored else back

    return answer


@pytest.mark.parametrize("turned", [0, 1, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_with_all_eight_views_the_result_turns_with_the_frame(answered, turned, mirrored):
    """A view put back in another way than it was taken would show here."""
    moved = answered(8, turned=turned, mirrored=mirrored)
    np.testing.assert_allclose(moved, answered(8), rtol=0, atol=2e-3)
    if turned or mirrored:
        assert np.abs(answered(1, turned=turned, mirrored=mirrored) - answered(1)).max() > 0.05


def test_the_effort_reaches_the_fit(problem, law):
    pixels = np.random.default_rng(1).normal(0, 1, (32, 32))
    options = FitOptions(effort=Effort.BEST, steps=3)
    told = []
    fit_prior(
        [problem(pixels, law.gaussian(1.0), options=options)],
        (32, 32),
        seed=1,
        on_step=lambda *step: told.append(step[:2]),
    )
    assert told[-1] == (12, 12)  # four networks
