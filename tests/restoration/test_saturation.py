"""Laws of saturated pixels: whatever they hold, nothing is fitted to it, judged by it or closed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.delivering.inpainting import filled_simply
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.hiding_restore import restore_by_hiding
from dip_pipeline.restoration.images.flux import close_flux
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.restoration.scene.restore import in_blocks, restore_scene
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.task import Task

SIDE = 64
CLIPPED = 5000.0


def _filled_simply(asked):
    return filled_simply(asked, unchanged(asked, StopReason.DIVERGED))


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


@pytest.fixture
def ringed(problem, law):
    """Unknown pixels within a saturated square that is 48 px wide."""
    saturated = np.zeros((80, 80), dtype=bool)
    saturated[16:64, 16:64] = True
    masked = np.zeros_like(saturated)
    masked[38:42, 38:42] = True
    pixels = np.random.default_rng(4).normal(100, 5, saturated.shape)
    pixels[saturated] = CLIPPED
    return problem(pixels, law.sensor(), masked=masked, saturated=saturated & ~masked)


def test_what_only_they_surround_is_not_known(ringed):
    """They say nothing of their neighbours: 24 px from any other pixel nothing is restored."""
    restored = restore(ringed)
    assert np.isnan(restored.science[ringed.masked]).all()
    assert (restored.flags[ringed.masked] == PixelFlag.LOW_CONFIDENCE).all()
    np.testing.assert_array_equal(restored.science[ringed.saturated], np.float32(CLIPPED))


def test_nor_is_it_on_finer_pixels(ringed):
    asked = replace(
        ringed, optics=Optics(2), options=replace(ringed.options, task=Task.SUPER_RESOLVE)
    )
    restored = restore_scene(asked)
    masked, saturated = (in_blocks(plane, 2) for plane in (ringed.masked, ringed.saturated))
    assert np.isnan(restored.science[masked]).all()
    assert (restored.flags[masked] == PixelFlag.LOW_CONFIDENCE).all()
    assert np.isfinite(restored.science[saturated]).all()


def test_a_hole_that_only_they_surround_is_filled_as_far_from_all(ringed):
    options = replace(ringed.options, task=Task.INPAINT)
    restored = restore(replace(ringed, options=options))
    assert np.isfinite(restored.science[ringed.masked]).all()
    assert (restored.flags[ringed.masked] & PixelFlag.LOW_CONFIDENCE).all()


@pytest.mark.parametrize("fill", [restore_by_hiding, _filled_simply], ids=["hiding", "failed"])
def test_a_hole_is_the_same_whatever_they_hold(ringed, fill):
    beside = ringed.masked.copy()
    beside[10:14, 40:44] = True
    asked = replace(ringed, masked=beside)
    brighter = replace(asked, pixels=np.where(asked.saturated, 9 * CLIPPED, asked.pixels))
    first, other = fill(asked), fill(brighter)
    np.testing.assert_array_equal(first.science[beside], other.science[beside])
    np.testing.assert_array_equal(other.science[asked.saturated], np.float32(9 * CLIPPED))
