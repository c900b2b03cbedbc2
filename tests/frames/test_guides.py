"""Laws of guides as files: the same sky on the same pixels, window by window."""

import pickle

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import guide_digests, open_frames, open_guides
from dip_pipeline.frames.guides import guide_notes

PX_DEG = 1e-4
STARS_PX = ((14.0, 20.0), (33.0, 41.5), (50.25, 12.0), (40.0, 70.0))  # (row, col) of the frame


def header(shape, *, turned_deg=0.0, size=1.0, shift=(0.0, 0.0), pole="RA---TAN"):
    cards = fits.Header()
    angle = np.radians(turned_deg)
    matrix = (
        PX_DEG * size * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )
    for axis, (kind, value) in enumerate(((pole, 150.0), ("DEC--TAN", 20.0))):
        number = axis + 1
        cards[f"CTYPE{number}"], cards[f"CRVAL{number}"] = kind, value
        cards[f"CRPIX{number}"] = (shape[1 - axis] + 1) / 2 + shift[1 - axis]
        for other in (0, 1):
            cards[f"CD{number}_{other + 1}"] = matrix[axis, other]
    return cards


def sky(shape, cards, width_px=2.5):
    """Gaussians at fixed places of the sky, on any pixels."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import pixel_to_pixel

    frame_wcs, own = WCS(header((64, 80))), WCS(cards)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    x, y = pixel_to_pixel(own, frame_wcs, cols.ravel(), rows.ravel())
    light = sum(
        (100 + 50 * number) * np.exp(-((y - row) ** 2 + (x - col) ** 2) / (2 * width_px**2))
        for number, (row, col) in enumerate(STARS_PX)
    )
    return np.float32(light.reshape(shape) + 7)


def write(path, image, cards=None):
    fits.writeto(path, image, cards)
    return path


@pytest.fixture
def frame(tmp_path):
    cards = header((64, 80))
    cards["FILTER"] = "g"
    return open_frames(write(tmp_path / "frame.fits", sky((64, 80), cards), cards))[0]


def opened(path, frame):
    return open_guides([str(path)], [frame])[0][0]


@pytest.mark.parametrize(
    "grid",
    [
        {"shift": (3.0, -5.0)},
        {"shift": (0.3, 0.6)},
        {"turned_deg": 30.0},
        {"turned_deg": 200.0, "size": 1.2},
        {"size": 0.5, "turned_deg": -10.0},
    ],
    ids=["whole pixels", "parts of pixels", "turned", "coarser", "finer"],
)
def test_a_guide_shows_the_sky_where_the_frame_does(tmp_path, frame, grid):
    shape = (200, 210)
    cards = header(shape, **grid)
    cards["FILTER"] = "g"  # whatever it says
    guide = opened(write(tmp_path / "guide.fits", sky(shape, cards), cards), frame)
    seen = guide.read(slice(0, 64), slice(0, 80))
    assert np.isfinite(seen).all()
    wanted = frame.read(slice(0, 64), slice(0, 80)).science
    assert np.abs(seen - wanted).max() < 0.03 * 250  # averaging over finer pixels takes some
    for row, col in STARS_PX:
        near = (slice(int(row) - 5, int(row) + 6), slice(int(col) - 5, int(col) + 6))
        light, expected = seen[near] - 7, wanted[near] - 7
        rows, cols = np.indices(light.shape)
        for axis in (rows, cols):
            centre = (light * axis).sum() / light.sum()
            assert centre == pytest.approx((expected * axis).sum() / expected.sum(), abs=0.03)


@pytest.mark.parametrize("size", [1.0, 0.5])
def test_a_window_of_a_guide_is_a_part_of_the_whole(tmp_path, frame, size):
    cards = header((200, 210), turned_deg=30.0, size=size)
    guide = opened(write(tmp_path / "guide.fits", sky((200, 210), cards), cards), frame)
    guide = pickle.loads(pickle.dumps(guide))  # as a worker gets it
    whole = guide.read(slice(0, 64), slice(0, 80))
    part = guide.read(slice(11, 40), slice(30, 71))
    np.testing.assert_allclose(part, whole[11:40, 30:71], rtol=1e-3, atol=0.05)


def test_what_a_guide_does_not_know_is_unknown(tmp_path, frame):
    cards = header((64, 80), shift=(0.0, 30.0))  # it lies 30 columns to the left
    image = sky((64, 80), cards)
    image[30:34, 60:64] = np.nan
    seen = opened(write(tmp_path / "guide.fits", image, cards), frame).read(
        slice(0, 64), slice(0, 80)
    )
    assert np.isnan(seen[:, 51:]).all()
    assert np.isnan(seen[30:34, 30:34]).all()
    assert np.isfinite(seen[5:25, 2:48]).all()
    assert np.isnan(seen[:, :50]).sum() < 40


def test_a_guide_elsewhere_is_refused(tmp_path, frame):
    cards = header((64, 80))
    cards["CRVAL2"] = 21.0
    path = write(tmp_path / "elsewhere.fits", sky((64, 80), header((64, 80))), cards)
    with pytest.raises(FrameError, match=r"elsewhere.fits: a guide that does not overlap with"):
        open_guides([str(path)], [frame])


def test_without_coordinates_pixels_of_equal_shapes_are_taken_as_they_are(tmp_path):
    image = np.random.default_rng(1).normal(0, 1, (40, 50)).astype(np.float32)
    frame = open_frames(write(tmp_path / "a.fits", image))[0]
    guide = opened(write(tmp_path / "b.fits", image + 1), frame)
    assert "taken pixel by pixel" in guide.note
    window = (slice(3, 20), slice(7, 50))
    np.testing.assert_array_equal(guide.read(*window), image[window] + 1)
    other = write(tmp_path / "c.fits", image[:-1])
    with pytest.raises(FrameError, match="39 x 50 px for a frame of 40 x 50 px"):
        open_guides([str(other)], [frame])


def test_coordinates_of_one_alone_are_not_enough(tmp_path, frame):
    path = write(tmp_path / "bare.fits", np.ones((64, 80), np.float32))
    with pytest.raises(FrameError, match=r"bare.fits: has no world coordinates, .*frame.fits has"):
        open_guides([str(path)], [frame])


def test_the_content_of_a_guide_counts_and_not_its_name(tmp_path):
    first = write(tmp_path / "a.fits", np.ones((20, 20), np.float32))
    second = tmp_path / "b.fits"
    second.write_bytes(first.read_bytes())
    assert guide_digests([str(first)]) == guide_digests([str(second)])
    assert guide_digests([f"{first}[0]"]) != guide_digests([str(first)])
    third = write(tmp_path / "c.fits", np.zeros((20, 20), np.float32))
    assert guide_digests([str(first)]) != guide_digests([str(third)])
    with pytest.raises(FrameError, match="no such file"):
        guide_digests([str(tmp_path / "no.fits")])


def test_of_chips_each_has_the_guides_that_reach_it(tmp_path, frame):
    cards = header((64, 80))
    away = cards.copy()
    away["CRVAL2"] = 21.0
    hdus = [fits.ImageHDU(sky((64, 80), header((64, 80))), one) for one in (cards, away)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "mosaic.fits")
    chips = open_frames(tmp_path / "mosaic.fits")
    found = open_guides([str(frame.path)], chips)
    assert [len(guides) for guides in found] == [1, 0]


def test_of_several_images_of_a_guide_the_one_that_counts_is_told(tmp_path, frame):
    hdus = [fits.ImageHDU(sky((64, 80), header((64, 80))), header((64, 80)), name=n) for n in "RI"]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "bands.fits")
    for name, told in (
        (f"{tmp_path / 'bands.fits'}", True),
        (f"{tmp_path / 'bands.fits'}[I]", False),
    ):
        notes = guide_notes({"a": open_guides([name], [frame])[0]})
        assert any("HDU 1 (R,1) counts" in note for note in notes) is told
