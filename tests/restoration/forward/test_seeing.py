"""Exposures of different seeing give the scene of the sharpest, its stars with all their light."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.exposures.combining import combined
from dip_pipeline.restoration.exposures.epochs import with_twin
from dip_pipeline.restoration.exposures.lights import as_exposure, in_common_light, sky_of, unit_of
from dip_pipeline.restoration.exposures.rejecting import reject
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.seeing import SeeingBlur, blurs_px, softened
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import scatter_left
from tests.restoration import exposed as drawn
from tests.restoration.exposed import SHIFTS, SKY, Sky

SHAPE = (64, 64)
STARS = Sky(np.array([[20.3, 20.2, 2e4], [44.1, 21.4, 6e3], [21.7, 45.2, 3e3], [45.5, 44.6, 1e3]]))
SEEINGS = [(1.1, 1.4, 1.4, 1.4), (1.4, 1.1, 1.1, 1.1), (1.1, 1.1, 2.0, 2.0), (2.0, 1.1, 1.1, 1.1)]


def exposures(seeing_px, *, told=True, noise=False, factor=1):
    """Four exposures, each with stars of its own width."""
    problem, _ = drawn.exposed(SHAPE, factor=factor, noise=noise, sky=STARS)
    rng = np.random.default_rng(5)
    frames = []
    for width_px, shift in zip(seeing_px, SHIFTS, strict=True):
        drawn.SIGMA_PX = width_px
        level = STARS.seen(SHAPE, shift) + SKY
        frames.append(drawn.noisy(level, rng) if noise else level.astype(np.float32))
    others = tuple(
        replace(each, pixels=frame, wider_px2=width**2 - seeing_px[0] ** 2 if told else 0.0)
        for each, frame, width in zip(problem.exposures, frames[1:], seeing_px[1:], strict=True)
    )
    support_px = 0.45 * min(seeing_px) * factor
    optics = replace(problem.optics or Optics(), factor=factor, support_px=support_px)
    return replace(problem, pixels=frames[0], exposures=others, optics=optics)


@pytest.fixture(autouse=True)
def _usual_width(monkeypatch):
    monkeypatch.setattr(drawn, "SIGMA_PX", drawn.SIGMA_PX)


def star_of(problem, row, col, reach_px):
    """Light of a star and its rms radius, px."""
    rows, cols = np.indices(problem.pixels.shape)
    away = np.hypot(rows - row, cols - col)
    light = np.where(away < reach_px, problem.pixels - SKY, 0.0)
    return light.sum(), np.sqrt((light * away**2).sum() / light.sum() / 2)


@pytest.mark.parametrize("seeing_px", SEEINGS)
def test_stars_keep_their_light_and_are_as_sharp_as_in_the_sharpest(seeing_px):
    joined = combined(exposures(seeing_px))
    alike = combined(exposures((min(seeing_px),) * 4))
    for row, col, flux in STARS.stars[:3]:
        light, radius = star_of(joined, row, col, 5)
        usual, sharp = star_of(alike, row, col, 5)
        assert light / flux == pytest.approx(usual / flux, abs=0.004)
        assert radius == pytest.approx(sharp, rel=0.02)


def test_a_seeing_that_is_not_told_costs_a_star_its_light():
    """What the laws above are about: sharper cores were taken for cosmic rays."""
    light, _ = star_of(combined(exposures(SEEINGS[2], told=False)), *STARS.stars[0, :2], 5)
    assert light < 0.9 * STARS.stars[0, 2]


def test_finer_pixels_too():
    joined = combined(exposures(SEEINGS[0], factor=2))
    alike = combined(exposures((1.1,) * 4, factor=2))
    rows, cols = np.indices(joined.pixels.shape)
    for row, col, flux in STARS.stars[:2]:
        for reach_px in (3, 9):  # the core, as sharp as that of the sharpest; and all
            near = np.hypot(rows - (2 * row + 0.5), cols - (2 * col + 0.5)) < reach_px
            sums = [(each.pixels[near] - SKY / 4).sum() / flux for each in (joined, alike)]
            assert sums[0] == pytest.approx(sums[1], abs=0.01)


def test_the_noise_is_known():
    rng_free = combined(exposures(SEEINGS[0]))
    noisy = combined(exposures(SEEINGS[0], noise=True))
    off = (noisy.pixels - rng_free.pixels) / noisy.error
    assert off[4:-4, 4:-4].std() == pytest.approx(1.0, abs=0.08)


def struck(seeing_px, number):
    """Agreement of each exposure where one has a cosmic ray at (30, 33)."""
    problem = exposures(seeing_px, noise=True)
    frames = [problem.pixels, *(each.pixels for each in problem.exposures)]
    frames[number][30, 33] += 400.0
    every = [as_exposure(problem), *problem.exposures]
    level = sky_of(problem, every)
    lights = in_common_light(every, level, unit_of(every, level))
    return [each[0, 0].numpy() > 0 for each in reject(lights, SHAPE)]


@pytest.mark.parametrize("seeing_px", SEEINGS)
@pytest.mark.parametrize("number", range(4))
def test_cosmic_rays_are_found_in_sharp_and_in_broad_exposures(seeing_px, number):
    agrees = struck(seeing_px, number)
    assert not agrees[number][30, 33]
    left_out = 1 - np.mean(agrees)
    assert left_out < 0.004  # what is struck, and little around it


@pytest.mark.parametrize("number", range(4))
def test_masked_cores_do_not_make_what_is_around_them_disagree(number):
    problem = exposures(SEEINGS[2])
    every = [as_exposure(problem), *problem.exposures]
    core = np.zeros(SHAPE, bool)
    row, col = np.rint(STARS.stars[0, :2] - SHIFTS[number]).astype(int)
    core[row - 1 : row + 2, col] = True
    every[number] = replace(every[number], masked=core)
    level = sky_of(problem, every)
    agreeing = reject(in_common_light(every, level, unit_of(every, level)), SHAPE)
    assert all(bool((each > 0).all()) for each in agreeing)


def test_an_epoch_among_others_of_different_seeing_has_a_twin_with_all_its_light():
    problem = exposures(SEEINGS[2])
    twin = replace(problem, pixels=with_twin(problem).twin.pixels)
    for row, col, flux in STARS.stars[:2]:
        light, _ = star_of(twin, row, col, 9)
        assert light == pytest.approx(flux, rel=0.01)


@pytest.mark.parametrize("seeing_px", [(2.0, 1.1, 1.1, 1.1), (1.4, 1.1, 1.1, 1.4)])
def test_a_twin_is_no_sharper_than_its_epoch(seeing_px):
    """At the cores of stars the two would contradict each other, and the twin be of no use."""
    problem = exposures(seeing_px)
    twin = replace(problem, pixels=with_twin(problem).twin.pixels)
    for row, col, _ in STARS.stars[:2]:
        (_, radius), (_, own) = (star_of(each, row, col, 7) for each in (twin, problem))
        assert 0.99 * own < radius < 1.15 * own


def test_the_softer_twin_of_an_epoch_is_believed_as_noisy_as_it_is():
    problem = exposures((2.0, 1.1, 1.1, 1.1), noise=True)
    twin = with_twin(problem).twin
    clean = with_twin(exposures((2.0, 1.1, 1.1, 1.1))).twin
    off = torch.from_numpy((twin.pixels - clean.pixels) / twin.error)[None, None]
    off = off[..., 8:-8, 8:-8]
    for scale_px in (1.0, 2.0):  # as frame and twin are compared
        left = float(smooth(off, scale_px).std()) * 2 * np.pi**0.5 * scale_px
        assert 0.5 < left < 1.05


WINGED = ((0.5, 0.5), (0.3, 1.0), (0.2, 2.6))  # shares and sigmas, px


def winged(number, seeing):
    """Four exposures, one of which has stars that no one Gaussian makes of the others'."""
    problem = exposures((1.1,) * 4)
    level = np.zeros(SHAPE)
    for share, px in WINGED:
        drawn.SIGMA_PX = (1.1**2 + px**2) ** 0.5
        level += share * STARS.seen(SHAPE, SHIFTS[number])
    frame = (level + SKY).astype(np.float32)
    px2 = sum(share * px**2 for share, px in WINGED) / 2
    if number:
        return drawn.with_exposure(problem, number, pixels=frame, wider_px2=px2, seeing=seeing)
    others = tuple(replace(each, wider_px2=-px2) for each in problem.exposures)
    optics = replace(problem.optics, seeing=seeing)
    return replace(problem, pixels=frame, exposures=others, optics=optics)


@pytest.mark.parametrize("number", [0, 2])
def test_stars_with_wings_keep_their_light_where_these_are_told(number):
    told, gaussian = (combined(winged(number, seeing)) for seeing in (WINGED, ()))
    alike = combined(exposures((1.1,) * 4))
    for row, col, flux in STARS.stars[:3]:
        for reach_px in (2, 4, 8):
            usual = star_of(alike, row, col, reach_px)[0] / flux
            assert star_of(told, row, col, reach_px)[0] / flux == pytest.approx(usual, abs=0.002)
        core = star_of(alike, row, col, 3)[0] / flux
        assert abs(star_of(gaussian, row, col, 3)[0] / flux - core) > 0.008


def test_a_mixture_passes_as_its_gaussians_do():
    scene = torch.rand(1, 1, 40, 44, generator=torch.Generator().manual_seed(3))
    together = SeeingBlur(WINGED).forward(scene)
    apart = sum(share * SeeingBlur(((1.0, px),)).forward(scene) for share, px in WINGED)
    torch.testing.assert_close(together, apart)
    inside = np.s_[..., 12:-12, 12:-12]  # taps end at three sigma
    usual = smooth(scene, 1.7)[inside]
    torch.testing.assert_close(
        SeeingBlur(((1.0, 1.7),)).forward(scene)[inside], usual, atol=2e-3, rtol=0
    )


def test_the_blur_has_its_adjoint():
    blur = SeeingBlur(((0.7, 0.8), (0.3, 2.0)))
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 2, 1, 23, 31, generator=draw, dtype=torch.float64)
    torch.testing.assert_close((blur.forward(x) * y).sum(), (x * blur.adjoint(y)).sum())
    even = torch.ones(1, 1, 23, 31, dtype=torch.float64)
    torch.testing.assert_close(blur.forward(even), even)


def test_blurs_are_those_against_the_sharpest():
    problem = exposures((1.4, 1.1, 1.1, 1.11))
    blurs = blurs_px([as_exposure(problem), *problem.exposures])
    assert blurs == pytest.approx([(1.4**2 - 1.1**2) ** 0.5, 0, 0, 0])


def test_smoothed_noise_is_as_strong_as_told():
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 1, 256, 256, generator=draw)
    left, known = softened(noise, torch.ones_like(noise), 1.2)
    assert float(left.std()) == pytest.approx(scatter_left(1.2, None), rel=0.03)
    assert bool((known == 1).all())
