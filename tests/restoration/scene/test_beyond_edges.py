"""Beyond a frame's edges nothing is known: what shines there is no star in the frame."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.beyond_edges import beyond_edges
from dip_pipeline.restoration.scene.prior import fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.simulate import DetectorOptions, MoffatPsf
from dip_pipeline.task import Task

SIDE = 64
SKY = 200.0


def asked_of(problem, law, level, *, factor=1, steps=40, **more):
    offsets = np.arange(-9.0 * factor, 9.0 * factor + 1)
    light = MoffatPsf(3.0 * factor).density(offsets[:, None], offsets[None, :])
    rng = np.random.default_rng(4)
    observed = level + DetectorOptions().sigma_dn(level) * rng.standard_normal(level.shape)
    return problem(
        observed.astype(np.float32),
        law.sensor(),
        options=FitOptions(steps=steps, views=2, task=Task.DECONVOLVE),
        optics=Optics(factor, (light / light.sum()).astype(np.float32), summed=False),
        **more,
    )


def test_a_star_beyond_the_edge_is_not_taken_for_one_within(problem, law):
    """Its middle is 2 px outside: what is seen of it stays as it is seen, and claims no error."""
    rows, cols = np.indices((SIDE, SIDE))
    star = MoffatPsf(3.0).density(rows - 30.0, cols + 2.0)
    asked = asked_of(problem, law, SKY + 4e5 * star, steps=8)
    seen = asked.pixels.max() - SKY
    assert restore_scene(asked).science.max() - SKY > 2 * seen
    result = restore_scene(beyond_edges(asked, asked.pixels.shape))
    assert result.science.shape == asked.pixels.shape
    off = np.abs(result.science - SKY)
    assert off.max() < 1.02 * seen
    assert np.isnan(result.error[off > 100]).all()
    assert np.isfinite(result.error[:, 12:]).all()
    assert off[:, 24:].max() < 60


@pytest.mark.parametrize(("factor", "reach"), [(1, 8), (2, 9)])
def test_only_where_a_region_ends_at_an_edge_of_its_frame(problem, law, factor, reach):
    level = np.full((SIDE, SIDE), SKY)
    whole = asked_of(problem, law, level, factor=factor, error=np.ones((SIDE, SIDE), np.float32))
    part = replace(whole, origin=(0, 40), inner=(slice(None), slice(8, 60)))
    found = beyond_edges(part, (SIDE, 200))
    assert found.pixels.shape == found.error.shape == (SIDE + 2 * reach, SIDE)
    assert found.origin == (-reach, 40)
    assert found.inner == (slice(reach, reach + SIDE), slice(8, 60))
    np.testing.assert_array_equal(found.pixels[reach:-reach], part.pixels)
    np.testing.assert_array_equal(found.valid[reach:-reach], part.valid)
    assert not found.valid[:reach].any()
    assert not found.valid[-reach:].any()
    amid = replace(part, origin=(40, 40))
    assert beyond_edges(amid, (200, 200)) is amid


def test_none_without_a_psf(problem, law):
    asked = asked_of(problem, law, np.full((SIDE, SIDE), SKY))
    for other in (
        replace(asked, optics=None),
        replace(asked, optics=Optics(2)),
    ):
        assert beyond_edges(other, other.pixels.shape) is other


def test_as_many_as_the_psf_reaches_along_each_axis_whichever_way(problem, law):
    """Light of a star above the frame comes down, and of one below it does not; a ring of a PSF
    takes light away. Both ends have room for as much as the farther side of it reaches."""
    light = np.zeros((21, 21), np.float32)
    light[10, 10], light[2, 10], light[10, 15], light[20, 20] = 1.0, 0.01, -0.01, 1e-5
    asked = asked_of(problem, law, np.full((SIDE, SIDE), SKY))
    found = beyond_edges(replace(asked, optics=Optics(1, light)), (SIDE, SIDE))
    assert found.pixels.shape == (SIDE + 16, SIDE + 10)
    assert found.origin == (-8, -5)
    assert found.inner == (slice(8, 8 + SIDE), slice(5, 5 + SIDE))
    assert not found.saturated.any()  # nothing shines there that was clipped
    last = replace(asked, origin=(40, 20), optics=Optics(1, light))
    found = beyond_edges(last, (40 + SIDE, 20 + SIDE))
    assert found.pixels.shape == (SIDE + 8, SIDE + 5)
    assert found.origin == (40, 20)
    np.testing.assert_array_equal(found.pixels[:SIDE, :SIDE], asked.pixels)
    endless = np.full((1, 201), 1 / 201, np.float32)
    wide = beyond_edges(replace(asked, optics=Optics(1, endless)), (SIDE, SIDE))
    assert wide.pixels.shape == (SIDE, SIDE + 64)


def test_the_room_is_no_hole_that_the_fit_learns_to_fill(problem, law, monkeypatch):
    asked = asked_of(problem, law, np.full((SIDE, SIDE), SKY))
    asked = beyond_edges(asked, asked.pixels.shape)
    asked = replace(asked, options=replace(asked.options, steps=3))
    chosen, choose = [], CropSource.choose

    def watched(source, **more):
        chosen.append(choose(source, **more))
        return chosen[-1]

    monkeypatch.setattr(CropSource, "choose", watched)
    fit_scene_prior([asked], (SIDE, SIDE), seed=1)
    assert len(chosen) > 10
    assert all(crop.pattern is None for crop in chosen)
