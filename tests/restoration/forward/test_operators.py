"""Every operator: its adjoint is the transpose, and autograd says the same."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve, map_coordinates

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration import forward
from dip_pipeline.restoration.forward.convolution import Convolution
from dip_pipeline.restoration.forward.decimation import Decimation, DecimationKind
from dip_pipeline.restoration.forward.operators import (
    Composed,
    Identity,
    Operator,
)
from dip_pipeline.restoration.forward.sampling import ShiftedSampling, sampling
from dip_pipeline.restoration.forward.seeing import SeeingBlur
from dip_pipeline.restoration.forward.warping import (
    Interpolation,
    Reading,
    TwoPasses,
    Warp,
    is_upright,
)

SCENE = (24, 36)


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def psf(rows, cols, seed=4):
    kernel = draw(seed, rows, cols).abs()
    return (kernel / kernel.sum()).numpy()


def warp(interpolation, angle=0.2, shift=(1.3, -2.7), observed=(20, 31)):
    matrix = [[np.cos(angle), -np.sin(angle)], [np.sin(angle) * 1.05, np.cos(angle)]]
    return Warp(matrix, shift, scene=SCENE, observed=observed, interpolation=interpolation)


UPRIGHT = {
    "hardly turned": [[1.0, 0.002], [-0.002, 1.0]],
    "half a turn": [[-0.98, 0.1], [-0.1, -1.02]],
}


def translation(shift_px, interpolation):
    return Warp(np.eye(2), shift_px, scene=SCENE, observed=SCENE, interpolation=interpolation)


def cases():
    kinds, per_pixel = list(DecimationKind), (False, True)
    yield "identity", Identity()
    for rows, cols in ((1, 1), (5, 7), (9, 3), (27, 25), (51, 77)):
        yield f"convolution {rows}x{cols}", Convolution(psf(rows, cols))
    for kind in kinds:
        for factor in (2, 3, 4):
            for summed in per_pixel:
                name = f"decimation {kind} {factor} {summed}"
                yield name, Decimation(kind, factor, summed=summed)
    for interpolation in Interpolation:
        yield f"warp {interpolation}", warp(interpolation)
        shifted = translation((0.37, -40.25), interpolation)
        yield f"warp by a translation, {interpolation}", shifted
    for name, turned in UPRIGHT.items():
        yield f"two passes, {name}", TwoPasses(turned, (21.3, 30.4), scene=SCENE, observed=(20, 31))
    index = torch.arange(2 * 6).reshape(2, 6) * 7
    yield "reading", Reading(index, draw(3, 2, 6), SCENE, (2, 3))
    sizes = {"scene": SCENE, "observed": (10, 15), "factor": 2}
    yield "sampling at a shift", ShiftedSampling((0.37, -1.25), **sizes)
    coarse = Decimation(DecimationKind.AREA, 2, summed=True)
    seen = Composed([warp(Interpolation.CUBIC, observed=SCENE), Convolution(psf(5, 5)), coarse])
    yield "composed", seen


CASES = dict(cases())


def both_sides(operator, batch=2):
    x = draw(1, batch, 1, *SCENE)
    image = operator.forward(x)
    return x, image, draw(2, *image.shape)


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_moves_an_operator_to_the_other_side(name):
    operator = CASES[name]
    x, image, y = both_sides(operator)
    left, right = (image * y).sum(), (x * operator.adjoint(y)).sum()
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_agrees_with_autograd(name):
    operator = CASES[name]
    x, _, y = both_sides(operator)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(operator.forward(x), x, y)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_can_itself_be_differentiated(name):
    operator = CASES[name]
    x, _, y = both_sides(operator, batch=1)
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(operator.adjoint(y), y, x)
    torch.testing.assert_close(gradient, operator.forward(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_stays_single_and_near(name):
    operator = CASES[name]
    x, image, _ = both_sides(operator, batch=1)
    single = operator.forward(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), image, rtol=1e-4, atol=1e-4)


def test_every_operator_of_the_package_is_tried():
    found = set()
    for item in pkgutil.iter_modules(forward.__path__, f"{forward.__name__}."):
        own = vars(importlib.import_module(item.name)).values()
        found |= {kind for kind in own if isinstance(kind, type) and "adjoint" in vars(kind)}
    tried = {type(operator) for operator in CASES.values()}
    # The blur of seeing works on numpy's cosines, without a gradient: see its own laws. A warp is
    # a reading, whose transpose it has.
    assert tried == (found | {Warp}) - {Operator, SeeingBlur}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    half=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    seed=st.integers(0, 99),
)
def test_the_adjoint_holds_where_the_kernel_is_wider_than_the_scene(rows, cols, half, seed):
    operator = Convolution(psf(2 * half[0] + 1, 2 * half[1] + 1, seed))
    x, y = draw(seed, 1, 1, rows, cols), draw(seed + 1, 1, 1, rows, cols)
    left, right = (operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 7), (31, 29)])
def test_a_convolution_is_scipys_with_borders_mirrored(shape):
    kernel, x = psf(*shape), draw(5, *SCENE)
    ours = Convolution(kernel).forward(x[None, None])[0, 0]
    # scipy's "reflect" repeats the edge pixel.
    theirs = convolve(x.numpy(), kernel, mode="reflect")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_a_symmetric_psf_keeps_the_total_flux():
    kernel = psf(9, 9)
    kernel = kernel + kernel[::-1]
    kernel = (kernel + kernel[:, ::-1]) / 4
    x = draw(6, 1, 1, *SCENE)
    torch.testing.assert_close(Convolution(kernel).forward(x).sum(), x.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_area_decimation_is_the_mean_or_the_sum_of_each_block(factor):
    x = draw(7, *SCENE)
    blocks = x.reshape(SCENE[0] // factor, factor, SCENE[1] // factor, factor)
    mean = Decimation(DecimationKind.AREA, factor).forward(x[None, None])[0, 0]
    total = Decimation(DecimationKind.AREA, factor, summed=True).forward(x[None, None])[0, 0]
    torch.testing.assert_close(mean, blocks.mean((1, 3)))
    torch.testing.assert_close(total, blocks.sum((1, 3)))
    torch.testing.assert_close(total.sum(), x.sum())


@pytest.mark.parametrize("factor", [2, 4])
def test_lanczos_taps_are_those_of_the_paper(factor):
    """4 t taps half a pixel off the middle, sinc(d) sinc(d / 2), d in coarse pixels, sum 1."""
    distance = (np.arange(4 * factor) - (4 * factor - 1) / 2) / factor
    taps = np.sinc(distance) * np.sinc(distance / 2)
    kernel = np.outer(taps, taps)
    kernel = kernel / kernel.sum()
    x, pad = draw(10, 12 * factor, 10 * factor).numpy(), 3 * factor // 2
    wide = np.pad(x, pad, mode="edge")
    expected = [
        [
            (kernel * wide[row : row + 4 * factor, col : col + 4 * factor]).sum()
            for col in range(0, 10 * factor, factor)
        ]
        for row in range(0, 12 * factor, factor)
    ]
    down = Decimation(DecimationKind.LANCZOS, factor).forward(torch.tensor(x)[None, None])[0, 0]
    np.testing.assert_allclose(down, expected, atol=1e-12)


@pytest.mark.parametrize("kind", DecimationKind)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_decimation_keeps_a_plane_and_its_place(kind, factor):
    """A linear ramp over the fine grid is, away from borders, the same ramp over the coarse one."""
    rows = torch.arange(16 * factor, dtype=torch.float64)
    ramp = ((rows + 0.5) / factor - 0.5)[:, None].expand(-1, 16 * factor)
    down = Decimation(kind, factor).forward(ramp[None, None])[0, 0]
    expected = torch.arange(16, dtype=torch.float64)[:, None].expand(-1, 16)
    torch.testing.assert_close(down[3:-3], expected[3:-3], rtol=0, atol=1e-9)


@pytest.mark.parametrize("interpolation", [kind for kind in Interpolation if kind != "sinc"])
def test_a_warp_reads_the_scene_where_the_matrix_points(interpolation):
    """A plane is read exactly: its value where the observed pixel lies in the scene."""
    operator = warp(interpolation)
    rows, cols = np.meshgrid(*map(np.arange, SCENE), indexing="ij")
    scene = torch.tensor(2.0 * rows - 3.0 * cols + 1.0)
    seen = operator.forward(scene[None, None])[0, 0]
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(31), indexing="ij"))
    matrix = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2) * 1.05, np.cos(0.2)]])
    place = np.tensordot(matrix, grid, 1) + np.array([1.3, -2.7])[:, None, None]
    expected = 2.0 * place[0] - 3.0 * place[1] + 1.0
    deep = (place > 2).all(0) & (place[0] < SCENE[0] - 3) & (place[1] < SCENE[1] - 3)
    assert deep.sum() > 100
    np.testing.assert_allclose(seen.numpy()[deep], expected[deep], atol=1e-10)
    assert bool((operator.inside[deep] == 1).all())
    outside = (place < -0.5).any(0) | (place[0] > SCENE[0] - 0.5) | (place[1] > SCENE[1] - 0.5)
    assert outside.any()
    assert bool((operator.inside[outside] == 0).all())


def _waves(place, most):
    """Light whose frequencies are `most` a pixel or less along each axis, at places (2, ...)."""
    rng = np.random.default_rng(6)
    light = torch.zeros(place.shape[1:], dtype=torch.float64)
    for down, across, phase in rng.uniform(-1, 1, (40, 3)):
        light += torch.cos(2 * np.pi * (most * (down * place[0] + across * place[1]) + phase))
    return light


@pytest.mark.parametrize("turned", [*UPRIGHT.values(), [[1.0, 0.0], [0.0, 1.0]]])
def test_two_passes_read_what_is_sampled_just_well_enough(turned):
    """Frequencies up to 0.35 a pixel to a few thousandths, which six taps miss by a tenth."""
    assert is_upright(turned)
    grid = torch.stack(torch.meshgrid(*[torch.arange(72.0).double()] * 2, indexing="ij"))
    middle = torch.tensor([35.3, 36.4], dtype=torch.float64)
    affine = torch.tensor(turned, dtype=torch.float64)
    shift = middle - affine @ middle + torch.tensor([0.4, -0.6])
    place = torch.tensordot(affine, grid, 1) + shift[:, None, None]
    deep = ((place > 9) & (place < 62)).all(0)
    sizes = {"scene": (72, 72), "observed": (72, 72)}
    off = []
    for warp_ in (
        TwoPasses(turned, shift.tolist(), **sizes),
        Warp(turned, shift.tolist(), **sizes, interpolation=Interpolation.QUINTIC),
    ):
        seen = warp_.forward(_waves(grid, 0.35)[None, None])[0, 0]
        off.append(float((seen - _waves(place, 0.35))[deep].std() / _waves(place, 0.35).std()))
        assert bool((warp_.inside[deep] == 1).all())
    assert off[0] < 0.004
    assert off[1] > 0.04


def test_exposures_that_hardly_turn_are_read_in_two_passes_and_others_by_few_taps():
    sizes = {"scene": SCENE, "observed": SCENE, "interpolation": Interpolation.SINC}
    slight, quarter = ((1.0, 1e-4), (-1e-4, 1.0)), ((0.0, -1.0), (1.0, 0.0))
    assert isinstance(sampling(slight, (0.3, 0.2), **sizes)[0], TwoPasses)
    assert isinstance(sampling(quarter, (20.0, 0.2), **sizes)[0], Warp)


def test_a_quarter_turn_is_not_for_two_passes():
    assert not is_upright([[0.0, -1.0], [1.0, 0.0]])
    assert not is_upright([[0.96, -0.3], [0.3, 0.96]])


def test_a_bilinear_warp_is_scipys_with_edges_repeated():
    operator, x = warp(Interpolation.LINEAR), draw(8, *SCENE)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(31), indexing="ij"))
    matrix = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2) * 1.05, np.cos(0.2)]])
    place = np.tensordot(matrix, grid, 1) + np.array([1.3, -2.7])[:, None, None]
    theirs = map_coordinates(x.numpy(), place, order=1, mode="nearest")
    ours = operator.forward(x[None, None])[0, 0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_a_warp_by_whole_pixels_moves_pixels_as_they_are(interpolation):
    operator = translation((3, -2), interpolation)
    x = draw(9, 1, 1, *SCENE)
    seen = operator.forward(x)
    # Away from pixels no tap falls on but those of a kernel that rounds.
    atol = 1e-14 if interpolation is Interpolation.SINC else 0
    torch.testing.assert_close(seen[..., :-3, 2:], x[..., 3:, :-2], rtol=0, atol=atol)
    assert operator.inside[:-3, 2:].min() == 1
    assert operator.inside[-3:].max() == 0
    assert operator.inside[:, :2].max() == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Convolution(np.ones((4, 5)) / 20), "odd sides"),
        (lambda: Convolution(np.ones(5)), "two axes"),
        (lambda: Convolution(np.full((3, 3), np.nan)), "finite"),
        (lambda: Decimation(DecimationKind.AREA, 1), "from 2"),
        (lambda: Decimation(DecimationKind.LANCZOS, 2.5), "whole"),
        (lambda: Decimation(DecimationKind.AREA, 5).forward(draw(1, 1, 1, *SCENE)), "multiple"),
        (lambda: Composed([]), "at least one"),
        (lambda: Warp(np.zeros((2, 2)), (0, 0), scene=SCENE, observed=SCENE), "inverted"),
        (lambda: warp(Interpolation.LINEAR).forward(draw(1, 1, 1, 5, 5)), "24 x 36"),
    ],
)
def test_what_cannot_be_an_operator_is_refused_in_words(make, words):
    with pytest.raises(RestorationError, match=words):
        make()


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_the_gpu_observes_as_the_cpu_does(name):
    operator = CASES[name]
    x, image, y = both_sides(operator)
    torch.testing.assert_close(operator.forward(x.cuda()).cpu(), image, rtol=1e-9, atol=1e-9)
    back = operator.adjoint(y.cuda()).cpu()
    torch.testing.assert_close(back, operator.adjoint(y), rtol=1e-9, atol=1e-9)
