"""How observatories write gain, read noise and saturation into headers: one table, read in order.

Every number comes with its unit and the card it came from; what a card says and cannot be true is
passed over, and told.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Cards = Mapping[str, object]

GAIN_RANGE_E_PER_DN = (0.05, 50.0)  # outside: a camera setting or a typing error, not a gain
READ_NOISE_RANGE_E = (0.0, 50.0)
_LEAST_COVERED = 0.8  # of a frame by the sections of its amplifiers


@dataclass(frozen=True, slots=True)
class Sourced:
    """A number, its unit, and where it was found."""

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:.6g} {self.unit} ({self.source})".replace("  ", " ")


@dataclass(frozen=True, slots=True)
class CardRule:
    """One card and what it says.

    inverse : the card holds one over the number
    unless : kind of frame for which the card says something else
    """

    keyword: str
    writer: str
    inverse: bool = False
    unless: str = ""


@dataclass(frozen=True, slots=True)
class AmplifierRule:
    """Cards of each amplifier; {} stands for its name.

    sections : cards with the pixels that an amplifier reads
    """

    gain: str
    read_noise: str
    sections: tuple[str, ...]
    names: tuple[str, ...]
    writer: str


GAIN_RULES = (
    CardRule("ESO DET OUT1 CONAD", "ESO: electrons per DN"),
    CardRule("ESO DET OUT1 GAIN", "ESO: DN per electron", inverse=True),
    CardRule("EGAIN", "SBIG, MaxIm, NINA", unless="setting in EGAIN"),
    CardRule("CVF", "Siril"),
    CardRule("ATODGAIN", "HST STIS, WFPC2"),
    CardRule("GAIN", "NOAO and most", unless="camera setting"),
    CardRule("CCDGAIN", "HST (as commanded), LSST cameras"),
)
READ_NOISE_RULES = (
    CardRule("ESO DET OUT1 RON", "ESO"),
    CardRule("RDNOISE", "NOAO, LCO"),
    CardRule("READNOIS", "IRAF"),
    CardRule("READNOI", "ZTF, PTF"),
    CardRule("READNSE", "HST STIS"),
    CardRule("RON", "several"),
    CardRule("CCDNOISE", "LSST cameras"),
)
SATURATION_RULES = (
    CardRule("SATURATE", "NOAO and most"),
    CardRule("SATLEVEL", "several"),
    CardRule("SATURVAL", "ZTF"),
    CardRule("SATURLEV", "DESI"),
    CardRule("SATURATA", "DECam"),
    CardRule("MAXLIN", "LCO"),
)
AMPLIFIER_RULES = (
    AmplifierRule("GAIN{}", "RDNOISE{}", ("DATASEC{}", "CCDSEC{}"), ("A", "B", "C", "D"), "DECam"),
    AmplifierRule("GAIN{}", "OBSRDN{}", ("DATASEC{}", "CCDSEC{}"), ("A", "B", "C", "D"), "DESI"),
    AmplifierRule("ATODGN{}", "READNSE{}", (), ("A", "B", "C", "D"), "HST ACS, WFC3"),
    AmplifierRule("T_GAIN{}", "", (), ("1", "2", "3", "4"), "HSC"),
    AmplifierRule("GAIN{}", "RDNOISE{}", ("DATASEC{}", "CCDSEC{}"), tuple("12345678"), "numbered"),
    AmplifierRule(
        "ESO DET OUT{} CONAD",
        "ESO DET OUT{} RON",
        (),
        tuple(str(number) for number in range(1, 17)),
        "ESO",
    ),
)

_ELECTRONS = r"(?:photo)?e(?:lectrons?)?[-_]?"
_NUMBERS = r"(?:adu|dn|counts?)"
_PER = r"\s*(?:/|\bper\b)\s*"
_NUMBER_AND_UNIT = re.compile(
    rf"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*[\[(]?(?:(?P<inverse>{_NUMBERS}{_PER}{_ELECTRONS})"
    rf"|{_ELECTRONS}(?:{_PER}{_NUMBERS})?(?:\s*rms)?|{_NUMBERS}|s|sec|seconds?)[\])]?",
    re.IGNORECASE,
)

# Software and cameras whose GAIN is a setting without a unit.
_SETTING_SOFTWARE = re.compile(
    r"N\.?I\.?N\.?A|sharpcap|asiair|asistudio|siril|firecapture|ekos|kstars|indi\b|apt[ -]?v?\d",
    re.IGNORECASE,
)
_SETTING_CAMERAS = re.compile(r"\b(?:zwo|asi ?\d|qhy|touptek|altair|player ?one)", re.IGNORECASE)
_SOFTWARE_CARDS = ("SWCREATE", "CREATOR", "SOFTWARE", "PROGRAM", "SWMODIFY")


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One amplifier: the pixels it reads (None where no card fits this frame), its numbers.

    pedestal : level of its overscan section, where the frame still has one
    """

    name: str
    gain: Sourced
    read_noise: Sourced | None
    section: tuple[slice, slice] | None = None
    pedestal: Sourced | None = None


def look_up(
    cards: Cards, rules: Sequence[CardRule], unit: str, legal: tuple[float, float]
) -> tuple[Sourced | None, tuple[str, ...]]:
    """Find the first card of the rules whose number is legal; also say what was passed over."""
    passed_over = []
    for rule in rules:
        stored = cards.get(rule.keyword)
        value = number_of(stored)
        if value is None:
            if isinstance(stored, str) and stored.strip():
                passed_over.append(f"card {rule.keyword} = {stored.strip()!r}: no number, not used")
            continue
        if rule.unless and FAMILIES[rule.unless](cards):
            passed_over.append(f"card {rule.keyword} = {value:g}: {rule.unless}, not used")
            continue
        # Text with a unit says itself which way it goes.
        inverse = rule.inverse and _with_unit(str(stored)) is None
        number = 1 / value if inverse and value else value
        if not (np.isfinite(number) and legal[0] <= number <= legal[1]):
            passed_over.append(f"card {rule.keyword} = {value:g}: cannot be true, not used")
            continue
        source = f"card {rule.keyword}" + (", inverted" if inverse else "")
        return Sourced(number, unit, source), tuple(passed_over)
    return None, tuple(passed_over)


def amplifiers_of(cards: Cards, shape: tuple[int, int] | None) -> tuple[Amplifier, ...]:
    """Amplifiers that the cards tell of, two or more; with their pixels where these fill the frame.

    shape : rows and columns of the frame; None where it is not known
    """
    for rule in AMPLIFIER_RULES:
        found = [
            Amplifier(
                name,
                gain,
                legal_card(cards, rule.read_noise.format(name), "e", READ_NOISE_RANGE_E),
            )
            for name in rule.names
            if (gain := legal_card(cards, rule.gain.format(name), "e/DN", GAIN_RANGE_E_PER_DN))
        ]
        if rule.writer == "DECam" and found and all(amp.read_noise is None for amp in found):
            continue  # DESI writes the same gains, and other read noises
        if len(found) > 1:
            sections = _sections(cards, rule, [amp.name for amp in found], shape)
            return tuple(
                Amplifier(amp.name, amp.gain, amp.read_noise, section)
                for amp, section in zip(found, sections, strict=True)
            )
    return ()


def mean_of(numbers: Sequence[Sourced | None]) -> Sourced | None:
    """Mean of amplifiers' numbers; None where one has none."""
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    values = [number.value for number in known]
    names = ", ".join(number.source.removeprefix("card ") for number in known)
    return Sourced(float(np.mean(values)), known[0].unit, f"mean of cards {names}")


def number_of(value: object) -> float | None:
    """Take a card's value as a number; None where it is none.

    A number written as text counts, and so does one with its unit: "2.0 e/ADU". Where that is data
    numbers an electron the number is turned over.

    >>> number_of("2.0 e/ADU"), number_of("0.5 ADU per e-"), number_of("2x2"), number_of("4 ports")
    (2.0, 2.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return _with_unit(str(value))


def _with_unit(text: str) -> float | None:
    found = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if found is None:
        return None
    number, inverse = float(found["number"]), found["inverse"] is not None
    return 1 / number if inverse and number else number


def exposure_of(cards: Cards) -> Sourced | None:
    """Exposure time in seconds."""
    for keyword in ("EXPTIME", "XPOSURE", "EFFEXPTM", "EXPOSURE", "TEXPTIME"):
        seconds = number_of(cards.get(keyword))
        if seconds is not None and np.isfinite(seconds) and seconds > 0:
            return Sourced(seconds, "s", f"card {keyword}")
    return None


def section_of(value: object, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Read "[x1:x2,y1:y2]" (counted from 1, ends included) as (rows, cols) inside the frame."""
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"\[(\d+):(\d+),(\d+):(\d+)\]", re.sub(r"\s", "", value))
    if found is None:
        return None
    (x1, x2), (y1, y2) = (sorted(map(int, found.groups()[i : i + 2])) for i in (0, 2))
    if not (x1 >= 1 and x2 <= shape[1] and y1 >= 1 and y2 <= shape[0]):
        return None
    return slice(y1 - 1, y2), slice(x1 - 1, x2)


def legal_card(cards: Cards, keyword: str, unit: str, legal: tuple[float, float]) -> Sourced | None:
    """Take a number from a card; None where there is none, or it cannot be true."""
    value = number_of(cards.get(keyword)) if keyword else None
    if value is None or not (np.isfinite(value) and legal[0] <= value <= legal[1]):
        return None
    return Sourced(value, unit, f"card {keyword}")


def _sections(
    cards: Cards, rule: AmplifierRule, names: Sequence[str], shape: tuple[int, int] | None
) -> Sequence[tuple[slice, slice] | None]:
    """Pixels of each amplifier, where the cards' sections lie in the frame and fill most of it.

    What is left is overscan.
    """
    nowhere = [None] * len(names)
    if shape is None:
        return nowhere
    for pattern in rule.sections:
        found = [section_of(cards.get(pattern.format(name)), shape) for name in names]
        count = np.zeros(shape, dtype=np.uint8)
        for section in found:
            if section is not None:
                count[section] += 1
        if None not in found and count.max() == 1 and count.mean() > _LEAST_COVERED:
            return found
    return nowhere


def _gain_is_setting(cards: Cards) -> bool:
    software = " ".join(str(cards.get(keyword, "")) for keyword in _SOFTWARE_CARDS)
    if _SETTING_SOFTWARE.search(software) or _SETTING_CAMERAS.search(
        str(cards.get("INSTRUME", ""))
    ):
        return True
    gain = number_of(cards.get("GAIN"))
    # XPIXSZ is written by amateurs' software, which gives electrons per DN as EGAIN.
    return "XPIXSZ" in cards and gain is not None and gain >= 5 and gain.is_integer()


def _egain_is_setting(cards: Cards) -> bool:
    """NINA once wrote the setting into EGAIN, too."""
    gain, egain = number_of(cards.get("GAIN")), number_of(cards.get("EGAIN"))
    return gain is not None and gain == egain and _gain_is_setting(cards)


FAMILIES: dict[str, Callable[[Cards], bool]] = {
    "camera setting": _gain_is_setting,
    "setting in EGAIN": _egain_is_setting,
}
