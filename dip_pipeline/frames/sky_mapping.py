"""Where pixels of one frame lie on another, by what both headers say of the sky."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.finer_cards import is_lookup
from dip_pipeline.frames.frame import Card, Frame
from dip_pipeline.frames.sky_agreement import as_header
from dip_pipeline.quiet_warnings import ignored_warnings

if TYPE_CHECKING:
    from astropy.wcs import WCS

Places = NDArray[np.float64]


def places_on(places: Places, frame: Frame, other: Frame) -> Places | None:
    """Take (n, 2) rows and columns of a frame to those of another one, through the sky.

    None where one of the two has no celestial coordinates, or none of the places has any there.
    NaN where a place alone has none. Lookup tables of distortions are not read. Coordinates of one
    system are taken to the other's: an equinox of tonight, the galaxy's.
    """
    wcs, other_wcs = _celestial(frame.cards), _celestial(other.cards)
    if wcs is None or other_wcs is None:
        return None
    with ignored_warnings():  # of old keywords
        try:
            cols, rows = _through_the_sky(wcs, other_wcs, places)
        except ValueError:  # astropy's WcsError is one
            return None
    mapped = np.column_stack([rows, cols])
    return mapped if np.isfinite(mapped).any() else None


def middle_on_sky(
    cards: Sequence[Card], shape: tuple[int, int]
) -> tuple[float, float, float] | None:
    """Longitude and latitude of a frame's middle, and how far its nearer edge is; degrees.

    None without celestial coordinates. Lookup tables of distortions are not read.
    """
    wcs = _celestial(cards)
    if wcs is None:
        return None
    rows, cols = shape
    row, col, half = (rows - 1) / 2, (cols - 1) / 2, min(rows, cols) / 2
    with ignored_warnings():  # of old keywords
        try:
            places = np.array([(col, row), (col + half, row), (col, row + half)])
            longitude, latitude = np.radians(wcs.all_pix2world(places, 0)).T
        except ValueError:  # astropy's WcsError is one
            return None
    # The haversine keeps small angles; Sinnott 1984, Sky & Telescope 68, 158.
    off = np.sin((latitude[1:] - latitude[0]) / 2) ** 2
    off += (
        np.cos(latitude[1:]) * np.cos(latitude[0]) * np.sin((longitude[1:] - longitude[0]) / 2) ** 2
    )
    reach = 2 * np.arcsin(np.sqrt(np.clip(off, 0, 1))).min()
    found = np.degrees([longitude[0], latitude[0], reach])
    return (float(found[0]), float(found[1]), float(found[2])) if np.isfinite(found).all() else None


def _through_the_sky(wcs: "WCS", other: "WCS", places: Places) -> tuple[Places, Places]:
    """Give columns and rows; systems that are not known by name are taken to be one."""
    from astropy.wcs.utils import pixel_to_pixel

    try:
        cols, rows = pixel_to_pixel(wcs, other, places[:, 1], places[:, 0])
    except ValueError:  # astropy's WcsError is one
        sky = wcs.all_pix2world(places[:, 1], places[:, 0], 0)
        cols, rows = other.all_world2pix(*sky, 0, quiet=True)
    return np.asarray(cols), np.asarray(rows)


def _celestial(cards: Sequence[Card]) -> "WCS | None":
    from astropy.wcs import WCS  # slow to load, and few commands need it

    with ignored_warnings():
        try:
            wcs = WCS(as_header([c for c in cards if not is_lookup(c[0], c[1])]))
            celestial = wcs.celestial if wcs.naxis != 2 else wcs
        except (ValueError, TypeError, LookupError, AttributeError, OSError):
            return None
    return celestial if celestial.has_celestial else None
