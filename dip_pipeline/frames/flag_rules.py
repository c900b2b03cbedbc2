"""What the numbers of a flag plane mean: bits by instrument, or codes; which are bad, which full.

The names come from the handbooks of the instruments and pass through astropy's bit-flag maps, so
--bad-bits takes names and numbers as astropy's `interpret_bit_flags` does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError

if TYPE_CHECKING:
    from astropy.nddata.bitmask import BitFlagNameMap

Mask = NDArray[np.bool_]
_ALL_BITS = 2**64 - 1


class FlagRule(Protocol):
    """Tells bad pixels and saturated ones by their flags."""

    @property
    def words(self) -> str:
        """Say it for people."""

    @property
    def names(self) -> Mapping[str, int]:
        """Names of bits or codes, where they have any."""

    @property
    def tells_saturated(self) -> bool:
        """Whether flags tell saturated pixels from bad ones."""

    def split(self, flags: NDArray[np.generic]) -> tuple[Mask, Mask]:
        """Which pixels hold no information, and which are saturated."""


@dataclass(frozen=True, slots=True)
class FlagBits:
    """Bits of one integer: any of `bad` makes a pixel bad, any of `saturated` saturated.

    names : of its bits, where they have any
    """

    bad: int = _ALL_BITS
    saturated: int = 0
    words: str = "not 0 is bad"
    names: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tells_saturated(self) -> bool:
        """Whether flags tell saturated pixels from bad ones."""
        return bool(self.saturated)

    def split(self, flags: NDArray[np.generic]) -> tuple[Mask, Mask]:
        """Which pixels hold no information, and which are saturated."""
        if flags.dtype.kind not in "iu":
            return np.asarray(flags != 0), np.zeros(flags.shape, dtype=bool)
        # Bit 31 of a flag stored as int32 is its sign.
        unsigned = flags.astype(flags.dtype.newbyteorder("="), copy=False)
        unsigned = unsigned.view(f"u{flags.dtype.itemsize}")
        most = np.iinfo(unsigned.dtype).max
        bad, full = (
            (unsigned & unsigned.dtype.type(bits & int(most))) != 0
            for bits in (self.bad, self.saturated)
        )
        return bad, full


ANY_FLAG = FlagBits()


@dataclass(frozen=True, slots=True)
class FlagCodes:
    """Codes, one a pixel, that exclude each other: the DECam pipeline from version 3.5 on.

    names : of the codes
    """

    bad: frozenset[int]
    saturated: frozenset[int]
    words: str
    names: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tells_saturated(self) -> bool:
        """Whether flags tell saturated pixels from bad ones."""
        return bool(self.saturated)

    def split(self, flags: NDArray[np.generic]) -> tuple[Mask, Mask]:
        """Which pixels hold no information, and which are saturated."""
        return np.isin(flags, sorted(self.bad)), np.isin(flags, sorted(self.saturated))


@dataclass(frozen=True, slots=True)
class FlagMeanings:
    """Names of an instrument's flags, and which of them count by default.

    source : where the names are defined
    """

    names: Mapping[str, int]
    bad: tuple[str, ...]
    saturated: tuple[str, ...]
    source: str
    codes: bool = False


@cache
def flag_map(instrument: str) -> "BitFlagNameMap":
    """Astropy's map of the names of an instrument's bits."""
    return _bit_map(instrument, MEANINGS[instrument].names)


def _bit_map(owner: str, names: Mapping[str, int]) -> "BitFlagNameMap":
    from astropy.nddata.bitmask import extend_bit_flag_map  # slow to load, as all of nddata is

    return extend_bit_flag_map(owner, **names)


def rule_for(instrument: str, bad_bits: str | None = None) -> FlagRule:
    """Rule of an instrument of the table; "" is an unknown one, where every flag is bad.

    bad_bits : what the user says is bad, names or numbers with "," between them. Raises FrameError
    for a name that the instrument does not have.
    """
    if instrument not in MEANINGS:
        if bad_bits is None:
            return ANY_FLAG
        return FlagBits(_interpret(bad_bits, None, instrument), 0, f"bad by --bad-bits: {bad_bits}")
    meanings = MEANINGS[instrument]
    names = [*meanings.bad] if bad_bits is None else [f"--bad-bits {bad_bits}"]
    words = f"{instrument} {'codes' if meanings.codes else 'bits'}, bad: {', '.join(names)}"
    if meanings.codes:
        codes = frozenset(_named(meanings, meanings.bad))
        saturated_codes = frozenset(_named(meanings, meanings.saturated))
        if bad_bits is not None:
            codes = frozenset(_codes(bad_bits, meanings.names))
            saturated_codes -= codes
        words += _left_alone(meanings, saturated_codes.__contains__)
        return FlagCodes(codes, saturated_codes, words, meanings.names)
    bits = sum(_named(meanings, meanings.bad))
    saturated = sum(_named(meanings, meanings.saturated))
    if bad_bits is not None:
        bits = _interpret(bad_bits, flag_map(instrument), instrument)
        saturated &= ~bits
    words += _left_alone(meanings, lambda bit: bit & saturated != 0)
    return FlagBits(bits, saturated, words, meanings.names)


def _left_alone(meanings: FlagMeanings, kept: Callable[[int], bool]) -> str:
    """Say which flags tell of saturation; kept : whether the number of one still does."""
    names = [name for name in meanings.saturated if kept(meanings.names[name])]
    return f"; left alone: {', '.join(names)}" if names else ""


def rule_of_planes(planes: Mapping[str, int], bad_bits: str | None = None) -> FlagRule:
    """Rule of an LSST mask: `planes` gives the bit index of each plane by name (MP_ cards)."""
    bad = [name for name in LSST_BAD if name in planes]
    saturated = [name for name in ("SAT",) if name in planes]
    words = f"MP_ cards, bad: {', '.join(bad) or 'none'}; left alone: {', '.join(saturated)}"
    bits = sum(1 << planes[name] for name in bad)
    names = {name: 1 << bit for name, bit in planes.items()}
    if bad_bits is not None:
        bits = _interpret(bad_bits, _bit_map("LSST_MASK", names), "this mask")
        words = f"MP_ cards, bad by --bad-bits: {bad_bits}"
    return FlagBits(bits, sum(1 << planes[name] for name in saturated) & ~bits, words, names)


def rule_to_json(rule: FlagRule) -> dict[str, object]:
    """Write a rule down, so that flags keep their meaning where no header tells it."""
    facts: dict[str, object] = {"words": rule.words, "names": dict(rule.names)}
    if isinstance(rule, FlagCodes):
        return facts | {"bad_codes": sorted(rule.bad), "saturated_codes": sorted(rule.saturated)}
    assert isinstance(rule, FlagBits)
    return facts | {"bad_bits": rule.bad, "saturated_bits": rule.saturated}


def rule_from_json(facts: Mapping[str, Any], bad_bits: str | None = None) -> FlagRule:
    """Read what `rule_to_json` wrote; raises LookupError, TypeError or ValueError for all else.

    bad_bits : what the user says is bad, as in `rule_for`
    """
    words = str(facts["words"])
    names = {str(name): int(value) for name, value in facts["names"].items()}
    if bad_bits is not None:
        words = f"bad by --bad-bits: {bad_bits}"
    if "bad_codes" in facts:
        bad, full = (frozenset(map(int, facts[f"{sort}_codes"])) for sort in ("bad", "saturated"))
        bad = bad if bad_bits is None else frozenset(_codes(bad_bits, names))
        return FlagCodes(bad, full - bad, words, names)
    bits, saturated = (int(facts[f"{sort}_bits"]) for sort in ("bad", "saturated"))
    if bad_bits is not None:
        known = _bit_map("STORED", names) if names else None
        bits = _interpret(bad_bits, known, "these flags")
    return FlagBits(bits, saturated & ~bits, words, names)


def _named(meanings: FlagMeanings, names: Iterable[str]) -> list[int]:
    return [meanings.names[name] for name in names]


def _interpret(text: str, names: "BitFlagNameMap | None", instrument: str) -> int:
    from astropy.nddata.bitmask import interpret_bit_flags

    bits: int | None
    try:
        bits = int(interpret_bit_flags(text, flip_bits=None, flag_name_map=names) or 0)
    except (ValueError, TypeError, AttributeError, KeyError):
        bits = None
    if bits is None or (bits < 0 and "~" not in text):  # all but some
        known = "" if instrument not in MEANINGS else f": {', '.join(MEANINGS[instrument].names)}"
        raise FrameError(
            f"--bad-bits {text}: need powers of two, or names of bits of "
            f"{instrument or 'a known instrument'}{known}"
        )
    return bits & _ALL_BITS


def _codes(text: str, names: Mapping[str, int]) -> list[int]:
    codes = []
    for word in text.replace("|", ",").split(","):
        name = word.strip().upper()
        if name.isdigit():
            codes.append(int(name))
        elif name in names:
            codes.append(names[name])
        else:
            raise FrameError(
                f"--bad-bits {text}: {word.strip()!r} is no code; need numbers or "
                f"{', '.join(names)}"
            )
    return codes


# Planes of an LSST mask that leave a pixel without information of its own. DETECTED marks sources.
LSST_BAD = ("BAD", "CR", "INTRP", "NO_DATA", "UNMASKEDNAN", "VIGNETTED", "STREAK")

_HST = {"REED_SOLOMON": 1, "FILLED": 2, "BAD_PIXEL": 4}
_HST_LATE = {"CR_DRIZZLE": 4096, "CR": 8192, "GHOST": 16384}

MEANINGS: dict[str, FlagMeanings] = {
    "JWST": FlagMeanings(
        {
            "DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": 4, "DROPOUT": 8, "OUTLIER": 16,
            "PERSISTENCE": 32, "AD_FLOOR": 64, "CHARGELOSS": 128, "UNRELIABLE_ERROR": 256,
            "NON_SCIENCE": 512, "DEAD": 1024, "HOT": 2048, "WARM": 4096, "LOW_QE": 8192,
            "RC": 16384, "TELEGRAPH": 32768, "NONLINEAR": 65536, "BAD_REF_PIXEL": 131072,
            "NO_FLAT_FIELD": 262144, "NO_GAIN_VALUE": 524288, "NO_LIN_CORR": 1048576,
            "NO_SAT_CHECK": 2097152, "UNRELIABLE_BIAS": 4194304, "UNRELIABLE_DARK": 8388608,
            "UNRELIABLE_SLOPE": 16777216, "UNRELIABLE_FLAT": 33554432, "OPEN": 67108864,
            "ADJ_OPEN": 134217728, "FLUX_ESTIMATED": 268435456, "MSA_FAILED_OPEN": 536870912,
            "OTHER_BAD_PIXEL": 1073741824, "REFERENCE_PIXEL": 2147483648,
        },
        bad=("DO_NOT_USE", "NON_SCIENCE", "REFERENCE_PIXEL"),
        saturated=("SATURATED",),
        source="JWST pipeline documentation, Data Quality Flags",
    ),
    "HST_ACS": FlagMeanings(
        {
            **_HST, "MASKED": 8, "HOT": 16, "UNSTABLE": 32, "WARM": 64, "BIAS": 128,
            "SATURATED": 256, "REFERENCE": 512, "TRAP": 1024, "AD_SATURATED": 2048, **_HST_LATE,
        },
        bad=("REED_SOLOMON", "FILLED", "BAD_PIXEL", "MASKED", "HOT", "BIAS", "REFERENCE", "TRAP",
             "CR_DRIZZLE", "CR"),
        saturated=("SATURATED", "AD_SATURATED"),
        source="ACS Data Handbook, table of data quality flags",
    ),
    "HST_WFC3": FlagMeanings(
        {
            **_HST, "UNSTABLE_ZERO": 8, "HOT": 16, "UNSTABLE": 32, "WARM": 64, "BIAS": 128,
            "SATURATED": 256, "REFERENCE": 512, "TRAP": 1024, "AD_SATURATED": 2048, **_HST_LATE,
        },
        bad=("REED_SOLOMON", "FILLED", "BAD_PIXEL", "UNSTABLE_ZERO", "HOT", "BIAS", "REFERENCE",
             "TRAP", "CR_DRIZZLE", "CR"),
        saturated=("SATURATED", "AD_SATURATED"),
        source="WFC3 Data Handbook, table of data quality flags",
    ),
    "HST_WFC3_IR": FlagMeanings(
        {
            **_HST, "UNSTABLE_ZERO": 8, "HOT": 16, "UNSTABLE": 32, "WARM": 64,
            "BAD_REFERENCE": 128, "SATURATED": 256, "BLOB": 512, "TRAP": 1024,
            "ZERO_SIGNAL": 2048, **_HST_LATE,
        },
        bad=("REED_SOLOMON", "FILLED", "BAD_PIXEL", "UNSTABLE_ZERO", "HOT", "BAD_REFERENCE",
             "BLOB", "TRAP", "CR_DRIZZLE", "CR"),
        saturated=("SATURATED",),
        source="WFC3 Data Handbook, table of data quality flags of the IR channel",
    ),
    "HST_STIS": FlagMeanings(
        {
            **_HST, "MASKED": 8, "HOT": 16, "LARGE_BLEMISH": 32, "VIGNETTED": 64, "OVERSCAN": 128,
            "SATURATED": 256, "REFERENCE": 512, "SMALL_BLEMISH": 1024, "BACKGROUND": 2048,
            "EXTRACTION": 4096, "CR": 8192, "CTI": 16384,
        },
        bad=("REED_SOLOMON", "FILLED", "BAD_PIXEL", "MASKED", "HOT", "OVERSCAN", "REFERENCE", "CR"),
        saturated=("SATURATED",),
        source="STIS Data Handbook, table of data quality flags",
    ),
    "HST_WFPC2": FlagMeanings(
        {
            **_HST, "SATURATED": 8, "MISSING": 16, "OTHER": 32, "TRAP": 128, "QUESTIONABLE": 256,
            "WARM": 512, "WARM_REPAIRED": 1024, "CHIP_MASKED": 2048, **_HST_LATE,
        },
        bad=("REED_SOLOMON", "FILLED", "BAD_PIXEL", "MISSING", "OTHER", "TRAP", "WARM",
             "CHIP_MASKED", "CR_DRIZZLE", "CR"),
        saturated=("SATURATED",),
        source="WFPC2 Data Handbook, table of data quality flags",
    ),
    "GEMINI": FlagMeanings(
        {
            "BAD_PIXEL": 1, "NON_LINEAR": 2, "SATURATED": 4, "COSMIC_RAY": 8, "NO_DATA": 16,
            "OVERLAP": 32, "UNILLUMINATED": 64,
        },
        bad=("BAD_PIXEL", "COSMIC_RAY", "NO_DATA", "UNILLUMINATED"),
        saturated=("SATURATED",),
        source="DRAGONS documentation, DQ plane",
    ),
    "MUSE": FlagMeanings(
        {
            "TELLURIC_CORRECTED": 1, "TELLURIC_UNCORRECTED": 2, "GHOST": 4, "PICKUP": 8,
            "COSMIC_REMOVED": 16, "COSMIC": 32, "LOW_QE": 64, "CALIBRATION": 128, "HOT": 256,
            "DARK": 512, "QUESTIONABLE": 1024, "FULL_WELL": 2048, "AD_SATURATED": 4096,
            "DEFECT": 8192, "OTHER": 16384, "NON_LINEAR": 32768, "MISSING": 1073741824,
            "OUTSIDE": 2147483648,
        },
        bad=("PICKUP", "COSMIC", "CALIBRATION", "HOT", "DARK", "DEFECT", "OTHER", "MISSING",
             "OUTSIDE"),
        saturated=("FULL_WELL", "AD_SATURATED"),
        source="MUSE pipeline manual, Euro3D flags",
    ),
    "ZTF": FlagMeanings(
        {
            "TRACK": 1, "OBJECT": 2, "LOW_RESPONSE": 4, "HIGH_RESPONSE": 8, "NOISY": 16,
            "GHOST": 32, "BLEED": 64, "SPIKE": 128, "SATURATED": 256, "DEAD": 512, "NAN": 1024,
            "PSF_SOURCE": 2048, "HALO": 4096,
        },
        bad=("TRACK", "LOW_RESPONSE", "HIGH_RESPONSE", "NOISY", "SPIKE", "DEAD", "NAN"),
        saturated=("SATURATED",),
        source="ZTF Science Data System explanatory supplement, cards BIT00 to BIT12",
    ),
    "DECAM_BITS": FlagMeanings(
        {
            "BAD": 1, "SATURATED": 2, "INTERPOLATED": 4, "COSMIC_RAY": 16, "BLEED": 64,
            "TRANSIENT": 128, "EDGE": 256, "EDGE2": 512,
        },
        bad=("BAD", "INTERPOLATED", "COSMIC_RAY", "BLEED", "EDGE", "EDGE2"),
        saturated=("SATURATED",),
        source="NOIRLab, Community Pipeline before V3.5",
    ),
    "DECAM": FlagMeanings(
        {
            "BAD": 1, "NO_VALUE": 2, "SATURATED": 3, "BLEED": 4, "COSMIC_RAY": 5, "LOW_WEIGHT": 6,
            "DIFFERENCE": 7, "STREAK": 8,
        },
        bad=("BAD", "NO_VALUE", "BLEED", "COSMIC_RAY", "LOW_WEIGHT", "STREAK"),
        saturated=("SATURATED",),
        source="NOIRLab, Community Pipeline from V3.5: codes, not bits",
        codes=True,
    ),
}  # fmt: skip
