"""The sensor's numbers of one frame: command line first, then cards, converted to its unit."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from dip_pipeline.sensor.cards import (
    GAIN_RANGE_E_PER_DN,
    GAIN_RULES,
    READ_NOISE_RANGE_E,
    READ_NOISE_RULES,
    SATURATION_RULES,
    Amplifier,
    Sourced,
    amplifiers_of,
    exposure_of,
    legal_card,
    look_up,
    mean_of,
)
from dip_pipeline.sensor.sensor import NO_PEDESTAL, Sensor, SensorOverrides, check_overrides
from dip_pipeline.sensor.units import UnitKind, is_rate, unit_kind

_ALIKE = 0.005  # relative difference up to which amplifiers count as one
_ALIKE_NOISE = 0.02
_ALIKE_LEVEL_DN = 1.0
_LEVELS = (0.0, np.inf)
_FULL_OF_16_BITS = 65536.0


def read_sensor(
    cards: Mapping[str, object],
    unit: str,
    overrides: SensorOverrides,
    *,
    overscan_level_dn: float | None = None,
    amplifier_levels_dn: Mapping[str, float] = MappingProxyType({}),
    shape: tuple[int, int] | None = None,
) -> Sensor:
    """Collect the sensor's numbers: command line first, then cards of amplifiers, single cards.

    cards : header values by keyword; unit : BUNIT of the pixels, as written.
    overscan_level_dn : median of the overscan section, where the frame still has one.
    amplifier_levels_dn : the same of amplifiers' sections, by their names
    shape : rows and columns, for the sections of amplifiers
    Raises SensorError for a number of the command line that cannot be true.
    """
    check_overrides(overrides)
    kind = unit_kind(unit)
    amplifiers = tuple(
        replace(amp, pedestal=_overscan(amp.name, amplifier_levels_dn))
        for amp in amplifiers_of(cards, shape)
    )
    gain, notes = _gain(cards, kind, unit, amplifiers)
    noise, more_notes = look_up(cards, READ_NOISE_RULES, "e", READ_NOISE_RANGE_E)
    if amplifiers:
        noise = mean_of([amp.read_noise for amp in amplifiers]) or noise
    noise, n_combined = _of_all_exposures(cards, noise)
    pedestal, guesses = _pedestal(cards, kind, overscan_level_dn, amplifiers)
    sensor = Sensor(
        gain_e_per_dn=gain,
        read_noise_e=noise,
        pedestal_dn=pedestal,
        saturation_dn=_saturation(cards, kind, amplifiers),
        subtracted_sky_dn=legal_card(cards, "SUBSKY", "DN", _LEVELS),
        n_combined=n_combined,
        guesses=guesses,
        notes=notes + more_notes,
    )
    sensor = _with_exposure(sensor, cards, kind)
    sensor = _with_amplifiers(sensor, amplifiers, kind)
    return _with_overrides(sensor, overrides, exposure_of(cards) if is_rate(kind) else None)


def _gain(
    cards: Mapping[str, object], kind: UnitKind, unit: str, amplifiers: tuple[Amplifier, ...]
) -> tuple[Sourced | None, tuple[str, ...]]:
    """Pixels in electrons have had their gain applied: the card tells of the raw frame."""
    if kind in (UnitKind.ELECTRONS, UnitKind.ELECTRON_RATE):
        return Sourced(1.0, "e/DN", f"BUNIT {unit}"), ()
    if amplifiers:
        return mean_of([amp.gain for amp in amplifiers]), ()
    return look_up(cards, GAIN_RULES, "e/DN", GAIN_RANGE_E_PER_DN)


def _of_all_exposures(
    cards: Mapping[str, object], noise: Sourced | None
) -> tuple[Sourced | None, Sourced | None]:
    """Read noise and number of exposures averaged; HST adds up what it combines."""
    count = legal_card(cards, "NCOMBINE", "", (1.0, 1e6)) or legal_card(
        cards, "STACKCNT", "", (1.0, 1e6)
    )
    if count is None or str(cards.get("TELESCOP", "")).strip().upper() != "HST":
        return noise, count
    if noise is not None and count.value > 1:
        source = f"{noise.source}, of {count.value:g} exposures added up"
        noise = Sourced(noise.value * math.sqrt(count.value), "e", source)
    return noise, None


def _pedestal(
    cards: Mapping[str, object],
    kind: UnitKind,
    overscan_level_dn: float | None,
    amplifiers: tuple[Amplifier, ...],
) -> tuple[Sourced, tuple[str, ...]]:
    card = legal_card(cards, "PEDESTAL", "DN", (-1e6, 1e6))
    if card is not None:
        if card.value < 0:  # SBIG and MaxIm write what is to be added to come to zero
            card = Sourced(
                -card.value, "DN", f"card PEDESTAL = {card.value:g}, to be added to pixels"
            )
        return card, ()
    if overscan_level_dn is not None:
        return Sourced(overscan_level_dn, "DN", "median of the overscan section"), ()
    mean = mean_of([amp.pedestal for amp in amplifiers])
    if mean is not None:
        return Sourced(mean.value, "DN", "mean of the amplifiers' overscan sections"), ()
    if kind in (UnitKind.COUNTS, UnitKind.UNKNOWN):
        guess = f"{NO_PEDESTAL} as removed"
        return Sourced(0.0, "DN", guess), (guess,)
    return Sourced(0.0, "DN", f"pixels in {kind} hold no bias: taken as removed"), ()


def _overscan(name: str, levels_dn: Mapping[str, float]) -> Sourced | None:
    if name not in levels_dn:
        return None
    return Sourced(levels_dn[name], "DN", f"median of section BIASSEC{name}")


def _saturation(
    cards: Mapping[str, object], kind: UnitKind, amplifiers: tuple[Amplifier, ...]
) -> Sourced | None:
    """Level at which pixels are full, in their unit, but for the exposure time of a rate.

    Cards tell of data numbers. Where pixels are electrons nobody says whether the card was
    converted, too: the lower level counts, for sound pixels that are left alone do no harm. A level
    that no converter of 16 bits reads is of electrons already.
    """
    if kind is UnitKind.CALIBRATED:
        return None
    found = look_up(cards, SATURATION_RULES, "DN", (1.0, np.inf))[0]
    if found is None or kind not in (UnitKind.ELECTRONS, UnitKind.ELECTRON_RATE):
        return found
    raw = mean_of([amp.gain for amp in amplifiers])
    raw = raw or look_up(cards, GAIN_RULES, "e/DN", GAIN_RANGE_E_PER_DN)[0]
    if raw is None or found.value > _FULL_OF_16_BITS or raw.value >= 1:
        return replace(found, unit="e")
    return Sourced(found.value * raw.value, "e", f"{found.source} times {raw}")


def _with_exposure(sensor: Sensor, cards: Mapping[str, object], kind: UnitKind) -> Sensor:
    """Of a rate, the gain is electrons for one unit a second: gain times exposure time."""
    if kind is UnitKind.UNKNOWN and sensor.gain_e_per_dn is not None:
        return replace(sensor, guesses=("no unit named: taken as DN", *sensor.guesses))
    if not is_rate(kind):
        return sensor
    time = exposure_of(cards)
    gain, full = sensor.gain_e_per_dn, sensor.saturation_dn
    if time is None:
        note = "a rate, and no exposure time named: no photon noise from cards"
        return replace(sensor, gain_e_per_dn=None, saturation_dn=None, notes=(*sensor.notes, note))
    return replace(
        sensor,
        gain_e_per_dn=None if gain is None else _of_rate(gain, time),
        saturation_dn=None
        if full is None
        else Sourced(full.value / time.value, f"{full.unit}/s", f"{full.source}, over {time}"),
    )


def _of_rate(gain: Sourced, time: Sourced) -> Sourced:
    return Sourced(gain.value * time.value, "e/(DN/s)", f"{gain.source} times {time}")


def _with_amplifiers(sensor: Sensor, amplifiers: tuple[Amplifier, ...], kind: UnitKind) -> Sensor:
    """Keep amplifiers that differ and whose pixels are known; else say that a mean was taken."""
    if not amplifiers:
        return sensor
    in_electrons = kind in (UnitKind.ELECTRONS, UnitKind.ELECTRON_RATE)
    gains = [amp.gain.value for amp in amplifiers]
    noises = [amp.read_noise.value for amp in amplifiers if amp.read_noise is not None]
    alike = in_electrons or max(gains) / min(gains) - 1 <= _ALIKE
    alike &= (
        not noises or min(noises) == max(noises) or max(noises) / min(noises) - 1 <= _ALIKE_NOISE
    )
    levels = [amp.pedestal.value for amp in amplifiers if amp.pedestal is not None]
    if alike and (not levels or max(levels) - min(levels) <= _ALIKE_LEVEL_DN):
        return sensor
    unplaced = any(amp.section is None for amp in amplifiers) or len(noises) < len(amplifiers)
    if unplaced or is_rate(kind):
        spread = f"{min(gains):.4g} to {max(gains):.4g} e/DN"
        if noises:
            spread += f", {min(noises):.4g} to {max(noises):.4g} e"
        why = "no card says which pixels are whose" if unplaced else "pixels are a rate"
        guess = f"amplifiers differ ({spread}) and {why}: mean taken"
        return replace(sensor, guesses=(*sensor.guesses, guess))
    if in_electrons:
        one = Sourced(1.0, "e/DN", "pixels in electrons")
        amplifiers = tuple(replace(amp, gain=one) for amp in amplifiers)
    return replace(sensor, amplifiers=amplifiers)


def _with_overrides(
    sensor: Sensor, overrides: SensorOverrides, time_of_rate: Sourced | None
) -> Sensor:
    """Lay the command line over it; what is given there is no guess.

    time_of_rate : by which pixels were divided; None where they were not, or nobody tells
    """
    given: dict[str, Sourced | None] = {
        "gain_e_per_dn": _override(overrides.gain_e_per_dn, "e/DN", "--gain"),
        "read_noise_e": _override(overrides.read_noise_e, "e", "--read-noise"),
        "pedestal_dn": _override(overrides.pedestal_dn, "DN", "--pedestal"),
        "saturation_dn": _override(overrides.saturation_dn, "DN", "--saturation"),
    }
    known: dict[str, Any] = {name: item for name, item in given.items() if item is not None}
    if "gain_e_per_dn" in known and time_of_rate is not None:
        known["gain_e_per_dn"] = _of_rate(known["gain_e_per_dn"], time_of_rate)
    amplifiers, guesses = sensor.amplifiers, sensor.guesses
    if "pedestal_dn" in known:
        amplifiers = tuple(replace(amp, pedestal=None) for amp in amplifiers)
        guesses = tuple(guess for guess in guesses if "pedestal" not in guess)
    if "gain_e_per_dn" in known:
        guesses = tuple(guess for guess in guesses if "unit" not in guess)
    if "gain_e_per_dn" in known:
        guesses = tuple(guess for guess in guesses if "amplifiers" not in guess)
        amplifiers = ()
    elif "read_noise_e" in known:  # their gains differ all the same
        amplifiers = tuple(replace(amp, read_noise=known["read_noise_e"]) for amp in amplifiers)
    return replace(sensor, **known, amplifiers=amplifiers, guesses=guesses)


def _override(value: float | None, unit: str, option: str) -> Sourced | None:
    return None if value is None else Sourced(value, unit, f"command line: {option}")
