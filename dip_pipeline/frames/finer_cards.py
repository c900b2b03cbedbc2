"""What becomes of one header card where every pixel is cut into factor x factor finer ones.

Pixel coordinates count from 1 at the middle of the first pixel, so that a place p of the input is
at (p - 0.5) factor + 0.5 of the finer grid. Rules are by keyword, first match first; a card that
none of them names stays.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dip_pipeline.sensor.cards import AMPLIFIER_RULES, READ_NOISE_RULES, SATURATION_RULES

Scaling = Callable[[object, float, "re.Match[str]"], object]
"""New value of a card from its value, the factor, and what matched; the same value: it stays."""


@dataclass(frozen=True, slots=True)
class FinerRule:
    """What becomes of the cards whose whole keyword the pattern matches.

    per_pixel : only where pixels hold a flux, whose unit is one of a pixel
    inherited : true of an extension, too, where it stands in the primary header alone
    """

    pattern: str
    scaling: Scaling
    what: str
    per_pixel: bool = False
    inherited: bool = False


def finer_place(place: float, factor: float) -> float:
    """Pixel coordinate on the finer grid.

    >>> finer_place(0.5, 2), finer_place(1.0, 2)
    (0.5, 1.5)
    """
    return (place - 0.5) * factor + 0.5


def _power(exponent: int) -> Scaling:
    def scaled(value: object, factor: float, _: "re.Match[str]") -> object:
        return _times(value, float(factor) ** exponent)

    return scaled


def _times(value: object, by: float) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    changed = value * by
    whole = isinstance(value, int) and changed == int(changed)
    return int(changed) if whole else changed


def _place(value: object, factor: float, _: "re.Match[str]") -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return finer_place(value, factor) if number else value  # type: ignore[arg-type]


def _sip(value: object, factor: float, found: "re.Match[str]") -> object:
    """f(u, v) = sum A_pq u^p v^q, all three in pixels: A' = A t^(1-p-q); Shupe et al. 2005."""
    return _times(value, float(factor) ** (1 - int(found["p"]) - int(found["q"])))


def _section(value: object, factor: float, _: "re.Match[str]") -> object:
    """[a:b,c:d], ends included; a descending range stays one. What is no section stays."""
    if not isinstance(value, str):
        return value
    number = r"\s*(\d+)\s*"
    found = re.fullmatch(rf"\s*\[{number}:{number},{number}:{number}\]\s*", value)
    if found is None:
        return value
    first, last, bottom, top = map(int, found.groups())
    ranges = [_range(*pair, round(factor)) for pair in ((first, last), (bottom, top))]
    return f"[{','.join(ranges)}]"


def _range(first: int, last: int, factor: int) -> str:
    low, high = (min(first, last) - 1) * factor + 1, max(first, last) * factor
    return f"{low}:{high}" if first <= last else f"{high}:{low}"


def _level_keywords() -> str:
    """Keywords of cards in the unit of the pixels, or in electrons of a pixel."""
    noise = [rule.keyword for rule in READ_NOISE_RULES]
    saturation = [rule.keyword for rule in SATURATION_RULES]
    of_amplifiers = [
        rule.read_noise.format(name)
        for rule in AMPLIFIER_RULES
        if rule.read_noise
        for name in rule.names
    ]
    names = [*noise, *saturation, *of_amplifiers, "SATURAT[A-Z]", "ESATUR", "TSATUR"]
    names += ["PEDESTAL", "SUBSKY", "SKYSUB", "AVSKY", "SKY(ADU|LEVEL|VAL|MED|MEAN|BRITE)", "SKY"]
    names += ["BACKGR?(OU)?ND", "BKG(LEVEL|MEAN|MED)?", "MDRIZSKY"]
    return "|".join(names)


_WCS_LETTER = "[A-Z]?"

SIDE_RULE = FinerRule(
    r"PIXSCALE?[12]?|SECPIX[12]?|PIXELSCL|D\d{3}SCAL|[XY]PIXSZ|[XY]PIXELSZ",
    _power(-1),
    "side of a pixel",
    inherited=True,
)

FINER_RULES = (
    FinerRule(r"Z?NAXIS[12]|IMAGE[WH]", _power(1), "sides of the image"),
    FinerRule(rf"CRPIX[12]{_WCS_LETTER}", _place, "reference pixel"),
    FinerRule(rf"CD\d+_[12]{_WCS_LETTER}", _power(-1), "world coordinates a pixel"),
    FinerRule(rf"CDELT[12]{_WCS_LETTER}", _power(-1), "world coordinates a pixel"),
    # CDELTi stands before PCi_j: what axes 1 and 2 take from the others is not to shrink with it,
    # and what the others take from them is.
    FinerRule(rf"PC[12]_([3-9]|\d\d){_WCS_LETTER}", _power(1), "share of a further axis"),
    FinerRule(rf"PC([3-9]|\d\d)_[12]{_WCS_LETTER}", _power(-1), "share in a further axis"),
    FinerRule(r"(A|B|AP|BP)_(?P<p>\d+)_(?P<q>\d+)", _sip, "SIP distortion"),
    FinerRule(r"[AB]_DMAX", _power(1), "largest SIP distortion, pixels"),
    FinerRule(r"LTV[12]", _place, "origin of the physical pixels", inherited=True),
    FinerRule(r"CNPIX[12]", _power(1), "corner on the plate of a sky survey, pixels"),
    FinerRule(r"LTM[12]_[12]", _power(1), "pixels for one physical pixel", inherited=True),
    FinerRule(
        r"(DATA|BIAS|TRIM|PRE|POST|OVER|OVRS|SCI|STAT|SKY|NORM|GOOD)SEC[A-Z0-9]?",
        _section,
        "section of the image",
    ),
    FinerRule(r"PIXAR_(SR|A2)|PIX_?AREA", _power(-2), "area of a pixel", inherited=True),
    SIDE_RULE,
    FinerRule(
        r"PHOTMJSR|PHOTUJA2|FLUXCONV",
        _power(2),
        "brightness for one unit of a pixel",
        per_pixel=True,
        inherited=True,
    ),
    FinerRule(
        _level_keywords(), _power(-2), "level or noise of a pixel", per_pixel=True, inherited=True
    ),
)
"""Sections of the detector (CCDSEC, DETSEC, AMPSEC) count its own pixels, and stay."""

LOOKUP_RULE = re.compile(
    r"(C[PQ](DIS|ERR)|D2IM(DIS|ERR))\d+[A-Z]?|D2IMEXT|D2IMARR|AXISCORR|NPOLEXT"
)
"""Cards of distortions that stand in tables of other HDUs; Calabretta et al. 2004, draft."""

_RECORD_RULE = re.compile(r"(D[PQ]|D2IM)\d+[A-Z]?(\..*)?")  # its value is a record, FIELD: number

_PATTERNS = [(re.compile(rule.pattern), rule) for rule in FINER_RULES]


def finer_rule(keyword: str) -> FinerRule | None:
    """Rule that a card of this keyword falls under; None for a card that stays."""
    return next((rule for pattern, rule in _PATTERNS if pattern.fullmatch(keyword)), None)


def is_lookup(keyword: str, value: object) -> bool:
    """Whether a card belongs to a distortion that stands in a table of another HDU."""
    if LOOKUP_RULE.fullmatch(keyword):
        return True
    return _RECORD_RULE.fullmatch(keyword) is not None and isinstance(value, str) and ":" in value


def finer_value(keyword: str, value: object, factor: float, *, per_pixel: bool) -> object:
    """Value of a card on the finer grid; the same where it is true there, too.

    per_pixel : whether pixels hold a flux that is shared among the finer ones

    >>> finer_value("TRIMSEC", "[17:528,1:520]", 2, per_pixel=True)
    '[33:1056,1:1040]'
    """
    rule = finer_rule(keyword)
    if rule is None or (rule.per_pixel and not per_pixel):
        return value
    found = re.fullmatch(rule.pattern, keyword)
    return value if found is None else rule.scaling(value, factor, found)
