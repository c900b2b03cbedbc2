"""Files of real telescopes, and files that broke other readers; in DIP_EXTRA_DATA."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import open_frame, save_frame
from dip_pipeline.frames.stale_cards import rule_of

ALL = slice(None)

REFUSED = {
    "nasty/group_invalid.fits": "random groups",
    "nasty/random_groups.fits": "random groups",
    "nasty/history_header.fits": "only headers",
    "nasty/memtest.fits": "only tables",
    "nasty/lfs_pointer.fits": "git-lfs pointer",
    "nasty/jwst_nircam_rate_cutout.asdf": "an ASDF file",
    "nasty/truncated_a8280271.fits": "truncated",
    "dip_paper/moon.png": "a PNG picture",
}
READABLE = {
    "nasty/blank.fits": (1, 1),
    "nasty/scale.fits": (21, 20),
    "nasty/checksum_false.fits": (40, 30),
    "wcs/tab-time-last-axis.fits": (1, 1),
    "mef/test0.fits": (40, 40),
    "nasty/arange.fits": (10, 11),
    "cube/l1448_13co.fits.gz": (105, 105),
    "mef/3c120_stis.fits.gz": (512, 511),
    "multi_band/reprojected_sdss_g.fits.bz2": (496, 682),
}
RESTORED = [
    "jwst/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp_512.fits",
    "ccd/a8280271.fits",
    "ccd/gs_tnx.fits",
    "mef/gmos.fits",
    "mef/3c120_stis.fits.gz",
    "multi_exposure/M13_blue_0001.fits",
    "compressed/m13_rice.fits",
    "ccd_calib_set/kelt-16-b-C084-r.fit.gz",
    "poisson/p4a_image2.fits",
    "wcs/wcs_dist_lookup.fits.gz",
]


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_what_is_no_image_is_refused_in_one_line(extra_data, name, message):
    with pytest.raises(FrameError, match=message) as caught:
        open_frame(extra_data / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "shape"), READABLE.items())
def test_odd_files_that_are_images_are_read(extra_data, name, shape):
    frame = open_frame(extra_data / name)
    assert frame.shape == shape
    assert frame.read(ALL, ALL).science.shape == shape


def test_a_cut_gzip_stream_is_noticed(extra_data, tmp_path):
    path = tmp_path / "truncated_stis.fits.gz"
    path.write_bytes((extra_data / "mef/3c120_stis.fits.gz").read_bytes()[:300_000])
    with pytest.raises(FrameError, match="truncated or damaged"):
        open_frame(path)


def test_five_compressions_of_one_image_read_the_same(extra_data):
    kinds = ("", "_rice", "_gzip", "_plio", "_hcomp")
    frames = [open_frame(extra_data / f"compressed/m13{kind}.fits") for kind in kinds]
    planes = [frame.read(slice(20, 270), slice(31, 200)).science for frame in frames]
    for plane in planes[1:]:
        np.testing.assert_array_equal(plane, planes[0])


def test_the_overscan_of_a_raw_frame_gives_its_pedestal(extra_data):
    assert 200 < open_frame(extra_data / "ccd/a8280271.fits").overscan_level() < 230
    assert open_frame(extra_data / "ccd/gs_tnx.fits").overscan_level() is None


@pytest.mark.parametrize("name", RESTORED)
def test_a_product_keeps_the_header_and_passes_fitscheck(
    extra_data, tmp_path, restored, provenance, name
):
    frame = open_frame(extra_data / name)
    target = tmp_path / "out.fits"
    save_frame(target, frame, restored(frame), provenance=provenance)
    assert fitscheck.main([str(target)]) == 0
    changed = {"BITPIX", "BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM", "EXTEND"}
    changed |= {"SIMPLE", "XTENSION", "PCOUNT", "GCOUNT"}  # of a compressed image
    changed |= {card[0] for card in frame.cards if rule_of(card[0])}
    kept = [card for card in frame.cards if card[0] not in changed]
    again = [card for card in open_frame(target).cards if card[0] not in changed]
    if name.startswith("compressed"):
        kept = [card for card in kept if not card[0].startswith("NAXIS")]
        again = [card for card in again if not card[0].startswith("NAXIS")]
    assert again[: len(kept)] == kept
    with fits.open(target) as hdus:
        assert hdus["DIP_ERR"].data.shape == frame.shape
