"""Laws of saturated pixels: whatever they hold, nothing is fitted to it, judged by it or closed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.crops import CropSource
from dip_pipeline.restoration.flux import close_flux
from dip_pipeline.restoration.regions import measure_sky, prepare

SIDE = 64
CLIPPED = 5000.0


@pytest.fixture
def core(problem, law):
    """White noise with a clipped core, which holds a given value."""
    rng = np.random.default_rng(1)
    pixels = rng.normal(100, 5, (SIDE, SIDE))
    saturated = np.zeros((SIDE, SIDE), dtype=bool)
    saturated[20:30, 30:44] = True

    def built(value):
        filled = np.where(saturated, value, pixels)
        return problem(filled, law.sensor(), saturated=saturated)

    return built


def test_the_sky_is_measured_without_them(core):
    assert measure_sky([core(CLIPPED)]) == measure_sky([core(7 * CLIPPED)])


@pytest.mark.parametrize("value", [CLIPPED, 3e6])
def test_a_region_is_the_same_whatever_they_hold(core, value):
    first, other = (prepare(asked, measure_sky([asked])) for asked in (core(101.0), core(value)))
    for name in ("observed", "sigma", "known", "trusted"):
        assert torch.equal(getattr(first, name), getattr(other, name)), name
    assert float(other.observed.abs().max()) < 20


def test_no_crop_gives_them_any_weight(core):
    asked = core(CLIPPED)
    region = prepare(asked, measure_sky([asked]))
    marked = replace(region, observed=torch.where(region.trusted > 0, region.observed, 100.0))
    batch = CropSource([marked], [region.known], np.random.default_rng(2)).draw(40)
    clipped = batch.observed > 20
    assert clipped.any()
    assert float(batch.weight[clipped].abs().max()) == 0
    assert float(batch.known[clipped].abs().max()) == 0


def test_flux_closure_takes_nothing_from_them(core):
    closed = []
    for value in (CLIPPED, 7 * CLIPPED):
        asked = core(value)
        region = prepare(asked, measure_sky([asked]))
        flat = torch.zeros_like(region.observed)
        one = torch.ones_like(flat)
        closed.append(close_flux(flat, region.observed, one, region.trusted, 2.0))
    assert torch.equal(*closed)
