import dataclasses
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.ndimage import distance_transform_edt

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.priors.prior_record import read_record, sealed
from dip_pipeline.restoration.problem import (
    Effort,
    FitOptions,
    InputKind,
    NetworkKind,
    StopReason,
)
from dip_pipeline.restoration.restore import restore, unchanged

CODE = FitOptions(input=InputKind.CODE, steps=4)
IMAGE = FitOptions(steps=2, effort=Effort.FAST)
HOURGLASS = FitOptions(steps=2, effort=Effort.FAST, network=NetworkKind.HOURGLASS)
CODE_UNET = FitOptions(input=InputKind.CODE, steps=4, network=NetworkKind.UNET)


def noise(*shape, seed=1):
    return np.random.default_rng(seed).normal(100.0, 10.0, shape).astype(np.float32)


def defects(shape, seed=2):
    return np.random.default_rng(seed).uniform(size=shape) < 0.05


def assert_same_bytes(first, second):
    for name in ("science", "error", "flags"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name
    assert repr(first.outcome) == repr(second.outcome)


@pytest.fixture(scope="module")
def small(problem, law):
    """One small problem with masked and saturated pixels, of either input."""

    def make(options=IMAGE, **more):
        pixels, masked = noise(40, 44), defects((40, 44))
        saturated = defects((40, 44), seed=3) & ~masked
        return problem(
            pixels,
            law.gaussian(10.0),
            options=options,
            masked=masked,
            saturated=saturated,
            **more,
        )

    return make


@pytest.fixture(scope="module")
def fitted(small):
    return fit_prior([small()], (40, 44), seed=3)


@pytest.mark.parametrize("options", [IMAGE, CODE], ids=["image", "code"])
def test_a_result_depends_on_its_problem_alone(small, problem, law, options):
    asked = small(options)
    first = restore(asked)
    restore(problem(noise(37, 33, seed=8), law.sensor(), options=options, seed=99))
    torch.manual_seed(12345)
    np.random.default_rng(0).random()
    assert_same_bytes(first, restore(pickle.loads(pickle.dumps(asked))))


@pytest.mark.parametrize("options", [IMAGE, CODE], ids=["image", "code"])
def test_another_seed_gives_another_result(small, options):
    first, second = (restore(small(options, seed=seed)) for seed in (1, 2))
    assert first.science.tobytes() != second.science.tobytes()


def test_fit_and_restoration_run_on_the_threads_of_their_problem(small):
    asked = small()
    torch.set_num_threads(2)
    prior = fit_prior([asked], (40, 44), seed=3)
    assert torch.get_num_threads() == asked.threads == 1
    torch.set_num_threads(2)
    restore(asked, prior)
    assert torch.get_num_threads() == asked.threads == 1


@pytest.mark.parametrize("options", [IMAGE, CODE], ids=["image", "code"])
def test_a_prior_that_was_stored_gives_the_same_result(small, fitted, options):
    asked = small(options)
    prior = fitted if options is IMAGE else fit_prior([asked], (40, 44), seed=3)
    stored = prior.to_bytes()
    again = Prior.from_bytes(stored)
    assert again.to_bytes() == stored
    assert_same_bytes(restore(asked, prior), restore(asked, again))


def test_fitting_within_restore_is_fitting_before_it(small):
    asked = small()
    assert_same_bytes(restore(asked), restore(asked, fit_prior([asked], (40, 44), seed=asked.seed)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("errors", lambda told: [*told[:2], [*told[2], 0.1]]),  # lacking, of one range more
        ("errors", lambda told: [[], *told[1:]] if told[0] else [[1.0], *told[1:]]),
        ("errors", lambda told: [told[0], [[[1.0], [1.0, 2.0]]] * len(told[1]), told[2]]),
        ("errors", lambda _: 7),
        ("restraint", lambda told: [[*told[0], 9.0], *told[1:]]),
        ("restraint", lambda told: [*told[:4], ["x"] * len(told[4])]),
        ("scale", lambda told: told[:3]),
        ("cross_fit", lambda _: [0, 0, 2]),
        ("unguided", lambda _: "no prior"),
    ],
    ids=map(str, range(9)),
)
def test_a_prior_of_which_something_has_another_length_is_refused(fitted, name, change):
    """A traceback followed in the worker that read it."""
    payload, record = read_record(fitted.to_bytes(), "dip-prior-6")
    told = json.dumps({**record, name: change(record[name])})
    odd = safetensors.torch.save(safetensors.torch.load(payload), metadata={"record": told})
    with pytest.raises(RestorationError, match="damaged"):
        Prior.from_bytes(sealed(odd))


def test_a_damaged_prior_is_refused(fitted):
    stored = fitted.to_bytes()
    places = [0, 9, 60, 400, len(stored) // 2, len(stored) - 40, len(stored) - 1]
    for place in places:
        damaged = bytearray(stored)
        damaged[place] ^= 1
        with pytest.raises(RestorationError, match="damaged"):
            Prior.from_bytes(bytes(damaged))
    for length in (0, 7, 100, len(stored) // 2, len(stored) - 1):
        with pytest.raises(RestorationError, match="damaged"):
            Prior.from_bytes(stored[:length])


@pytest.mark.parametrize("options", [IMAGE, CODE], ids=["image", "code"])
@pytest.mark.parametrize("with_error_plane", [False, True])
def test_masked_pixels_carry_no_weight(small, law, options, with_error_plane):
    asked = small(options)
    if with_error_plane:
        error = np.full(asked.pixels.shape, 10.0, dtype=np.float32)
        asked = dataclasses.replace(asked, noise=law.error_plane, error=error)
    first = restore(asked)
    pixels = asked.pixels.copy()
    pixels[asked.masked] = np.resize(np.float32([np.nan, np.inf, 1e30, -5.0]), asked.masked.sum())
    changes = {"pixels": pixels}
    if with_error_plane:
        error = asked.error.copy()
        error[asked.masked] = np.resize(np.float32([np.nan, np.inf, 0.0, 1e9]), asked.masked.sum())
        changes["error"] = error
    assert_same_bytes(first, restore(dataclasses.replace(asked, **changes)))


def test_what_is_far_from_known_pixels_is_not_made_up(problem, law):
    masked = np.zeros((48, 80), dtype=bool)
    masked[:, 20:] = True
    masked[:, 60:] = False
    masked[0, 2] = True
    saturated = np.zeros_like(masked)
    saturated[24, 40] = True  # masked too, and in the middle of nowhere
    pixels = noise(48, 80)
    restored = restore(
        problem(pixels, law.gaussian(10.0), masked=masked, saturated=saturated, options=CODE)
    )
    distance = distance_transform_edt(masked)
    beyond, far, near = distance > 16, (distance > 4) & (distance <= 16), distance <= 4
    alone = saturated
    assert np.isnan(restored.science[beyond & ~alone]).all()
    assert (restored.flags[beyond & ~alone] == PixelFlag.LOW_CONFIDENCE).all()
    assert np.isfinite(restored.science[~beyond]).all()
    assert (restored.flags[far] == PixelFlag.LOW_CONFIDENCE | PixelFlag.FILLED).all()
    assert (restored.flags[near & masked] == PixelFlag.FILLED).all()
    assert (restored.flags[~masked] == 0).all()
    assert restored.science[alone].tobytes() == pixels[alone].tobytes()
    assert (restored.flags[alone] == PixelFlag.SATURATED).all()


@pytest.mark.parametrize("kind", ["all masked", "all saturated", "all NaN"])
def test_a_tile_without_data_is_copied_and_flagged(problem, law, kind):
    pixels, every = noise(32, 40), np.ones((32, 40), dtype=bool)
    if kind == "all NaN":
        pixels[:] = np.nan
    asked = problem(
        pixels,
        law.gaussian(10.0),
        masked=every if kind == "all masked" else None,
        saturated=every if kind == "all saturated" else None,
        inner=(slice(4, 20), slice(0, 33)),
    )
    restored = restore(asked)
    assert not restored.outcome.failed  # there was nothing to do
    assert restored.outcome.stop_reason is StopReason.NO_DATA
    assert restored.science.tobytes() == pixels[4:20, :33].tobytes()
    assert (restored.flags & PixelFlag.LOW_CONFIDENCE != 0).all()
    assert np.isnan(restored.error).all()


def test_a_fit_that_diverged_gives_the_input_back(small, fitted):
    asked = small()
    spoilt = Prior.from_bytes(fitted.to_bytes())
    torch.nn.init.constant_(spoilt.networks[1].last.weight, float("nan"))
    assert_same_bytes(restore(asked, spoilt), unchanged(asked, StopReason.DIVERGED))
    report = dataclasses.replace(fitted.report, stop_reason=StopReason.DIVERGED)
    assert restore(asked, dataclasses.replace(fitted, report=report)).outcome.failed


def test_only_the_inner_part_comes_back(small, fitted):
    asked = small()
    whole = restore(asked, fitted)
    part = restore(dataclasses.replace(asked, inner=(slice(3, 30), slice(10, 44))), fitted)
    for name in ("science", "error", "flags"):
        cut = getattr(whole, name)[3:30, 10:44]
        assert getattr(part, name).tobytes() == np.ascontiguousarray(cut).tobytes()
    judged = asked.valid[3:30, 10:44]
    assert part.outcome.judged_pixels == judged.sum()
    change = (part.science - asked.pixels[3:30, 10:44]).astype(float)[judged].sum()
    assert part.outcome.flux_change == pytest.approx(change, abs=0.1)


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (37, 53)])
@pytest.mark.parametrize(
    "options", [IMAGE, CODE, HOURGLASS, CODE_UNET], ids=["image", "code", "hourglass", "code-unet"]
)
def test_any_size_from_16_pixels_on_is_restored(problem, law, shape, options):
    masked = np.zeros(shape, dtype=bool)
    masked[3, 4:9] = True
    restored = restore(problem(noise(*shape), law.gaussian(10.0), options=options, masked=masked))
    assert not restored.outcome.failed
    assert restored.science.shape == shape
    assert np.isfinite(restored.science).all()
    # No data say how wrong a filled pixel is: its error is unknown, not small.
    np.testing.assert_array_equal(np.isnan(restored.error), masked)


def test_less_than_16_pixels_are_too_few_for_a_fit(problem, law):
    asked = problem(noise(15, 64), law.gaussian(10.0))
    with pytest.raises(RestorationError, match="need at least 16 px"):
        fit_prior([asked], (15, 64), seed=1)
    assert restore(asked).outcome.failed


@pytest.mark.parametrize("unit", [1e-30, 1e-17, 1e28])
@pytest.mark.parametrize("options", [IMAGE, CODE], ids=["image", "code"])
def test_the_unit_of_a_frame_does_not_matter(problem, law, unit, options):
    pixels = noise(32, 32).astype(np.float64)
    plain = restore(problem(pixels, law.gaussian(10.0), options=options))
    scaled = restore(problem(pixels * unit, law.gaussian(10.0 * unit), options=options))
    np.testing.assert_allclose(scaled.science / unit, plain.science, rtol=0, atol=0.5)
    assert scaled.outcome.risk == pytest.approx(plain.outcome.risk, abs=0.05)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_of_a_frame_does_not_matter_where_its_noise_is_not_known(problem, law, unit):
    pixels = noise(32, 32).astype(np.float64)
    plain = restore(problem(pixels, law.none, options=CODE))
    scaled = restore(problem(pixels * unit, law.none, options=CODE))
    np.testing.assert_allclose(scaled.science / unit, plain.science, rtol=0, atol=0.5)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e30, -1e30])
def test_a_constant_frame_gives_no_made_up_number(problem, law, value):
    pixels = np.full((32, 32), value)
    restored = restore(problem(pixels, law.gaussian(1.0)))
    assert np.isfinite(restored.science).all()
    np.testing.assert_allclose(restored.science, pixels, rtol=1e-6, atol=0.01)
    asked = problem(pixels, law.none, options=CODE)
    with pytest.raises(RestorationError, match="need a positive one"):
        fit_prior([asked], (32, 32), seed=1)


def test_one_absurd_pixel_gives_numbers_or_a_failed_tile(problem, law):
    pixels = noise(32, 32)
    pixels[16, 16] = 1e30
    restored = restore(problem(pixels, law.sensor()))
    assert restored.outcome.failed
    assert restored.science.tobytes() == pixels.tobytes()


def test_a_sensor_without_read_noise_is_a_sensor(problem, law):
    restored = restore(problem(noise(32, 32), law.sensor(read_noise=0.0)))
    assert not restored.outcome.failed
    assert np.isfinite(restored.science).all()


def test_without_a_noise_law_a_code_is_restored_and_no_error_is_claimed(problem, law):
    restored = restore(problem(noise(48, 48), law.none, options=CODE))
    assert np.isfinite(restored.science).all()
    assert np.isnan(restored.error).all()
    assert np.isnan(restored.outcome.risk)


def test_without_a_noise_law_the_image_is_no_input(problem, law):
    with pytest.raises(RestorationError, match="--input code"):
        problem(noise(48, 48), law.none, options=IMAGE)


def test_planes_of_a_problem_have_one_shape(problem, law):
    with pytest.raises(RestorationError, match="need one shape"):
        problem(noise(48, 48), law.gaussian(1.0), masked=np.zeros((48, 47), dtype=bool))


@pytest.mark.parametrize("bad", [{"steps": 0}, {"flux_scale_px": -1.0}, {"flux_scale_px": 65.0}])
def test_options_that_cannot_be_are_refused(bad):
    with pytest.raises(RestorationError, match="need"):
        FitOptions(**bad)
