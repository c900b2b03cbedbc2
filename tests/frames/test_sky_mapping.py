"""Where pixels of one frame lie on another: whatever else the cards of a frame hold."""

import numpy as np
import pytest
import zarr
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dip_pipeline.frames import open_frame, places_on

SKY = [("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 10.0), ("CRVAL2", 20.0),
       ("CDELT1", -1e-4), ("CDELT2", 1e-4)]  # fmt: skip
ODD = [("OBSERVER", "Zoë", ""), ("OBJECT", "M 13", "in µm"), ("BAD", [1, 2], ""), ("é", 1, ""),
       ("NOTHING", {"number": "nan"}, ""), ("lower", True, ""), ("HALF KEY", 1, ""),
       ("MUCHTOOLONG", 1, "")]  # fmt: skip


TABLES = [("CPDIS1", "LOOKUP"), ("CPERR1", 0.1), ("DP1", "EXTVER: 1.0"), ("DP1", "NAXES: 2.0"),
          ("D2IMDIS1", "LOOKUP"), ("D2IM1", "EXTVER: 1.0")]  # fmt: skip


def frame_at(path, first, *, odd=()):
    group = zarr.create_group(path)
    group.create_array("science", data=np.zeros((40, 50), "f4"))
    cards = [[k, v, ""] for k, v in [*SKY, ("CRPIX1", first), ("CRPIX2", 20.0)]]
    group.attrs["cards"] = [*map(list, odd), *cards]
    return open_frame(path)


@pytest.mark.parametrize("odd", [[card] for card in ODD] + [ODD], ids=[c[0] for c in ODD] + ["all"])
def test_a_card_that_no_header_can_hold_hides_no_sky(tmp_path, odd):
    frame = frame_at(tmp_path / "a.zarr", 25.0, odd=odd)
    other = frame_at(tmp_path / "b.zarr", 28.0)
    places = np.array([[3.0, 5.0], [20.0, 30.0]])
    there = places_on(places, frame, other)
    assert there is not None
    np.testing.assert_allclose(there, places + np.array([0.0, 3.0]), atol=1e-6)


def test_tables_of_distortions_hide_no_sky(tmp_path):
    """Those of Hubble's cameras: they stand in other HDUs, and are less than a pixel."""
    odd = [(keyword, value, "") for keyword, value in TABLES]
    frame = frame_at(tmp_path / "a.zarr", 25.0, odd=odd)
    other = frame_at(tmp_path / "b.zarr", 28.0, odd=odd)
    there = places_on(np.array([[3.0, 5.0]]), frame, other)
    np.testing.assert_allclose(there, [[3.0, 8.0]], atol=1e-6)


ORION = SkyCoord(83.8, -5.4, unit="deg")
SYSTEMS = {
    "icrs": (ORION.ra, ORION.dec, {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "ICRS"}),
    "tonight": (
        ORION.transform_to(FK5(equinox="J2026")).ra,
        ORION.transform_to(FK5(equinox="J2026")).dec,
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "FK5", "EQUINOX": 2026.0},
    ),
    "B1950": (
        ORION.transform_to("fk4").ra,
        ORION.transform_to("fk4").dec,
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "FK4", "EQUINOX": 1950.0},
    ),
    "galactic": (ORION.galactic.l, ORION.galactic.b, {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}),
    "declination first": (
        ORION.dec,
        ORION.ra,
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "RADESYS": "ICRS"},
    ),
}


def frame_in(path, system):
    first, second, cards = SYSTEMS[system]
    header = fits.Header({**cards, "CRVAL1": first.deg, "CRVAL2": second.deg})
    header.update({"CRPIX1": 512.0, "CRPIX2": 512.0, "CDELT1": -1e-3, "CDELT2": 1e-3})
    fits.PrimaryHDU(np.zeros((1024, 1024), "u1"), header).writeto(path)
    return open_frame(path), header


@pytest.mark.parametrize("system", SYSTEMS)
def test_frames_in_two_systems_of_the_sky_lie_where_astropy_puts_them(tmp_path, system):
    """A mount that writes coordinates of tonight's equinox was laid off by 191 px."""
    frame, header = frame_in(tmp_path / "a.fits", system)
    other, reference = frame_in(tmp_path / "b.fits", "icrs")
    places = np.array([[511.0, 511.0], [300.0, 700.0]])
    there = places_on(places, frame, other)
    assert there is not None
    sky = WCS(header).pixel_to_world(places[:, 1], places[:, 0])
    cols, rows = WCS(reference).world_to_pixel(sky.icrs)
    np.testing.assert_allclose(there, np.column_stack([rows, cols]), atol=1e-3)
    assert np.abs(there[0] - 511.0).max() < 0.5  # both point at one place


def test_a_system_that_is_not_known_by_name_is_taken_for_one(tmp_path):
    odd = [("RADESYS", "GAPPT", "")]
    frame = frame_at(tmp_path / "a.zarr", 25.0, odd=odd)
    other = frame_at(tmp_path / "b.zarr", 28.0, odd=odd)
    there = places_on(np.array([[3.0, 5.0]]), frame, other)
    np.testing.assert_allclose(there, [[3.0, 8.0]], atol=1e-6)
