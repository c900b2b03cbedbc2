"""The ladder of noise sources, rung by rung, and which one was taken."""

from dataclasses import dataclass

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import Frame
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, unit_counts_electrons
from dip_pipeline.sensor.cards import amplifiers_of
from dip_pipeline.sensor.units import unit_kind


@dataclass(frozen=True, slots=True)
class Rung:
    """One source of the noise: its name, what it says, whether it was taken."""

    name: str
    says: str
    taken: bool


def climb(
    frame: Frame, config: RunConfig, sensor: Sensor, noise: NoiseModel | None
) -> tuple[Rung, ...]:
    """Every rung from the top; noise : the law that was found, None where there was none.

    sensor : the numbers of the cards and the command line, before anything was estimated
    """
    rungs = {
        "command line": _asked(config),
        "error plane": _error_plane(frame),
        "cards of amplifiers": _amplifiers(frame),
        "single cards": _single(frame, sensor),
        "estimated from the frame": "its sky, and where scatter grows with light, its gain",
    }
    taken = None if noise is None else _taken(noise, frame, config)
    return tuple(Rung(name, says, name == taken) for name, says in rungs.items())


def _taken(noise: NoiseModel, frame: Frame, config: RunConfig) -> str:
    numbers = config.noise
    if noise.kind is NoiseKind.NONE or "asked for" in noise.rung:
        return "command line"
    if noise.from_error_plane:
        return "cards of amplifiers" if noise.rung.startswith("cards of") else "error plane"
    if noise.rung.startswith("estimated"):
        return "estimated from the frame"
    if noise.kind is NoiseKind.GAUSSIAN:
        return "command line"
    if numbers.gain_e_per_dn is not None and numbers.read_noise_e is not None:
        return "command line"
    return "cards of amplifiers" if amplifiers_of(frame.header, frame.shape) else "single cards"


def _asked(config: RunConfig) -> str:
    noise = config.noise
    asked = [f"--noise {noise.law}"] if noise.law != "auto" else []
    options = (
        ("--sigma", noise.sigma),
        ("--gain", noise.gain_e_per_dn),
        ("--read-noise", noise.read_noise_e),
        ("--pedestal", noise.pedestal_dn),
    )
    asked += [f"{option} {value:g}" for option, value in options if value is not None]
    return ", ".join(asked) or "not given"


def _error_plane(frame: Frame) -> str:
    if not frame.has_error_plane or frame.noise_words.startswith("cards of"):
        return "none"
    return frame.noise_words or "array error"


def _amplifiers(frame: Frame) -> str:
    found = amplifiers_of(frame.header, frame.shape)
    if not found:
        return "none"
    words = [f"{amp.name}: {amp.gain}" for amp in found[:4]]
    words += [f"{amp.name}: {amp.read_noise}" for amp in found[:4] if amp.read_noise is not None]
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    where = "" if all(amp.section for amp in found) else "; no card says which pixels are whose"
    return ", ".join(words) + more + where


def _single(frame: Frame, sensor: Sensor) -> str:
    numbers = (("gain", sensor.gain_e_per_dn), ("read noise", sensor.read_noise_e))
    words = [f"{name} {'not known' if number is None else number}" for name, number in numbers]
    if not unit_counts_electrons(frame.unit):
        words.append(f"unit {frame.unit}: {unit_kind(frame.unit)}, no photon noise from cards")
    return ", ".join(words)
