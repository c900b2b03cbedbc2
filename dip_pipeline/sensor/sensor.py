"""The sensor behind a frame: gain, read noise, pedestal, saturation, each with unit and source."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import SensorError
from dip_pipeline.sensor.cards import Amplifier, Sourced
from dip_pipeline.sensor.noise_kernel import WHITE, NoiseKernel
from dip_pipeline.sensor.units import UnitKind, counts_events, is_rate, unit_kind

__all__ = [
    "FROM_SCATTER",
    "NO_PEDESTAL",
    "NoiseChoice",
    "NoiseKind",
    "NoiseModel",
    "Sensor",
    "SensorOverrides",
    "Sourced",
    "check_overrides",
    "choose_noise",
    "estimate_sigma",
    "estimated_noise",
    "unit_counts_electrons",
]


FROM_SCATTER = "from the scatter of the sky"  # where a pedestal comes from that nobody names
NO_PEDESTAL = "no pedestal named: taken"  # as a guess of it begins


class NoiseChoice(StrEnum):
    """What the user may ask for with --noise."""

    AUTO = "auto"
    NONE = "none"
    GAUSSIAN = "gaussian"
    POISSON = "poisson"
    POISSON_GAUSSIAN = "poisson-gaussian"


class NoiseKind(StrEnum):
    """The noise laws that restoration knows."""

    NONE = "none"  # plain squared error; the noise level is not known
    GAUSSIAN = "gaussian"  # one sigma, or one per pixel
    POISSON = "poisson"  # counts, without read noise
    POISSON_GAUSSIAN = "poisson-gaussian"  # photon noise and read noise


@dataclass(frozen=True, slots=True)
class Sensor:
    """What is known of the sensor; None where nothing says.

    gain_e_per_dn : electrons per data number
    read_noise_e : electrons, standard deviation per pixel of one exposure
    pedestal_dn : bias level still in the data
    saturation_dn : level at and above which a pixel holds no information
    subtracted_sky_dn : sky that the reduction took away
    n_combined : exposures averaged into the frame
    amplifiers : where the numbers differ from one part of the frame to another
    guesses : what was taken for granted, in words; --strict refuses it
    notes : cards that were passed over, in words

    "DN" is the unit of the pixels: of a count rate, DN a second, and the gain holds the exposure
    time.
    """

    gain_e_per_dn: Sourced | None = None
    read_noise_e: Sourced | None = None
    pedestal_dn: Sourced | None = None
    saturation_dn: Sourced | None = None
    subtracted_sky_dn: Sourced | None = None
    n_combined: Sourced | None = None
    amplifiers: tuple[Amplifier, ...] = ()
    guesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorOverrides:
    """What the command line or the configuration says of the sensor; it outranks the file."""

    sigma_dn: float | None = None
    gain_e_per_dn: float | None = None
    read_noise_e: float | None = None
    pedestal_dn: float | None = None
    saturation_dn: float | None = None


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """The noise law of a frame with its numbers, in the frame's own unit.

    sigma : one standard deviation for all pixels (GAUSSIAN without an error plane)
    from_error_plane : the frame's error plane gives sigma pixel by pixel
    sensor : gain, read noise, pedestal, subtracted sky (POISSON, POISSON_GAUSSIAN)
    rung : which rung of the ladder was taken, in words
    correlation : of the noise of neighbouring pixels, in units of each one's sigma
    quantum : step of the pixel values, where it is coarse enough to matter (POISSON_GAUSSIAN)
    """

    kind: NoiseKind
    rung: str
    sigma: Sourced | None = None
    from_error_plane: bool = False
    sensor: Sensor = Sensor()
    correlation: NoiseKernel = WHITE
    quantum: Sourced | None = None


def choose_noise(
    choice: NoiseChoice,
    sensor: Sensor,
    unit: str,
    overrides: SensorOverrides,
    *,
    has_error_plane: bool,
    error_words: str = "error plane of the file",
) -> NoiseModel | None:
    """Climb down the ladder: command line, error plane, gain and read noise, else None.

    error_words : what the error plane is, as the rung is named; of amplifiers that differ it is
        made of their own numbers, so it is what a law of gain and read noise asks for

    None means that nobody says: the caller estimates sigma from the frame, and says so.
    Raises SensorError where the asked law needs numbers that nobody gives.
    """
    given = overrides.gain_e_per_dn is not None or overrides.read_noise_e is not None
    if choice is NoiseChoice.NONE:
        saturation = Sensor(saturation_dn=sensor.saturation_dn)
        return NoiseModel(NoiseKind.NONE, "asked for: noise level not used", sensor=saturation)
    sigma_given = overrides.sigma_dn is not None
    of_amplifiers = (
        choice is NoiseChoice.POISSON_GAUSSIAN
        and has_error_plane
        and bool(sensor.amplifiers)
        and unit_counts_electrons(unit)
    )
    asked = choice in (NoiseChoice.POISSON, NoiseChoice.POISSON_GAUSSIAN) and not of_amplifiers
    if asked or (choice is NoiseChoice.AUTO and given and not sigma_given):
        poisson = choice is NoiseChoice.POISSON
        return _poisson(sensor, unit) if poisson else _poisson_gaussian(sensor, unit, asked=True)
    if overrides.sigma_dn is not None and not of_amplifiers:
        sigma = Sourced(overrides.sigma_dn, unit or "DN", "--sigma")
        return NoiseModel(NoiseKind.GAUSSIAN, "command line: --sigma", sigma=sigma, sensor=sensor)
    if has_error_plane:
        return NoiseModel(NoiseKind.GAUSSIAN, error_words, from_error_plane=True, sensor=sensor)
    known = sensor.gain_e_per_dn is not None and sensor.read_noise_e is not None
    if choice is NoiseChoice.AUTO and known and unit_counts_electrons(unit):
        return _poisson_gaussian(sensor, unit, asked=False)
    return None


def estimated_noise(sigma_dn: float, sensor: Sensor, unit: str) -> NoiseModel:
    """Noise model of a frame that does not say: Gaussian with the scatter of its own sky."""
    sigma = Sourced(sigma_dn, unit or "DN", "estimated from the frame's pixel-to-pixel scatter")
    return NoiseModel(NoiseKind.GAUSSIAN, "estimated from the frame", sigma=sigma, sensor=sensor)


def unit_counts_electrons(unit: str) -> bool:
    """Whether a Poisson term is legal: pixels are electrons, data numbers, or rates of these."""
    return unit_kind(unit) is not UnitKind.CALIBRATED


def estimate_sigma(pixels: NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise from second differences, robustly.

    pixels : (rows, cols), NaN ignored. Returns NaN where too few pixels are finite.
    The 3 x 3 mask of Immerkaer 1996, Comput. Vis. Image Underst. 64, 300, has norm 6; the
    median absolute deviation keeps stars out.
    """
    if min(pixels.shape) < 3:
        finite = pixels[np.isfinite(pixels)]
        return float(np.std(finite)) if finite.size > 1 else float("nan")
    p = pixels.astype(np.float64)
    rows = p[:-2] - 2 * p[1:-1] + p[2:]
    second = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    second = second[np.isfinite(second)]
    if second.size < 4:
        return float("nan")
    return float(1.4826 * np.median(np.abs(second - np.median(second))) / 6.0)


def _poisson_gaussian(sensor: Sensor, unit: str, *, asked: bool) -> NoiseModel:
    if not unit_counts_electrons(unit):
        raise SensorError(
            f"unit {unit!r}: a Poisson term needs pixels in DN or electrons; "
            "use --noise gaussian with --sigma or an error plane"
        )
    missing = [
        f"{name} ({option})"
        for name, option, value in (
            ("gain", "--gain, electrons per DN", sensor.gain_e_per_dn),
            ("read noise", "--read-noise, electrons", sensor.read_noise_e),
        )
        if value is None
    ]
    if missing:
        raise SensorError(
            f"no {' and no '.join(missing)} in the header or on the command line: "
            "poisson-gaussian noise needs both"
        )
    rung = "gain and read noise" + ("" if asked else " of the header")
    return NoiseModel(NoiseKind.POISSON_GAUSSIAN, rung, sensor=sensor)


def _poisson(sensor: Sensor, unit: str) -> NoiseModel:
    """Build the law of counts: pixels of a unit that counts, or of none, are the counts."""
    if not unit_counts_electrons(unit):
        raise SensorError(
            f"unit {unit!r}: poisson noise needs pixels that count; "
            "use --noise gaussian with --sigma or an error plane"
        )
    kind = unit_kind(unit)
    if sensor.gain_e_per_dn is None and is_rate(kind):
        raise SensorError(
            f"no exposure time in the header, or no gain: poisson noise of pixels in {unit} needs "
            "how many electrons one unit stands for; give --gain"
        )
    if sensor.gain_e_per_dn is None and kind is UnitKind.COUNTS and not counts_events(unit):
        raise SensorError(
            f"no gain (--gain, electrons per DN) in the header or on the command line: "
            f"poisson noise of pixels in {unit} needs it"
        )
    gain = sensor.gain_e_per_dn or Sourced(1.0, "e/DN", "pixels taken as counts")
    guesses = sensor.guesses
    if sensor.amplifiers:
        guesses = (*guesses, "amplifiers differ: the mean of their gains taken")
    return NoiseModel(
        NoiseKind.POISSON,
        "asked for: counts",
        sensor=replace(sensor, gain_e_per_dn=gain, guesses=guesses),
    )


def check_overrides(overrides: SensorOverrides) -> None:
    """Raise SensorError for a number of the command line that cannot be true."""
    positive = {"--sigma": overrides.sigma_dn, "--gain": overrides.gain_e_per_dn}
    for option, value in positive.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise SensorError(f"{option} {value:g}: need a positive number")
    pedestal_dn, saturation_dn = overrides.pedestal_dn, overrides.saturation_dn
    if pedestal_dn is not None and not np.isfinite(pedestal_dn):
        raise SensorError(f"--pedestal {pedestal_dn:g}: need a finite level in DN")
    if saturation_dn is not None and np.isnan(saturation_dn):
        raise SensorError("--saturation nan: need a level in DN; inf means that nothing saturates")
    noise = overrides.read_noise_e
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise SensorError(f"--read-noise {noise:g}: need zero or a positive number of electrons")
