"""Where pixels of one frame lie on another: whatever else the cards of a frame hold."""

import numpy as np
import pytest
import zarr

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
