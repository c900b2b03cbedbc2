"""Before a frame is fitted: amplifiers, weights, cosmic rays, and what --strict refuses."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import SensorError
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.pixels_over import ScaledErrors
from dip_pipeline.noise.amplifiers import with_amplifiers
from dip_pipeline.noise.frame_sensor import sensor_of
from dip_pipeline.preparing.cosmics import without_cosmics
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.runs.describing import describe_frame
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, SensorOverrides, Sourced
from dip_pipeline.sensor.reading import read_sensor

ALL = slice(None)
SHAPE = (160, 200)
HALVES = {
    "BUNIT": "adu",
    "PEDESTAL": 0.0,
    "GAINA": 1.0,
    "GAINB": 4.0,
    "RDNOISEA": 4.0,
    "RDNOISEB": 10.0,
    "CCDSECA": "[1:100,1:160]",
    "CCDSECB": "[101:200,1:160]",
}


def config(**more):
    return RunConfig().with_overrides(**more)


@pytest.fixture
def write(tmp_path):
    def written(pixels, name="frame.fits", **cards):
        path = tmp_path / name
        fits.PrimaryHDU(pixels.astype("f4"), fits.Header(cards)).writeto(path)
        return str(path)

    return written


def halves(level_e=900.0, seed=1):
    """Two amplifiers of one CCD under the same light: electrons over gain, read noise of each."""
    rng = np.random.default_rng(seed)
    gain = np.where(np.arange(SHAPE[1]) < 100, 1.0, 4.0)
    noise = np.where(np.arange(SHAPE[1]) < 100, 4.0, 10.0)
    electrons = rng.poisson(level_e, SHAPE) + rng.normal(0, 1, SHAPE) * noise
    return electrons / gain, np.sqrt(level_e + noise**2) / gain


def test_each_amplifier_has_its_own_noise(write):
    observed, sigma = halves()
    frame = open_frame(write(observed, **HALVES))
    settled, noise = settle_frame(frame, config())
    assert (noise.kind, noise.from_error_plane) == (NoiseKind.GAUSSIAN, True)
    assert noise.rung == "cards of amplifiers A, B"
    error = settled.read(ALL, ALL).error
    inner = np.r_[5:95, 105:195]  # the level near the seam holds light of both gains
    np.testing.assert_allclose(
        np.median(error[:, inner], axis=0), np.broadcast_to(sigma, SHAPE)[0, inner], rtol=0.01
    )


def test_each_amplifier_has_its_own_noise_when_gain_and_read_noise_are_asked_for(write):
    """Not the mean of their gains; nor an error plane of the file, which was not asked for."""
    observed, sigma = halves()
    frame = open_frame(write(observed, **HALVES))
    settled, noise = settle_frame(frame, config(**{"noise.law": "poisson-gaussian"}))
    assert noise.rung == "cards of amplifiers A, B"
    error = settled.read(ALL, ALL).error
    np.testing.assert_allclose(np.median(error[:, 5:95]), sigma[0], rtol=0.01)
    np.testing.assert_allclose(np.median(error[:, 105:195]), sigma[-1], rtol=0.01)
    of_file = replace(settled, source=ScaledErrors(settled.source, 7.0), noise_words="of the file")
    settled, noise = settle_frame(of_file, config(**{"noise.law": "poisson-gaussian"}))
    assert np.median(settled.read(ALL, ALL).error[:, 5:95]) == pytest.approx(sigma[0], rel=0.01)


def test_a_mean_of_amplifiers_is_a_guess(write):
    frame = open_frame(write(halves()[0], **HALVES))
    asked = config(**{"noise.law": "poisson", "reading.strict": True})
    with pytest.raises(SensorError, match="amplifiers differ"):
        settle_frame(frame, asked)


def test_the_pedestal_of_the_command_line_is_that_of_all_amplifiers(write):
    observed, sigma = halves()
    levels = {"A": 300.0, "B": 310.0}
    given = SensorOverrides(pedestal_dn=1000.0)
    sensor = read_sensor(HALVES, "adu", given, amplifier_levels_dn=levels, shape=SHAPE)
    frame = with_amplifiers(open_frame(write(observed + 1000.0, **HALVES)), sensor)
    error = frame.read(ALL, ALL).error
    np.testing.assert_allclose(np.median(error[:, 5:95]), sigma[0], rtol=0.01)
    np.testing.assert_allclose(np.median(error[:, 105:195]), sigma[-1], rtol=0.01)


@pytest.mark.parametrize("fwhm_px", [2.0, 2.5, 4.0])
def test_the_core_of_a_star_has_its_own_noise(write, fwhm_px):
    """A mean over 5 x 5 pixels holds a quarter of it: half the noise, and twice too sure."""
    rows, cols = np.indices(SHAPE)
    level_e = np.full(SHAPE, 900.0)
    middles = [(40, 50), (81, 52), (120, 30), (41, 150), (80, 151), (121, 170)]
    for row, col in middles:
        square = (rows - row) ** 2 + (cols - col) ** 2
        level_e += 4e4 * np.exp(-square / (2 * (fwhm_px / 2.355) ** 2))
    observed, sigma = halves(level_e)
    frame, _ = settle_frame(open_frame(write(observed, **HALVES)), config())
    ratio = frame.read(ALL, ALL).error / sigma
    for row, col in middles:
        assert 0.8 < ratio[row, col] < 1.1
        assert ratio[row - 1 : row + 2, col - 1 : col + 2].min() > 0.7


def test_empty_sky_has_no_steep_surfaces(write):
    """Nor has it any beside a pixel that is not known."""
    observed, sigma = halves()
    observed[::9, ::9] = np.nan
    frame, _ = settle_frame(open_frame(write(observed, **HALVES)), config())
    ratio = (frame.read(ALL, ALL).error / sigma)[:, np.r_[5:95, 105:195]]
    assert np.mean(ratio[np.isfinite(ratio)]) == pytest.approx(1, abs=0.002)
    beside = np.isnan(observed)
    beside = np.roll(beside, (1, 1), (0, 1))[:, np.r_[5:95, 105:195]]
    assert np.mean(ratio[1:][beside[1:]]) == pytest.approx(1, abs=0.01)


def test_an_error_plane_of_amplifiers_is_the_same_in_every_region(write):
    observed, _ = halves()
    observed[40, 50] = np.nan
    observed[8:20, 92:104] = np.nan
    observed[14, 98] = 900.0  # no other one is near enough to tell of its level
    frame = open_frame(write(observed, **HALVES))
    frame = with_amplifiers(frame, sensor_of(frame, config()))
    whole = frame.read(ALL, ALL)
    for rows, cols in ((slice(0, 33), slice(90, 111)), (slice(38, 43), slice(48, 53))):
        part = frame.read(rows, cols)
        np.testing.assert_array_equal(part.error, whole.error[rows, cols])
        np.testing.assert_array_equal(part.masked, whole.masked[rows, cols])


def test_the_level_of_a_pixel_does_not_hold_its_own_noise(write):
    """Otherwise bright noise would have larger errors, and the mean would be too low."""
    observed, _ = halves(level_e=100.0)
    frame = open_frame(write(observed, **HALVES))
    frame = with_amplifiers(frame, sensor_of(frame, config()))
    pixels = frame.read(ALL, slice(0, 95))
    weights = pixels.error.astype(np.float64) ** -2
    assert np.average(pixels.science, weights=weights) == pytest.approx(
        pixels.science.mean(dtype=np.float64), abs=0.1
    )


def test_each_amplifier_of_a_raw_frame_has_its_own_overscan(write):
    """Light and overscan of two halves with biases of their own, as they are read out."""
    observed, sigma = halves()
    rng = np.random.default_rng(8)
    raw = np.empty((SHAPE[0], SHAPE[1] + 40))
    raw[:, :100], raw[:, 140:] = observed[:, :100] + 1000.0, observed[:, 100:] + 3000.0
    raw[:, 100:120] = rng.normal(1000.0, 4.0, (SHAPE[0], 20))
    raw[:, 120:140] = rng.normal(3000.0, 2.5, (SHAPE[0], 20))
    cards = {name: value for name, value in HALVES.items() if "SEC" not in name}
    del cards["PEDESTAL"]
    sections = {
        "DATASECA": "[1:100,1:160]", "DATASECB": "[141:240,1:160]",
        "BIASSECA": "[101:120,1:160]", "BIASSECB": "[121:140,1:160]",
    }  # fmt: skip
    frame = open_frame(write(raw, **cards, **sections))
    sensor = sensor_of(frame, config())
    levels = [amp.pedestal.value for amp in sensor.amplifiers]
    np.testing.assert_allclose(levels, [1000.0, 3000.0], atol=0.5)
    error = settle_frame(frame, config())[0].read(ALL, ALL).error
    for part, truth in ((slice(5, 95), sigma[0]), (slice(145, 235), sigma[-1])):
        np.testing.assert_allclose(np.median(error[:, part]), truth, rtol=0.01)
    assert 2.0 < np.median(error[:, 105:135]) < 4.5  # no light falls on an overscan


def test_amplifiers_alike_are_one(write):
    cards = {**HALVES, "GAINB": 1.0, "RDNOISEB": 4.0}
    rng = np.random.default_rng(2)
    frame = open_frame(write(rng.poisson(900, SHAPE) + rng.normal(0, 4, SHAPE), **cards))
    assert settle_frame(frame, config())[1].kind is NoiseKind.POISSON_GAUSSIAN


def test_a_relative_weight_is_scaled_to_the_sky(tmp_path, write):
    rng = np.random.default_rng(3)
    weight = np.where(np.arange(SHAPE[1]) < 100, 1.0, 4.0) * np.ones(SHAPE)
    path = write(100 + rng.normal(0, 6, SHAPE) / np.sqrt(weight), "m31.fits")
    write(weight, "m31.weight.fits")
    frame = open_frame(path)
    assert frame.relative_noise
    settled, noise = settle_frame(frame, config())
    assert noise.from_error_plane
    assert "scaled by" in noise.rung
    error = settled.read(ALL, ALL).error
    np.testing.assert_allclose(error[:, [0, 150]], np.full((160, 2), [6.0, 3.0]), rtol=0.03)
    with pytest.raises(SensorError, match=r"refused by --strict.*noise plane is scaled"):
        settle_frame(frame, config(**{"reading.strict": True}))


def test_a_noise_plane_above_all_scatter_is_scaled_to_the_sky(tmp_path, caplog):
    """A variance that is called an error: no sky scatters less than its noise."""
    path = tmp_path / "square.fits"
    science = np.random.default_rng(3).normal(100, 6, SHAPE).astype("f4")
    hdus = [fits.ImageHDU(science, name="SCI"), fits.ImageHDU(np.full(SHAPE, 36.0), name="ERR")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    settled, noise = settle_frame(open_frame(path), config())
    np.testing.assert_allclose(settled.read(ALL, ALL).error, 6.0, rtol=0.03)
    assert "scaled by" in noise.rung
    assert "which scatters less than it says" in caplog.text
    assert "check gain" not in caplog.text  # it is told once, and what is true of a plane
    with pytest.raises(SensorError, match=r"refused by --strict.*noise plane is scaled"):
        settle_frame(open_frame(path), config(**{"reading.strict": True}))


@pytest.mark.parametrize(("law", "sigma"), [("auto", 6.0), ("gaussian", 36.0)])
def test_a_noise_plane_that_is_given_with_its_law_is_used_as_it_is(tmp_path, law, sigma):
    path, given = tmp_path / "a.fits", tmp_path / "sigma.fits"
    fits.PrimaryHDU(np.random.default_rng(3).normal(100, 6, SHAPE).astype("f4")).writeto(path)
    fits.PrimaryHDU(np.full(SHAPE, 36.0)).writeto(given)
    asked = config(**{"reading.error": str(given), "noise.law": law})
    settled, _ = settle_frame(open_frame(path, asked.frame_reading()), asked)
    np.testing.assert_allclose(settled.read(ALL, ALL).error, sigma, rtol=0.03)


def test_cards_of_a_frame_full_of_nebula_are_believed(write):
    """Its sky is looked for where it is darkest; there the law is right."""
    rng = np.random.default_rng(8)
    rows, cols = np.indices((384, 384)) / 384
    bulge = np.exp(-((rows - 0.4) ** 2 + (cols - 0.45) ** 2) / 0.18)
    light = 100 + 30000 * np.maximum(bulge - 0.3, 0)
    electrons = rng.poisson(light * 2.0) + rng.normal(0, 4.0, light.shape)
    cards = {"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 4.0, "PEDESTAL": 0.0}
    noise = settle_frame(open_frame(write(electrons / 2.0, **cards)), config())[1]
    assert noise.sensor.read_noise_e.value == 4.0


def test_cards_that_the_sky_refutes_are_not_believed(write, caplog):
    """A picture between 0 and 1 that still says how many electrons its camera's numbers held."""
    pixels = np.random.default_rng(3).normal(0.1, 0.002, SHAPE)
    cards = {"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 5.0}
    frame = open_frame(write(pixels, **cards))
    noise = settle_frame(frame, config())[1]
    assert noise.rung.startswith("estimated")
    assert noise.sigma.value == pytest.approx(0.002, rel=0.03)
    assert "NOISE NOT KNOWN: its sky scatters 0.00" in caplog.text
    with pytest.raises(SensorError, match="refused by --strict"):
        settle_frame(frame, config(**{"reading.strict": True}))
    asked = settle_frame(frame, config(**{"noise.gain_e_per_dn": 2.0, "noise.read_noise_e": 5.0}))
    assert asked[1].kind is NoiseKind.POISSON_GAUSSIAN


@pytest.mark.parametrize(
    ("cards", "option", "guess"),
    [
        ({}, {}, "estimated from the frame"),
        ({"GAIN": 2.0, "RDNOISE": 5.0}, {}, "no unit named.*no pedestal named"),
        ({"GAIN": 2.0, "RDNOISE": 5.0, "BUNIT": "adu"}, {}, "no pedestal named"),
        ({**HALVES, "CCDSECA": "[1:1024,1:4096]"}, {}, "mean taken"),
    ],
)
def test_strict_refuses_to_guess(write, cards, option, guess):
    rng = np.random.default_rng(4)
    frame = open_frame(write(rng.normal(400, 14, SHAPE), **cards))
    settle_frame(frame, config(**option))
    with pytest.raises(SensorError, match=f"refused by --strict: .*{guess}") as caught:
        settle_frame(frame, config(**{"reading.strict": True}, **option))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cards", "options"),
    [
        ({"GAIN": 2.0, "RDNOISE": 5.0, "BUNIT": "adu", "PEDESTAL": 0.0}, {}),
        ({}, {"noise.sigma": 14.0}),
        ({}, {"noise.gain_e_per_dn": 2.0, "noise.read_noise_e": 5.0, "noise.pedestal_dn": 0.0}),
    ],
)
def test_strict_takes_what_is_said(write, cards, options):
    frame = open_frame(write(np.random.default_rng(4).normal(400, 14, SHAPE), **cards))
    assert settle_frame(frame, config(**{"reading.strict": True}, **options))


@pytest.mark.parametrize(("bias_dn", "sky_dn"), [(1200.0, 0.0), (9000.0, 0.0), (0.0, 700.0)])
def test_a_bias_or_a_lost_sky_is_found_by_the_scatter_of_the_sky(write, bias_dn, sky_dn, caplog):
    gain, read_noise, light_dn = 2.0, 5.0, 1000.0
    rng = np.random.default_rng(5)
    electrons = rng.poisson(light_dn * gain, SHAPE) + rng.normal(0, read_noise, SHAPE)
    pixels = electrons / gain + bias_dn - sky_dn
    frame = open_frame(write(pixels, GAIN=gain, RDNOISE=read_noise, BUNIT="adu"))
    _, noise = settle_frame(frame, config())
    sensor = noise.sensor
    lost = sensor.subtracted_sky_dn.value if sensor.subtracted_sky_dn else 0.0
    zero = sensor.pedestal_dn.value - lost
    assert zero == pytest.approx(bias_dn - sky_dn, abs=0.04 * light_dn)
    assert sensor.pedestal_dn.source == "from the scatter of the sky"
    assert "times as much as its noise law says" in caplog.text
    assert "NOISE NOT KNOWN" not in caplog.text


def test_a_law_with_a_named_pedestal_gives_way_to_a_sky_that_scatters_less(write, caplog):
    """No level without light is guessed: the frame may be a mean of several, or resampled."""
    frame = open_frame(
        write(
            np.random.default_rng(6).normal(3000, 25, SHAPE),
            GAIN=2.0, RDNOISE=5.0, BUNIT="adu", PEDESTAL=100.0,
        )
    )  # fmt: skip
    noise = settle_frame(frame, config())[1]
    assert noise.sigma.value == pytest.approx(25, rel=0.02)
    assert "its sky scatters 0.66 times as much as poisson-gaussian" in caplog.text


def rays(shape, seed):
    """Sharp tracks that no optics could make: where, and how much."""
    rng = np.random.default_rng(seed)
    hits = np.zeros(shape, dtype=bool)
    for row, col in rng.integers(5, np.array(shape) - 15, (12, 2)):
        length = int(rng.integers(1, 8))
        for step in range(length):
            hits[row + step // 2, col + step] = True
    return hits


def noise_of(sigma):
    return NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(sigma, "DN", "given"))


@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e12])
def test_cosmic_rays_are_found_and_stars_are_not_in_every_unit(write, unit):
    rng = np.random.default_rng(7)
    rows, cols = np.indices(SHAPE)
    stars = np.zeros(SHAPE)
    places = rng.integers(10, 150, (15, 2))
    for row, col in places:
        stars += 800 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.7**2))
    hits = rays(SHAPE, 8) & (stars < 5)
    pixels = 200 + stars + rng.normal(0, 5, SHAPE) + 400 * hits
    frame = without_cosmics(open_frame(write(pixels * unit)), noise_of(5.0 * unit))
    found = frame.read(ALL, ALL).masked
    assert (found & hits).sum() / hits.sum() > 0.9
    cores = np.zeros(SHAPE, dtype=bool)
    cores[places[:, 0], places[:, 1]] = True
    assert not (found & cores & ~hits).any()
    assert (found & ~hits).mean() < 0.01
    assert "L.A.Cosmic" in frame.flag_words


def test_what_is_a_cosmic_ray_does_not_depend_on_the_region(write, monkeypatch):
    monkeypatch.setattr("dip_pipeline.preparing.found_pixels._BLOCK_PX", 64)
    rng = np.random.default_rng(9)
    pixels = 200 + rng.normal(0, 5, SHAPE) + 400 * rays(SHAPE, 10)
    frame = without_cosmics(open_frame(write(pixels)), noise_of(5.0))
    whole = frame.read(ALL, ALL).masked
    assert whole.any()
    for row in range(0, 160, 37):
        region = (slice(row, row + 40), slice(row, row + 51))
        np.testing.assert_array_equal(frame.read(*region).masked, whole[region])


def test_cosmic_rays_are_bad_only_where_they_are_looked_for(write):
    rng = np.random.default_rng(11)
    pixels = 200 + rng.normal(0, 5, SHAPE) + 400 * rays(SHAPE, 12)
    frame = open_frame(write(pixels))
    given = {"noise.sigma": 5.0}
    assert not settle_frame(frame, config(**given))[0].read(ALL, ALL).masked.any()
    asked = config(**given, **{"reading.find_cosmics": True})
    assert settle_frame(frame, asked)[0].read(ALL, ALL).masked.any()


def test_a_poisson_law_serves_the_search_too(write):
    rng = np.random.default_rng(13)
    hits = rays(SHAPE, 14)
    pixels = rng.poisson(400, SHAPE) / 2.0 + 100 + rng.normal(0, 2, SHAPE) + 300 * hits
    sensor = Sensor(
        gain_e_per_dn=Sourced(2.0, "e/DN", ""),
        read_noise_e=Sourced(4.0, "e", ""),
        pedestal_dn=Sourced(100.0, "DN", ""),
    )
    noise = NoiseModel(NoiseKind.POISSON_GAUSSIAN, "given", sensor=sensor)
    found = without_cosmics(open_frame(write(pixels)), noise).read(ALL, ALL).masked
    assert (found & hits).sum() / hits.sum() > 0.8
    assert (found & ~hits).mean() < 0.01


@pytest.mark.parametrize("gain", [0.2, 4.0])
def test_pixels_are_full_at_a_level_in_data_numbers_whatever_the_gain(write, gain):
    """The search is in electrons: rays well below saturation are found, bleeding stars are not."""
    rng = np.random.default_rng(15)
    rows, cols = np.indices(SHAPE)
    star = 4e5 * np.exp(-((rows - 80) ** 2 + (cols - 80) ** 2) / (2 * 1.5**2))
    hits = rays(SHAPE, 16) & (star < 1)
    sky = 3000.0
    light = rng.poisson((sky + star) * gain) / gain + rng.normal(0, 2, SHAPE)
    pixels = np.minimum(light + 25_000 * hits, 60_000.0)
    sensor = Sensor(
        gain_e_per_dn=Sourced(gain, "e/DN", ""),
        read_noise_e=Sourced(2 * gain, "e", ""),
        saturation_dn=Sourced(60_000.0, "DN", ""),
    )
    noise = NoiseModel(NoiseKind.POISSON_GAUSSIAN, "given", sensor=sensor)
    found = without_cosmics(open_frame(write(pixels)), noise).read(ALL, ALL).masked
    assert (found & hits).sum() / hits.sum() > 0.9
    assert (found & ~hits).sum() < 25


@pytest.mark.parametrize(
    ("cards", "options", "taken"),
    [
        ({}, {}, "estimated from the frame"),
        ({"GAIN": 2.0, "RDNOISE": 20.0, "BUNIT": "adu", "PEDESTAL": 0.0}, {}, "single cards"),
        ({}, {"noise.sigma": 14.0}, "command line"),
        ({}, {"noise.gain_e_per_dn": 2.0, "noise.read_noise_e": 5.0}, "command line"),
        (HALVES, {}, "cards of amplifiers"),
        ({**HALVES, "CCDSECA": "[1:1024,1:4096]"}, {}, "cards of amplifiers"),
    ],
)
def test_the_ladder_names_every_rung_and_the_one_that_was_taken(write, cards, options, taken):
    path = write(np.random.default_rng(4).normal(400, 17, SHAPE), **cards)
    shown = describe_frame(path, config(**options))
    assert [rung.name for rung in shown.ladder] == [
        "command line",
        "error plane",
        "cards of amplifiers",
        "single cards",
        "estimated from the frame",
    ]
    assert [rung.name for rung in shown.ladder if rung.taken] == [taken]
    says = {rung.name: rung.says for rung in shown.ladder}
    assert says["error plane"] == "none"  # that of amplifiers is made of their cards
    halves = "A: 1 e/DN (card GAINA), B: 4 e/DN (card GAINB)"
    assert says["cards of amplifiers"].startswith(halves if "GAINA" in cards else "none")
    assert ("which pixels are whose" in says["cards of amplifiers"]) is ("[1:1024" in str(cards))


def test_the_ladder_names_numbers_that_are_zero_and_how_many_amplifiers_are_not_named(write):
    gains = {f"ESO DET OUT{n} CONAD": 1.0 + n / 10 for n in range(1, 17)}
    gains = {f"HIERARCH {keyword}": gain for keyword, gain in gains.items()}
    path = write(np.random.default_rng(4).normal(400, 17, SHAPE), BUNIT="adu", **gains)
    given = {"noise.gain_e_per_dn": 2.0, "noise.read_noise_e": 0.0, "noise.pedestal_dn": 0.0}
    says = {rung.name: rung.says for rung in describe_frame(path, config(**given)).ladder}
    assert says["command line"] == "--gain 2, --read-noise 0, --pedestal 0"
    assert "and 12 more" in says["cards of amplifiers"]


def _with_hopeless(tmp_path, bad_error, share=0.03, left=0.0, **more):
    """A frame with a bright star, whose bad pixels have a large error, and 0 for a number.

    left : times their light that they have all the same
    """
    rng = np.random.default_rng(3)
    rows, cols = np.indices(SHAPE) - np.array([[[80]], [[100]]])
    error = np.sqrt(1 + 1e4 * np.exp(-(rows**2 + cols**2) / 8))
    light = 100 + 1e6 * np.exp(-(rows**2 + cols**2) / 8)
    bad = (rng.random(SHAPE) < share) & (error < 2)
    science = np.where(bad, left * light, light + error * rng.standard_normal(SHAPE))
    planes = {"SCI": science, "ERR": np.where(bad, bad_error, error)}
    hdus = [fits.ImageHDU(plane.astype("f4"), name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "frame.fits", overwrite=True)
    frame, _ = settle_frame(open_frame(tmp_path / "frame.fits"), config(**more))
    return frame.read(ALL, ALL), bad, error


@pytest.mark.parametrize("bad_error", [50.0, 1e3, 1e10, np.inf])
def test_pixels_that_tell_nothing_are_masked_however_that_is_written(tmp_path, caplog, bad_error):
    pixels, bad, error = _with_hopeless(tmp_path, bad_error)
    np.testing.assert_array_equal(pixels.masked, bad)  # no pixel of the star, whose error is large
    assert np.isinf(pixels.error[bad]).all()
    np.testing.assert_allclose(pixels.error[~bad], error[~bad], rtol=1e-6)
    assert ("show nothing: taken as masked" in caplog.text) is bool(np.isfinite(bad_error))


def test_pixels_that_tell_nothing_may_be_the_most_of_all(tmp_path):
    pixels, bad, _ = _with_hopeless(tmp_path, 1e10, share=0.7)
    np.testing.assert_array_equal(pixels.masked, bad)


def test_errors_that_are_not_asked_for_mask_nothing_more(tmp_path):
    more = {"noise.sigma": 1.0}
    assert not _with_hopeless(tmp_path, 1e3, left=1.0, **more)[0].masked.any()


def test_shallow_parts_count_where_they_are_no_tenth_as_deep(tmp_path):
    """A mosaic whose edge has a hundredth of the exposure, and an error of ten."""
    assert not _with_hopeless(tmp_path, 10.0, left=2.0)[0].masked.any()


def _settled(tmp_path, science, error):
    planes = {"SCI": science, "ERR": error}
    hdus = [fits.ImageHDU(plane.astype("f4"), name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "frame.fits", overwrite=True)
    return settle_frame(open_frame(tmp_path / "frame.fits"), config())[0]


@pytest.mark.parametrize(
    "shape", ["single pixels", "pairs", "a column", "a double column", "a double row"]
)
@pytest.mark.parametrize("factor", [3.0, 4.0, 20.0])
def test_pixels_much_noisier_than_those_around_are_filled_from_these(tmp_path, shape, factor):
    """Hot pixels as the error plane tells of them: their noise came back at 0.7 of it, beside
    neighbours of four times theirs, with a risk told too small by half."""
    rng = np.random.default_rng(5)
    noisy = np.zeros(SHAPE, bool)
    if "column" in shape:
        noisy[:, 40 : 42 if "double" in shape else 41] = True
    elif shape == "a double row":
        noisy[40:42] = True
    else:
        noisy[10:-10:12, 10:-10:12] = True
        noisy |= np.roll(noisy, 1, axis=1) & (shape == "pairs")
    error = np.where(noisy, factor, 1.0)
    frame = _settled(tmp_path, 100 + error * rng.standard_normal(SHAPE), error)
    masked = frame.read(ALL, ALL).masked
    assert not (masked & ~noisy).any()
    # Some that differ from those around by three of their error may be light.
    least = 0.99 if factor > 3.5 else 0.0
    assert least * noisy.sum() <= masked.sum() <= noisy.sum() * (factor > 3.5)
    parts = [frame.read(slice(row, row + 7), slice(33, 48)).masked for row in range(0, 70, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), masked[:70, 33:48])


@pytest.mark.parametrize("unknown", [np.inf, 1e10])
@pytest.mark.parametrize(("gone", "filled"), [(4, True), (5, False)])
def test_a_noisy_pixel_is_compared_with_those_around_that_are_known(
    tmp_path, unknown, gone, filled
):
    """Of fewer than half of the pixels around nobody knows what is usual."""
    error = np.ones(SHAPE)
    error[50, 50] = 20.0
    around = [(row, col) for row in (47, 50, 53) for col in (47, 50, 53) if (row, col) != (50, 50)]
    for place in [(49, 50), (50, 49), *around[:gone]]:
        error[place] = unknown
    science = 100 + np.random.default_rng(8).standard_normal(SHAPE)
    assert _settled(tmp_path, science, error).read(ALL, ALL).masked[50, 50] == filled


@pytest.mark.parametrize("fwhm_px", [1.2, 2.5, 6.0])
@pytest.mark.parametrize("sky_e", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("by_pixel", [False, True])
def test_stars_are_noisier_than_the_sky_and_are_not_filled(tmp_path, fwhm_px, sky_e, by_pixel):
    """However bright, whatever the sky, also where each pixel's error is that of its own counts."""
    rng = np.random.default_rng(6)
    rows, cols = np.indices(SHAPE)
    light = np.full(SHAPE, sky_e)
    for number, (row, col) in enumerate(np.ndindex(5, 6)):
        square = (rows - 16 - 28.3 * row) ** 2 + (cols - 16 - 31.7 * col) ** 2
        light += 10 ** (0.5 + number / 6) * np.exp(-square * 4 * np.log(2) / fwhm_px**2)
    counts = rng.poisson(light)
    error = np.sqrt(np.maximum(counts if by_pixel else light, 1.0))
    masked = _settled(tmp_path, counts, error).read(ALL, ALL).masked
    assert np.count_nonzero(masked) <= 1  # of 60 to 5000 that are much noisier


def test_a_shallow_edge_is_no_pixel_beside_others(tmp_path):
    error = np.ones(SHAPE)
    error[:, :30] = 8.0
    frame = _settled(tmp_path, 100 + error * np.random.default_rng(7).standard_normal(SHAPE), error)
    assert frame.read(ALL, ALL).masked.mean() < 0.001


@pytest.mark.parametrize("unit", [1.0, 1e15, 1e30])
@pytest.mark.parametrize("mark", [1e22, 1e30, -1.6e38])
def test_a_number_that_no_light_reaches_is_a_masked_pixel(write, caplog, mark, unit):
    """In any unit: beside a scatter of 1e30 a number of 1e30 is light."""
    pixels = np.random.default_rng(1).normal(100, 5, SHAPE) * unit
    pixels[40, 50] = mark
    frame = open_frame(write(pixels, BUNIT="adu"))
    settled, _ = settle_frame(frame, config())
    read = settled.read(ALL, ALL)
    marked = abs(mark) > 1e18 * 5 * unit
    assert read.masked.sum() == marked
    assert np.isnan(read.science[40, 50]) == marked
    assert ("1 of the pixels that were looked at hold" in caplog.text) == marked
    assert np.array_equal(read.science[50:], pixels[50:].astype("f4"))
