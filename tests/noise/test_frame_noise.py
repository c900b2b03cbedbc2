"""Laws of the noise a frame is restored with: what is known is used, what is not is measured."""

import logging
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import EmptyFrameError, FrameError, SensorError
from dip_pipeline.frames import open_frame, open_frames
from dip_pipeline.frames.converting import convert
from dip_pipeline.noise.frame_sensor import sensor_of
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.preparing.planning import resolve_noise, settle_frame
from dip_pipeline.runs.describing import describe_frame
from dip_pipeline.sensor import NoiseKind
from dip_pipeline.sensor.noise_sigma import sigma_at
from dip_pipeline.simulate import DetectorOptions, Scene, SceneOptions, draw_scene, observe

SENSOR = {"GAIN": 2.0, "RDNOISE": 6.0}


@pytest.fixture(scope="module")
def scene():
    """A crowded field, whose light is drawn once for all that look at it."""
    drawn = draw_scene(SceneOptions("crowded", shape=(320, 320), seed=5, saturated_star=False))
    light, signal = drawn.signal(), Scene.signal

    def drawn_once(scene, oversample=1):
        return light if scene is drawn and oversample == 1 else signal(scene, oversample)

    with mock.patch.object(Scene, "signal", drawn_once):
        yield drawn


@pytest.fixture
def write(tmp_path):
    def written(pixels, dtype=np.float32, **cards):
        path = tmp_path / "frame.fits"
        fits.PrimaryHDU(pixels.astype(dtype), fits.Header(cards)).writeto(path)
        return str(path)

    return written


def noise_of(path, **options):
    asked = {f"noise.{name}": value for name, value in options.items()}
    return resolve_noise(open_frame(path), RunConfig().with_overrides(**asked))


def shot_of(scene, **options):
    return observe(scene, DetectorOptions(defects=False, **options)).observed_dn


@pytest.mark.parametrize("told", ["cards", "error plane"])
def test_a_plane_of_one_number_is_empty_unless_its_noise_is_given(told, tmp_path):
    """As a dead chip, whose header is that of the others."""
    cards = fits.Header({"BUNIT": "electron", "GAIN": 1.0, "RDNOISE": 4.0})
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((64, 64), np.float32), cards, "SCI")]
    if told == "error plane":
        hdus.append(fits.ImageHDU(np.full((64, 64), 4, np.float32), name="ERR"))
    fits.HDUList(hdus).writeto(tmp_path / "dead.fits")
    with pytest.raises(EmptyFrameError, match="constant"):
        noise_of(tmp_path / "dead.fits")
    assert "--sigma" in noise_in_words(noise_of(tmp_path / "dead.fits", sigma=4.0))


def test_white_noise_is_measured_to_be_white(scene, write):
    noise = noise_of(write(shot_of(scene), **SENSOR))
    assert noise.correlation.is_white
    assert noise.correlation.source == "measured on the sky"
    assert "correlated" not in noise_in_words(noise)


def test_correlated_noise_is_measured_and_told(scene, write):
    path = write(shot_of(scene, neighbour_correlation=0.4), **SENSOR)
    noise = noise_of(path)
    assert noise.kind is NoiseKind.POISSON_GAUSSIAN
    assert noise.correlation.neighbours == pytest.approx((0.4, 0.4), abs=0.04)
    assert "correlated by 0." in noise_in_words(noise)
    shown = describe_frame(path, RunConfig())
    assert any(line.startswith("correlation of the noise: 0.") for line in shown.noise_lines)


@pytest.mark.parametrize(("asked", "neighbour"), [("white", 0.0), ("0.25", 0.25)])
def test_what_is_given_outranks_what_would_be_measured(scene, write, asked, neighbour):
    path = write(shot_of(scene, neighbour_correlation=0.4), **SENSOR)
    found = noise_of(path, correlation=asked).correlation
    assert found.neighbours == pytest.approx((neighbour, neighbour))
    assert "measured" not in found.source


def test_noise_that_is_not_used_is_not_measured(scene, write):
    noise = noise_of(write(shot_of(scene, neighbour_correlation=0.4)), law="none")
    assert noise.correlation.is_white


@pytest.mark.parametrize(("gain", "warned"), [(2.0, False), (1.0, True)])
def test_a_law_that_the_sky_gainsays_is_warned_of(scene, write, caplog, gain, warned):
    noise_of(write(shot_of(scene), GAIN=gain, RDNOISE=6.0))
    assert any("times as much" in record.getMessage() for record in caplog.records) == warned


def test_a_gain_that_the_light_gainsays_is_not_believed(scene, write, caplog):
    noise = noise_of(write(shot_of(scene), GAIN=8.0, RDNOISE=6.0))
    assert noise.sensor.gain_e_per_dn.value == pytest.approx(2.0, rel=0.35)
    assert "NOISE NOT KNOWN: the variance of its pixels grows with light" in caplog.text


@pytest.mark.parametrize("factor", [0.85, 0.95, 1.0, 1.12, 1.8])
@pytest.mark.parametrize("asked", ["nothing", "plane", "plane and law"])
def test_an_error_plane_that_is_too_large_is_brought_to_the_sky(
    scene, tmp_path, caplog, factor, asked
):
    """The sky cannot scatter less than its noise: that came back inverted, worse than the input.

    A law that was asked for, too, is taken as it is, and told of.
    """
    shot = observe(scene, DetectorOptions(defects=False))
    observed, error = shot.observed_dn, factor * shot.sigma_true_dn
    path = tmp_path / "layered.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(observed.astype("f4"), name="SCI"),
            fits.ImageHDU(error.astype("f4"), name="ERR")]  # fmt: skip
    fits.HDUList(hdus).writeto(path)
    plane = {} if asked == "nothing" else {"reading.error": "ERR"}
    as_it_is = asked == "plane and law"
    config = RunConfig().with_overrides(**plane, **({"noise.law": "gaussian"} if as_it_is else {}))
    with caplog.at_level(logging.WARNING):
        frame, noise = settle_frame(open_frame(path), config)
    sigma = frame.read(slice(None), slice(None)).error
    used = float(np.median(sigma / shot.sigma_true_dn))
    if factor > 1.05 and not as_it_is:
        assert used == pytest.approx(1.0, abs=0.02)
        assert "scaled by" in noise.rung
    else:
        assert used == pytest.approx(factor, rel=1e-6)
    told = factor < 0.9 or (factor > 1.05 and as_it_is)
    assert ("times as much as its noise law says" in caplog.text) is told
    assert "gain" not in caplog.text


@pytest.mark.parametrize(("read_noise_e", "rounded"), [(0.0, False), (0.1, True)])
def test_electrons_that_are_counted_one_by_one_are_not_rounded(write, read_noise_e, rounded):
    counts = np.random.default_rng(4).poisson(0.1, (160, 160))
    read = counts + np.random.default_rng(5).normal(0, read_noise_e, counts.shape)
    path = write(np.rint(read), np.int16, BUNIT="electron", RDNOISE=read_noise_e)
    assert (noise_of(path).quantum is not None) is rounded


@pytest.mark.parametrize(
    ("dtype", "cards", "level"),
    [
        (np.uint16, {}, 65535.0), (np.int16, {}, 32767.0), (np.float32, {}, None),
        (np.int32, {}, None), (np.uint8, {}, None), (np.uint16, {"SATURATE": 5e4}, 5e4),
        (np.uint16, {"BUNIT": "electron"}, None), (np.uint16, {"BUNIT": "adu"}, 65535.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kept_as", ["fits", "zarr"])
def test_the_largest_number_of_sixteen_bits_is_where_a_converter_ends(
    write, tmp_path, dtype, cards, level, kept_as
):
    path = write(np.random.default_rng(1).normal(100, 5, (64, 64)), dtype, **cards)
    if kept_as == "zarr":
        convert(Path(path), tmp_path / "frame.zarr")
        path = str(tmp_path / "frame.zarr")
    found = sensor_of(open_frame(path), RunConfig()).saturation_dn
    assert (None if found is None else found.value) == level


def test_scaled_numbers_say_nothing_of_a_converter(tmp_path):
    hdu = fits.PrimaryHDU(np.random.default_rng(1).normal(100, 5, (64, 64)).astype("f4"))
    hdu.scale("int16", option="minmax")
    hdu.writeto(tmp_path / "packed.fits")
    assert sensor_of(open_frame(tmp_path / "packed.fits"), RunConfig()).saturation_dn is None


def test_an_estimated_law_is_said_loudly_and_once(scene, write, caplog):
    with caplog.at_level(logging.WARNING):
        noise = noise_of(write(shot_of(scene)))
    assert noise.kind is NoiseKind.POISSON_GAUSSIAN
    assert noise.rung == "estimated from the frame"
    warned = [record.getMessage() for record in caplog.records if "NOISE" in record.getMessage()]
    assert len(warned) == 1
    assert "gain" in warned[0]
    assert "\n" not in warned[0]


@pytest.mark.parametrize(
    ("level", "dtype"), [(0.0, np.float32), (100.0, np.float32), (100.0, np.int16)]
)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_blank_edges_of_a_mosaic_are_no_sky(write, share, level, dtype):
    """Stored as zeros, and nowhere called bad; among whole numbers about zero none can be told."""
    pixels = level + np.random.default_rng(3).normal(0, 7.0, (256, 256))
    pixels[: int(share * 256)] = 0.0
    noise = noise_of(write(pixels, dtype))
    assert noise.sigma.value == pytest.approx(7.0, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_a_sky_that_was_taken_away_is_found_beside_blank_edges(write, share):
    pixels = np.random.default_rng(4).normal(0, 20.0, (256, 256))
    pixels[: int(share * 256)] = 0.0
    noise = noise_of(write(pixels, GAIN=1.0, RDNOISE=5.0))
    assert sigma_at(noise, 0.0) == pytest.approx(20.0, rel=0.1)


def test_a_sky_of_zeros_under_stars_without_noise_is_no_blank_edge(write):
    rows, cols = np.mgrid[:96, :96]
    places = np.random.default_rng(6).uniform(8, 88, (12, 2))
    light = sum(300 * np.exp(-((rows - y) ** 2 + (cols - x) ** 2) / 8) for y, x in places)
    with pytest.raises(EmptyFrameError, match="constant or nearly so"):
        noise_of(write(np.where(light < 1, 0.0, light)))


@pytest.mark.parametrize("side", [48, 64, 80])
def test_a_small_frame_is_held_against_its_sky_too(write, side, caplog):
    pixels = np.random.default_rng(5).normal(0, 20.0, (side, side))
    noise = noise_of(write(pixels, GAIN=1.0, RDNOISE=5.0))
    assert sigma_at(noise, 0.0) == pytest.approx(20.0, rel=0.1)
    assert "times as much as its noise law says" in caplog.text


def test_a_gaussian_law_that_is_asked_for_gets_one_sigma(scene, write):
    noise = noise_of(write(shot_of(scene)), law="gaussian")
    assert (noise.kind, noise.sensor.gain_e_per_dn) == (NoiseKind.GAUSSIAN, None)


def test_what_is_saturated_does_not_enter_the_estimate(scene, write):
    pixels = shot_of(scene)
    pixels[60:260, 60:260] = 3000 + np.random.default_rng(1).normal(0, 300, (200, 200))
    noise = noise_of(write(pixels), saturation_dn=1000.0, law="gaussian")
    assert noise.sigma.value == pytest.approx(10.5, rel=0.05)


@pytest.mark.parametrize(
    ("pixels", "error", "options", "words"),
    [
        (200.0, 0.0, {}, "100% have no positive noise below 1e\\+15 in .*--err none"),
        (200.0, -3.0, {"sigma": 10.0}, "100% have no positive noise below 1e\\+15 in .*--err none"),
        (200.0, 5e15, {}, "100% have no positive noise below 1e\\+15 in .*--err none"),
        (float("nan"), None, {"sigma": 10.0}, "100% are not finite, or beyond single precision"),
        (200.0, None, {"saturation_dn": 10.0}, r"100% are saturated, at or above 10.*--saturation"),
        (200.0, "flags", {"sigma": 10.0}, "100% are masked or flagged bad .*--dq none"),
    ],
)
def test_where_no_pixel_can_be_used_the_cause_is_named(tmp_path, pixels, error, options, words):
    science = pixels * np.random.default_rng(1).uniform(0.99, 1.01, (64, 64))
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(science, name="SCI")]
    if error == "flags":
        hdus.append(fits.ImageHDU(np.ones((64, 64), np.int16), name="DQ"))
    elif error is not None:
        hdus.append(fits.ImageHDU(np.full((64, 64), error), name="ERR"))
    fits.HDUList(hdus).writeto(tmp_path / "frame.fits")
    with pytest.raises(FrameError, match=f"no pixel can be used: {words}") as caught:
        noise_of(str(tmp_path / "frame.fits"), **options)
    assert "\n" not in str(caught.value)


def test_a_constant_frame_says_what_to_give(write):
    with pytest.raises(FrameError, match=r"--sigma.*--noise poisson") as caught:
        noise_of(write(np.full((64, 64), 5.0)))
    assert "single precision" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_noise_finer_than_the_steps_of_single_precision_is_named_as_the_cause(write, dtype):
    pixels = np.random.default_rng(4).normal(1e9, 10.0, (64, 64))
    words = r"single precision.* steps of 64 .* 1e\+09.*subtract"
    with pytest.raises(FrameError, match=words) as caught:
        noise_of(write(pixels, dtype))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("level", "dtype", "warned"),
    [
        (1e9, np.float64, True),
        (1e9, np.int32, True),
        (1e6, np.float64, False),
        (1e9, np.float32, False),  # as it is stored: nothing is lost here
    ],
)
def test_given_noise_finer_than_the_steps_of_single_precision_is_warned_of(
    write, caplog, level, dtype, warned
):
    pixels = np.random.default_rng(4).normal(level, 10.0, (64, 64))
    noise_of(write(pixels, dtype), sigma=10.0)
    words = "steps of 64, coarser than half their noise of 10: subtract a constant"
    assert (words in caplog.text) == warned


def test_so_is_that_of_an_error_plane(tmp_path, caplog):
    pixels = np.random.default_rng(4).normal(1e9, 10.0, (64, 64))
    planes = {"SCI": pixels, "ERR": np.full((64, 64), 10.0)}
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "frame.fits")
    noise_of(str(tmp_path / "frame.fits"))
    assert "steps of 64, coarser than half their noise of 10" in caplog.text


@pytest.mark.parametrize(
    ("gain", "dtype", "coarse"),
    [(30.0, np.int16, True), (30.0, np.float32, False), (2.0, np.int16, False)],
)
def test_coarse_whole_numbers_add_the_variance_of_their_rounding(write, gain, dtype, coarse):
    pixels = np.random.default_rng(2).normal(100.3, 0.3, (96, 96))
    noise = noise_of(write(pixels, dtype, GAIN=gain, RDNOISE=6.0, PEDESTAL=100.0))
    assert (noise.quantum is not None) == coarse
    if noise.quantum is not None:
        assert noise.quantum.value == 1.0
        assert "rounded to 1 DN" in noise_in_words(noise)


@pytest.mark.parametrize("stars", [False, True])
@pytest.mark.parametrize("told", ["as the amplifier has it", "as frames show it"])
@pytest.mark.parametrize("sigma", [0.55, 0.7, 0.9])
def test_rounding_counts_once_whether_a_read_noise_holds_it_or_not(
    scene, write, sigma, told, stars
):
    """At 0.57 of a step a law without it said too little: DIPRISK 0.51 where it was 0.34."""
    level = scene.render() / 40 if stars else np.zeros(scene.options.shape)
    light = np.random.default_rng(4).normal(level + 200.3, sigma)
    of_card = sigma if told.startswith("as the amp") else np.hypot(sigma, 12**-0.5)
    cards = {"GAIN": 1e3, "RDNOISE": 1e3 * of_card, "PEDESTAL": 200.0}
    noise = resolve_noise(
        open_frame(write(light.round(), np.int16, **cards)),
        RunConfig().with_overrides(
            **{"noise.gain_e_per_dn": 1e3, "noise.read_noise_e": 1e3 * of_card}
        ),
    )
    assert sigma_at(noise, 200.0) == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.01)


@pytest.mark.parametrize(("step", "coarse"), [(0.5, True), (0.1, False)])
def test_so_do_steps_that_are_scaled_to_the_unit(tmp_path, step, coarse):
    level = np.random.default_rng(2).normal(100.3, 0.2, (96, 96))
    hdu = fits.PrimaryHDU(level.astype("f4"), fits.Header({"GAIN": 30.0, "RDNOISE": 6.0}))
    hdu.scale("int16", bscale=step, bzero=90.0)
    hdu.header["PEDESTAL"] = 100.0
    hdu.writeto(tmp_path / "scaled.fits")
    quantum = noise_of(str(tmp_path / "scaled.fits")).quantum
    assert (None if quantum is None else quantum.value) == (step if coarse else None)


@pytest.mark.parametrize("cards", [{}, {"GAIN": 60.0, "PEDESTAL": 100.0}], ids=["", "law"])
@pytest.mark.parametrize("sigma", [0.2, 0.35, 0.5, 3.0])
def test_noise_finer_than_the_steps_of_its_numbers_is_told_of(write, caplog, cards, sigma):
    pixels = np.random.default_rng(2).normal(100.3, sigma, (96, 96)).round()
    law = cards and cards | {"RDNOISE": 60.0 * sigma}
    noise_of(write(pixels, np.int16, **law))
    assert ("in steps of 1, too coarse for its noise" in caplog.text) == (sigma < 0.4)


def test_steps_of_single_events_are_not(write, caplog):
    noise_of(write(np.random.default_rng(2).poisson(0.3, (96, 96)), np.int16))
    assert "in steps of" not in caplog.text


def test_counts_are_restored_with_their_own_law(write, caplog):
    pixels = np.random.default_rng(3).poisson(40.0, (96, 96))
    noise = noise_of(write(pixels, np.int16), law="poisson")
    assert noise.kind is NoiseKind.POISSON
    assert noise.sensor.gain_e_per_dn.source == "pixels taken as counts"
    assert noise.quantum is None
    assert not caplog.records


def test_too_few_counts_are_warned_of(write, caplog):
    pixels = np.random.default_rng(3).poisson(0.05, (96, 96))
    noise_of(write(pixels, np.int16), law="poisson")
    assert any("counts a pixel: too few" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("unit", "wanted"), [("adu", r"--gain.*adu"), ("MJy/sr", r"MJy/sr.*pixels that count")]
)
def test_counts_in_a_unit_that_does_not_count_are_refused(write, unit, wanted):
    with pytest.raises(SensorError, match=wanted):
        noise_of(write(np.ones((64, 64)), BUNIT=unit), law="poisson")


def test_the_model_stays_a_plain_value(scene, write):
    noise = noise_of(write(shot_of(scene, neighbour_correlation=0.4), **SENSOR))
    assert replace(noise) == noise
    assert hash(noise) == hash(replace(noise))


def test_an_estimated_pedestal_is_not_told_to_be_taken_as_removed(scene, write):
    path = write(shot_of(scene) + 300.0, BUNIT="adu")
    assert noise_of(path).sensor.pedestal_dn.source.startswith("estimated")
    shown = describe_frame(path, RunConfig())
    assert any("pedestal" in line and "estimated" in line for line in shown.noise_lines)
    assert not [note for note in shown.notes if "pedestal" in note]


def test_of_several_images_the_one_whose_noise_is_not_known_is_named(scene, tmp_path, caplog):
    hdus = [fits.ImageHDU(shot_of(scene), name="SCI", ver=ver) for ver in (1, 2)]
    path = tmp_path / "two.fits"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    for frame in open_frames(str(path)):
        resolve_noise(frame, RunConfig())
        assert f"{path}, {frame.label}: NOISE NOT KNOWN" in caplog.text


@pytest.mark.parametrize("step", [4.0, 4.1])
def test_the_step_of_scaled_whole_numbers_is_their_scale_whole_or_not(tmp_path, step):
    rng = np.random.default_rng(4)
    electrons = rng.poisson(500, (96, 96)) + rng.normal(0, 4, (96, 96))
    hdu = fits.PrimaryHDU(
        np.rint(electrons / 16 / step).astype("i2"), fits.Header({"BUNIT": "adu"})
    )
    hdu.header["BSCALE"] = step
    hdu.writeto(tmp_path / "frame.fits")
    asked = {"gain_e_per_dn": 16.0, "read_noise_e": 4.0, "pedestal_dn": 0.0}
    assert noise_of(str(tmp_path / "frame.fits"), **asked).quantum.value == step


def test_few_counts_are_told_as_many_as_they_are(tmp_path, caplog):
    counts = np.random.default_rng(4).poisson(0.05, (96, 96)).astype("i4")
    fits.PrimaryHDU(counts, fits.Header({"BUNIT": "electron"})).writeto(tmp_path / "frame.fits")
    noise_of(str(tmp_path / "frame.fits"), law="poisson")
    assert f"{counts.mean():.2g} counts a pixel" in caplog.text
    assert "single precision" not in caplog.text


def test_noise_below_single_precision_is_refused_with_what_to_do(write):
    pixels = np.random.default_rng(4).normal(0, 1e-50, (64, 64))
    with pytest.raises(FrameError, match=r"1e-50 is beyond single precision: multiply the frame"):
        noise_of(write(pixels, np.float64), sigma=1e-50)


def test_each_image_of_a_mosaic_is_stored_as_it_is_stored(tmp_path):
    """A float chip beside one of 16 bits has no converter's end at 32767."""
    rng = np.random.default_rng(0)
    chips = [
        fits.ImageHDU(rng.normal(100, 5, (64, 64)).astype(kind), name="SCI", ver=number)
        for number, kind in ((1, "i2"), (2, "f4"))
    ]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "mosaic.fits")
    frames = open_frames(tmp_path / "mosaic.fits")
    limits = [sensor_of(frame, RunConfig()).saturation_dn for frame in frames]
    assert [limit and limit.value for limit in limits] == [32767.0, None]


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_numbers_of_sixteen_bits_end_there_in_either_order(tmp_path, order):
    group = zarr.create_group(tmp_path / "frame.zarr", zarr_format=2)
    array = group.create_array("science", shape=(64, 64), chunks=(64, 64), dtype=f"{order}u2")
    array[:] = np.random.default_rng(0).normal(1000, 10, (64, 64)).astype("u2")
    limit = sensor_of(open_frame(tmp_path / "frame.zarr"), RunConfig()).saturation_dn
    assert limit is not None
    assert limit.value == 65535.0


@pytest.mark.parametrize("neighbours", [0.0, 0.4])
def test_no_level_without_light_is_guessed_where_pixels_were_resampled(scene, write, neighbours):
    """These scatter less than their cards say for another reason."""
    shot = shot_of(scene, quantised=False, neighbour_correlation=neighbours)
    noise = noise_of(write(shot, GAIN=1.2, RDNOISE=6.0))
    pedestal = noise.sensor.pedestal_dn
    guessed = pedestal is not None and pedestal.source == "from the scatter of the sky"
    assert guessed is (neighbours == 0.0)
    assert noise.rung.startswith("estimated") is not guessed


def test_an_image_that_is_alone_in_its_group_is_named_by_the_group(tmp_path, caplog):
    group = zarr.create_group(tmp_path / "frame.zarr")
    group.create_array("science", data=np.random.default_rng(0).normal(100, 5, (64, 64)))
    noise_of(tmp_path / "frame.zarr")
    assert f"{tmp_path / 'frame.zarr'}: NOISE NOT KNOWN" in caplog.text
