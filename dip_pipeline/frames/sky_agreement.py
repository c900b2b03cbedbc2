"""How far apart two headers put the same pixels on the sky."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.io import fits

from dip_pipeline.frames.fits_cards import legal_value, plain_text
from dip_pipeline.frames.frame import Card
from dip_pipeline.quiet_warnings import ignored_warnings

_GRID = 6  # pixels a side where the two are compared, corners among them
_MAS = 3600_000.0
_KEYWORD = re.compile(r"[A-Za-z0-9_-]{1,8}")
Header = tuple[Any, fits.HDUList | None]
"""A header, or cards, and the file that distortion tables are in."""


def sky_difference_mas(
    first: Header, second: Header, shape: tuple[int, ...], *, factor: int = 1
) -> float:
    """Largest distance on the sky, in milliarcseconds, over a grid of pixels.

    shape : of the first; factor : pixels of the second for one of the first, along each axis
    0 where neither header can be used; infinite where one can and the other cannot.
    """
    lists = [
        _coordinates(*header, shape, finer) for header, finer in ((first, 1), (second, factor))
    ]
    if lists[0] is None or lists[1] is None:
        return 0.0 if lists[0] is None and lists[1] is None else float("inf")
    (lon1, lat1), (lon2, lat2) = np.radians(lists[0]), np.radians(lists[1])
    # The haversine keeps small angles; Sinnott 1984, Sky & Telescope 68, 158.
    half = (
        np.sin((lat2 - lat1) / 2) ** 2
        + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    )
    apart = 2 * np.degrees(np.arcsin(np.sqrt(np.clip(half, 0, 1))))
    unlike = np.isfinite(lon1) != np.isfinite(lon2)
    return float("inf") if unlike.any() else float(np.nanmax(apart, initial=0.0)) * _MAS


def _coordinates(
    header: Any,  # noqa: ANN401  (of astropy, or cards)
    hdus: fits.HDUList | None,
    shape: tuple[int, ...],
    factor: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Longitude and latitude, degrees, of a grid of pixels; None without celestial axes."""
    from astropy.wcs import WCS  # slow to load, and few commands need it

    with ignored_warnings():  # of old keywords; both headers have them alike
        try:
            wcs = WCS(as_header(header), hdus).celestial
            if not wcs.has_celestial:
                return None
            cols, rows = np.meshgrid(
                np.linspace(0, shape[-1] - 1, _GRID), np.linspace(0, shape[-2] - 1, _GRID)
            )
            places = [(axis.ravel() + 0.5) * factor - 0.5 for axis in (cols, rows)]
            longitude, latitude = wcs.all_pix2world(*places, 0)
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OSError,
        ):  # astropy's WcsError is a ValueError
            return None
    return longitude, latitude


def as_header(header: fits.Header | Sequence[Card]) -> fits.Header:
    """Make a header of cards, whatever they hold; keywords of no FITS header are left out."""
    if isinstance(header, fits.Header):
        return header
    made = fits.Header()
    for keyword, value, comment in header:
        if _KEYWORD.fullmatch(keyword) and keyword not in ("COMMENT", "HISTORY", "END"):
            made.append((keyword, legal_value(value), plain_text(comment)), end=True)
    return made
