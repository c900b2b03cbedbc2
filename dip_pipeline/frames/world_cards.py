"""Cards that say where pixels lie on the sky: what error and flags need of the science header."""

import re
from collections.abc import Sequence

from dip_pipeline.frames.finer_cards import is_lookup
from dip_pipeline.frames.fits_cards import parse_cards, upper_exponents

_WORLD = re.compile(
    r"(WCSAXES|WCSNAME|CTYPE\d|CRPIX\d|CRVAL\d|CDELT\d|CUNIT\d|CD\d_\d|PC\d_\d|P[VS]\d_\d+|"
    r"LONPOLE|LATPOLE|RADESYS|EQUINOX|SPECSYS|RESTFRQ|RESTWAV)[A-Z]?|"
    r"CROTA\d|RADECSYS|EPOCH|RESTFREQ|[AB]P?_(\d+_\d+|ORDER)|[AB]_DMAX|LTV\d|LTM\d_\d|"
    r"WAT\d_\d{3}|WCSDIM"
)


def is_world(keyword: str) -> bool:
    """Whether a card says where pixels lie on the sky, by its keyword."""
    return _WORLD.fullmatch(keyword) is not None


def world_cards(raw: Sequence[bytes], *, with_tables: bool = True) -> list[bytes]:
    """Cards of world coordinates, distortions with them, in their order.

    Calabretta & Greisen 2002, A&A 395, 1077; SIP: Shupe et al. 2005; tables of distortions stand in
    other HDUs of the same file, and their cards are left out where that does not hold them.
    """
    kept = []
    for card in raw:
        keyword, value, _ = parse_cards([card])[0]
        if is_world(keyword) or (with_tables and is_lookup(keyword, value)):
            kept.append(upper_exponents(card))
    return kept
