"""Exposures are combined into one observation of their scene, and its noise is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.exposures.combining import (
    combined,
    combined_unchanged,
    fit_combined_prior,
    restore_combined,
)
from dip_pipeline.restoration.exposures.lights import as_exposure, in_common_light, sky_of, unit_of
from dip_pipeline.restoration.exposures.rejecting import reject
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.sampling import inverse_of, sampling
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced
from tests.restoration.exposed import (
    SHIFTS,
    SKY,
    Sky,
    draw_sky,
    exposed,
    noisy,
    seen_through,
    with_errors_told,
    with_exposure,
)

_UNIT = ((1.0, 0.0), (0.0, 1.0))
_TURN = ((0.9998, -0.02), (0.02, 0.9998))


def _inside(plane, edge=6):
    return plane[edge:-edge, edge:-edge]


@pytest.mark.parametrize("matrix", [_UNIT, _TURN])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_sampling_has_its_adjoint(matrix, factor):
    scene, observed = (20 * factor, 24 * factor), (18, 23)
    read, inside = sampling(matrix, (1.3, -2.6), scene=scene, observed=observed, factor=factor)
    draw = torch.Generator().manual_seed(factor)
    x = torch.randn(2, 1, *scene, generator=draw, dtype=torch.float64)
    y = torch.randn(2, 1, *observed, generator=draw, dtype=torch.float64)
    assert inside.shape[-2:] == observed
    torch.testing.assert_close((read.forward(x) * y).sum(), (x * read.adjoint(y)).sum())


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_shift_is_a_warp_that_does_not_turn(factor):
    scene, observed = (24 * factor, 26 * factor), (20, 20)
    x = torch.randn(1, 1, *scene, dtype=torch.float64)
    nearly = ((1.0, 2e-7), (0.0, 1.0))  # too much for a shift, too little to be seen
    seen = [
        sampling(matrix, (1.37, 2.81), scene=scene, observed=observed, factor=factor)[0].forward(x)
        for matrix in (_UNIT, nearly)
    ]
    within = (..., slice(2, -2), slice(2, -2))  # past the scene one has nothing, one its edge
    torch.testing.assert_close(seen[0][within], seen[1][within], atol=1e-4, rtol=0)


def test_an_inverse_leads_back():
    matrix, shift = inverse_of(_TURN, (3.0, -4.0))
    there = np.asarray(_TURN) @ [5.0, 7.0] + [3.0, -4.0]
    np.testing.assert_allclose(np.asarray(matrix) @ there + shift, [5, 7])


@pytest.mark.parametrize(
    ("factor", "solving", "share"), [(1, 1, 0.01), (1, 2, 0.0015), (2, 1, 0.002)]
)
def test_exposures_without_noise_give_the_scene(factor, solving, share):
    """Six taps between pixels left 0.035 of the peak on the exposures' own pixels."""
    problem, truth = exposed(factor=factor, noise=False)
    made = combined(replace(problem, optics=replace(problem.optics, solving=solving)))
    peak = truth.max() - truth.min()
    assert made.pixels.shape == truth.shape
    assert np.abs(_inside(made.pixels - truth)).max() < share * peak
    # Interpolating the first exposure alone does worse by far.
    alone = np.repeat(np.repeat(problem.pixels / factor**2, factor, 0), factor, 1)
    if factor == 2:
        worse = np.std(_inside(alone - truth))
        assert np.std(_inside(made.pixels - truth)) < 0.1 * worse


def test_light_is_kept():
    star = Sky(np.array([[23.3, 26.9, 5000.0]]))
    problem, _ = exposed(noise=False, sky=star)
    made = combined(problem)
    assert (made.pixels - SKY / 4)[36:60, 42:66].sum() == pytest.approx(5000, rel=1e-3)


def test_the_error_plane_and_the_correlation_are_those_of_the_noise():
    errors, kernels = [], []
    for seed in range(4):
        problem, truth = exposed(seed=seed, sky=draw_sky((48, 52), brightest=1e3))
        made = combined(problem)
        errors.append(_inside((made.pixels - truth) / made.error))
        kernels.append(made.noise.correlation.neighbours)
    errors = np.array(errors)
    assert np.std(errors) == pytest.approx(1, abs=0.09)
    rows, cols = (
        np.mean(errors[:, :, :-1] * errors[:, :, 1:]),
        np.mean(errors[:, :-1] * errors[:, 1:]),
    )
    np.testing.assert_allclose(np.mean(kernels, axis=0), (cols, rows), atol=0.08)


def test_in_cores_of_stars_the_error_plane_is_that_of_their_photons():
    """Smoothing takes half of the light of a core, and its noise with it."""
    problem, _ = exposed(factor=1, noise=False, sky=Sky(np.array([[24.0, 26.0, 2e4]])))
    ratio = combined(problem).error / combined(with_errors_told(problem)).error
    assert ratio[23:26, 25:28] == pytest.approx(1, abs=0.08)


def test_four_exposures_have_half_the_noise_of_one():
    """Over a few pixels; single ones have some more, for their blur is undone."""
    problem, truth = exposed(factor=1, sky=Sky(np.array([[24.0, 26.0, 300.0]])))
    made = combined(problem)

    def scatter(noise):
        boxes = noise[4:44, 6:46].reshape(10, 4, 10, 4).mean(axis=(1, 3))
        return np.std(boxes)

    assert scatter(made.pixels - truth) == pytest.approx(
        scatter(problem.pixels - truth) / 2, rel=0.2
    )
    assert np.median(made.error) < 0.75 * np.sqrt(SKY / 2 + 9)


def test_cosmic_rays_and_satellites_are_gone():
    clean, truth = exposed(sky=draw_sky((48, 52), brightest=1e3))
    struck = clean
    rng = np.random.default_rng(7)
    for number in range(len(SHIFTS)):
        source = (clean, *clean.exposures)[number]
        pixels = source.pixels.copy()
        for row, col in rng.integers(4, 44, (8, 2)):
            pixels[row, col : col + 3] += 10 ** rng.uniform(2.5, 4)
        if number == 2:
            pixels[20:22] += 400  # a satellite's trail
        struck = with_exposure(struck, number, pixels=pixels)
    made, without = combined(struck), combined(clean)
    changed = _inside((made.pixels - without.pixels) / without.error)
    assert np.abs(changed).max() < 6
    assert np.std(_inside((made.pixels - truth) / made.error)) < 1.15


_BESIDE_THE_EDGE = (slice(28, 70), slice(0, 20))  # of finer pixels, where the star beyond is


def _star_beyond(blurs_px, col=-3.0, shifts=SHIFTS):
    sky = Sky(np.array([[24.2, col, 2e4], [24.0, 26.0, 2e4]]))
    return seen_through(sky, blurs_px, shifts=shifts)


@pytest.mark.parametrize("shifts", [SHIFTS, ((0.0, 0.0),) * 4])
@pytest.mark.parametrize("blurs_px", [(0.0, 2.0, 2.0, 2.0), (1.0, 0.0, 1.0, 1.0)])
def test_a_star_beyond_the_edge_is_no_star_within(blurs_px, shifts):
    """Broad exposures show its light, mirrored there it was a star of a seventh of its flux."""
    problem, truth = _star_beyond(blurs_px, shifts=shifts)
    made = combined(problem)
    off = (made.pixels - truth)[_BESIDE_THE_EDGE]
    assert abs(off.sum()) < 0.015 * 2e4
    assert np.abs(off / made.error[_BESIDE_THE_EDGE]).max() < 6


def test_light_that_others_see_on_is_known_beyond_the_edge():
    """Dithered exposures show it there; nothing of it is drawn into the scene."""
    problem, truth = _star_beyond((0.0,) * 4, col=-2.0)
    made = combined(problem)
    off = (made.pixels - truth)[_BESIDE_THE_EDGE]
    assert np.abs(off / made.error[_BESIDE_THE_EDGE]).max() < 4.5


@pytest.mark.parametrize("blurs_px", [(0.0, 2.0, 2.0, 2.0), (2.0, 0.0, 2.0, 2.0)])
def test_a_star_beyond_the_edge_leaves_no_sharper_exposure_out(blurs_px):
    """Softened to the seeing of the others it lacks what they show of the star."""
    problem, _ = _star_beyond(blurs_px, col=-2.0, shifts=((0.0, 0.0),) * 4)
    assert not any(left_out[:, :6].any() for left_out in _rejected(problem))


def test_dead_pixels_at_the_edge_of_a_sharper_exposure_are_left_out():
    """But where they lack no more than what the others show, for that may be from beyond."""
    problem, _ = _star_beyond((0.0, 2.0, 2.0, 2.0), col=-2.0, shifts=((0.0, 0.0),) * 4)
    pixels = problem.pixels.copy()
    pixels[4:44, :2] = 20.0
    assert _rejected(replace(problem, pixels=pixels))[0][4:16, 0].mean() > 0.9


def _three_with_dots(depth_sigma, stars=25):
    """Three exposures, 2 % of the pixels of each darker than they should be, and without dots."""
    shape = (96, 104)
    clean, truth = exposed(shape, factor=1, sky=draw_sky(shape, count=stars, brightest=3e3))
    clean = dotted = replace(clean, exposures=clean.exposures[:2])
    rng = np.random.default_rng(11)
    places = []
    for number in range(3):
        pixels = (clean, *clean.exposures)[number].pixels.copy()
        dots = rng.random(pixels.shape) < 0.02
        pixels[dots] -= depth_sigma * np.sqrt(SKY / 2 + 9)
        dotted = with_exposure(dotted, number, pixels=pixels)
        places.append(dots)
    return clean, dotted, truth, places


def _rejected(problem):
    """Which pixels of each exposure the others contradict."""
    exposures = [as_exposure(problem), *problem.exposures]
    level = sky_of(problem, exposures)
    lights = in_common_light(exposures, level, unit_of(exposures, level))
    return [each[0, 0].numpy() == 0 for each in reject(lights, problem.pixels.shape)]


def test_dark_dots_of_single_exposures_are_gone():
    clean, dotted, truth, places = _three_with_dots(4.5)
    found = [out[dots].mean() for out, dots in zip(_rejected(dotted), places, strict=True)]
    assert min(found) > 0.5  # 0.15 at most by the limit for all
    plain, made = combined(clean), combined(dotted)
    off = [np.std(_inside(each.pixels - truth)) for each in (plain, made)]
    assert off[1] < 1.09 * off[0]  # 1.14


@pytest.mark.parametrize("stars", [0, 25, 600])
def test_where_no_dots_are_nothing_is_taken_for_one(stars):
    clean, *_ = _three_with_dots(0.0, stars)
    assert np.mean([out.mean() for out in _rejected(clean)]) < 2e-4


def test_where_dots_are_bright_pixels_of_the_sky_and_dark_ones_of_light_stay():
    """Or what is left of both would be darker, and brighter, than it is."""
    shape, sigma = (96, 104), np.sqrt(SKY / 2 + 9)
    problem, _ = exposed(shape, factor=1, sky=Sky(np.empty((0, 3))))
    problem = replace(problem, exposures=problem.exposures[:2])
    level = np.full(shape, SKY)
    level[:30] += 60 * sigma
    rng = np.random.default_rng(12)
    for number in range(3):
        pixels = noisy(level, rng)
        pixels[34:][rng.random((62, 104)) < 0.03] -= 4.5 * sigma
        problem = with_exposure(problem, number, pixels=pixels)
    exposures = [as_exposure(problem), *problem.exposures]
    for out, each in zip(_rejected(problem), exposures, strict=True):
        sky = each.pixels[34:] - SKY
        assert out[34:][sky < -3.5 * sigma].mean() > 0.5
        assert out[34:][sky > 2.5 * sigma].mean() < 0.1
        assert out[2:26, 2:-2].mean() < 3e-4


def test_noise_above_its_law_is_not_taken_for_dots():
    clean, *_ = _three_with_dots(0.0)
    rng = np.random.default_rng(5)
    noisier = clean
    for number in range(3):
        pixels = (clean, *clean.exposures)[number].pixels
        more = 15 * rng.standard_normal(pixels.shape)
        noisier = with_exposure(noisier, number, pixels=(pixels + more).astype(np.float32))
    exposures = [as_exposure(noisier), *noisier.exposures]
    level = sky_of(noisier, exposures)
    for out, each in zip(_rejected(noisier), exposures, strict=True):
        dark = out & (each.pixels < level - 30)
        bright = out & (each.pixels > level + 30)
        assert dark.sum() < 2 * bright.sum() + 20


def test_stars_are_not_taken_for_cosmic_rays():
    clean, truth = exposed(noise=False)
    made = combined(clean)
    brightest = np.unravel_index(np.argmax(_inside(truth)), _inside(truth).shape)
    assert _inside(made.pixels)[brightest] == pytest.approx(_inside(truth)[brightest], rel=0.02)


def test_another_transparency_and_sky_do_not_show():
    scales = [(1.0, SKY), (0.7, 350.0), (1.3, 120.0), (0.9, 260.0)]
    problem, truth = exposed(noise=False, scales=scales)
    peak = truth.max() - truth.min()
    assert np.abs(_inside(combined(problem).pixels - truth)).max() < 0.02 * peak


@pytest.mark.parametrize("factor", [1, 2])
def test_another_slope_of_the_sky_does_not_show(factor):
    """Where noise grows with the level, too: as strong as it is there, it is told."""
    shape = (48, 52)
    problem, truth = exposed(shape, factor=factor)
    slope = np.broadcast_to(np.linspace(0.0, 800.0, shape[1]), shape)
    rng = np.random.default_rng(4)
    for number in (1, 2):
        each = problem.exposures[number - 1]
        noise = np.sqrt(slope / 2) * rng.standard_normal(shape)
        uneven = (each.pixels + slope + noise).astype(np.float32)
        problem = with_exposure(
            problem, number, pixels=uneven, level_offset=each.level_offset + slope
        )
    made = combined(problem)
    off = _inside((made.pixels - truth) / made.error)
    assert np.std(off) == pytest.approx(1, abs=0.12)
    thirds = made.error.shape[1] // 3
    assert np.median(made.error[:, -thirds:]) > 1.02 * np.median(made.error[:, :thirds])


def test_noisier_exposures_count_less():
    problem, _ = exposed()
    quiet_error = np.median(combined(problem).error)
    spoilt = problem
    rng = np.random.default_rng(1)
    for number in (2, 3):
        pixels = problem.exposures[number - 1].pixels
        noise = 300 * rng.standard_normal(pixels.shape)
        sigma = Sourced(300.0, "DN", "given")
        noisy = with_exposure(spoilt, number, pixels=(pixels + noise).astype(np.float32))
        spoilt = with_exposure(
            noisy, number, noise=NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=sigma)
        )
    made = combined(spoilt)
    assert np.median(made.error) < 2.5 * quiet_error


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("deeper", [1.0, 10.0, 30.0])
def test_what_a_shallow_exposure_alone_sees_comes_back_whole(factor, deeper):
    """A deep exposure beside it must not say what converges, nor what its noise is."""
    shape, far = (56, 112), 40.4
    star = Sky(np.array([[28.3, 20.6, 1e4], [30.1, 80.4, 1e4]]))
    problem, _ = exposed(shape, factor=factor, noise=False, sky=star)
    quiet = NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(6.0, "DN", "given"))
    deep = replace(
        problem.exposures[0],
        pixels=(star.seen(shape, (0.4, far)) + SKY).astype(np.float32),
        shift_px=(0.4, far),
        noise=quiet,
    )
    loud = replace(quiet, sigma=Sourced(6.0 * deeper, "DN", "given"))
    made = combined(replace(problem, noise=loud, exposures=(deep,)))
    light = made.pixels - SKY / factor**2
    for col in (20, 80):
        around = np.s_[:, (col - 13) * factor : (col + 14) * factor]
        assert light[around].sum() == pytest.approx(1e4, rel=3e-3)
    # On finer pixels the scene's Gaussian ties the noise of neighbours together.
    expected = {1: 6.0, 2: 1.7}[factor] * deeper
    alone = made.error[8 * factor : -8 * factor, 5 * factor : 35 * factor]
    assert np.median(alone) == pytest.approx(expected, rel=0.15)
    # What the reference measured is known, also beside the edge of what is deeper.
    assert not made.masked[:, : int(far) * factor].any()


@pytest.mark.parametrize("support_px", [0.33, 0.42, 0.54])
def test_single_pixels_in_a_hole_do_not_grow_without_end(support_px):
    """Interpolation's negative lobes make eigenvalues there that no weight tells of."""
    shape = (64, 64)
    hole = np.zeros(shape, bool)
    hole[20:40, 20:40] = True
    sparse = hole.copy()
    sparse[22:40:4, 22:40:4] = False
    problem, truth = exposed(shape, factor=1, seed=2)
    others = (replace(problem.exposures[0], masked=sparse),)  # it lies between pixels
    optics = Optics(1, support_px=support_px)
    made = combined(replace(problem, masked=hole, exposures=others, optics=optics))
    known = ~made.masked
    assert np.abs(made.pixels - truth)[known].max() < 12 * made.error[known].max()
    assert np.median(np.abs(made.pixels - truth)[known]) < 12


@pytest.mark.parametrize("unit", [1e-25, 1e-20, 1e15])
def test_the_unit_of_a_file_does_not_matter(unit):
    problem, _ = exposed(seed=3)
    sigma = np.float32(11.0)

    def scaled(each):
        law = NoiseModel(NoiseKind.GAUSSIAN, "given", from_error_plane=True)
        pixels = (each.pixels.astype(np.float64) * unit).astype(np.float32)
        return {"pixels": pixels, "error": np.full_like(pixels, sigma * unit), "noise": law}

    others = tuple(
        replace(each, level_offset=each.level_offset * unit, **scaled(each))
        for each in problem.exposures
    )
    made = combined(replace(problem, exposures=others, **scaled(problem)))
    unit, kept = 1.0, unit
    others = tuple(replace(each, **scaled(each)) for each in problem.exposures)
    plain = combined(replace(problem, exposures=others, **scaled(problem)))
    np.testing.assert_allclose(made.pixels / kept, plain.pixels, atol=0.02)
    np.testing.assert_allclose(made.error / kept, plain.error, rtol=1e-3)


def test_what_no_exposure_sees_is_masked_and_of_low_confidence():
    problem, _ = exposed((40, 44), steps=8, sky=draw_sky((40, 44), brightest=1e3))
    hole = np.zeros((40, 44), bool)
    hole[20:36, 18:34] = True
    for number in range(len(SHIFTS)):
        problem = with_exposure(problem, number, masked=hole)
    made = combined(problem)
    assert made.masked[48:66, 44:62].all()
    assert not made.masked[:34].any()
    prior = fit_combined_prior([problem], problem.pixels.shape, seed=1)
    restored = restore_combined(problem, prior)
    assert (restored.flags[54:60, 50:56] & PixelFlag.LOW_CONFIDENCE).all()
    assert not (restored.flags[:34] & PixelFlag.LOW_CONFIDENCE).any()
    # The rest of it is as a tile should be: on the scene's pixels, judged by the frame's, and the
    # same again.
    assert restored.science.shape == (80, 88)
    seen = 40 * 44 - hole.sum()
    assert restored.outcome.judged_pixels == pytest.approx(seen, rel=0.2)
    again = restore_combined(problem, prior)
    np.testing.assert_array_equal(restored.science, again.science)


def test_what_one_exposure_misses_the_others_show():
    problem, truth = exposed(noise=False)
    hole = np.zeros(problem.pixels.shape, bool)
    hole[20:26, 20:26] = True
    made = combined(with_exposure(problem, 0, masked=hole))
    assert not made.masked.any()
    peak = truth.max() - truth.min()
    assert np.abs((made.pixels - truth)[40:52, 40:52]).max() < 0.03 * peak


def test_pixels_saturated_in_all_exposures_are_left_alone():
    problem, _ = exposed()
    core = np.zeros(problem.pixels.shape, bool)
    core[20:28, 20:28] = True
    for number in range(len(SHIFTS)):
        problem = with_exposure(problem, number, saturated=core)
    made = combined(problem)
    assert made.saturated[44:50, 44:50].all()
    np.testing.assert_allclose(made.pixels[46, 46], problem.pixels[23, 23] / 4)


def test_a_tile_is_given_back_on_the_scenes_pixels():
    problem, _ = exposed()
    back = combined_unchanged(problem, StopReason.WORKER_LOST)
    assert back.science.shape == (96, 104)
    assert back.science.sum() == pytest.approx(problem.pixels.sum(), rel=1e-5)
    assert (back.flags & PixelFlag.TILE_FAILED).all()


def test_exposures_without_a_noise_law_are_refused():
    problem, _ = exposed()
    unknown = NoiseModel(NoiseKind.NONE, "asked for")
    with pytest.raises(RestorationError, match="give a noise law"):
        combined(with_exposure(problem, 1, noise=unknown))


def test_a_tile_that_no_exposure_reaches_has_no_data():
    """The second one has pixels, but all of them lie just beside the tile."""
    problem, _ = exposed(factor=1)
    blank = np.full_like(problem.pixels, np.nan)
    nothing = np.zeros_like(problem.masked)
    first = slice(0, 8)
    beside = replace(
        problem.exposures[0],
        pixels=problem.exposures[0].pixels[first],
        masked=nothing[first],
        saturated=nothing[first],
        shift_px=(-8.0, 0.0),
    )
    alone = replace(problem, pixels=blank, masked=~nothing, exposures=(beside,))
    restored = restore_combined(alone)
    assert restored.outcome.stop_reason is StopReason.NO_DATA
    assert np.isnan(restored.science).all()
