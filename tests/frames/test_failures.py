"""Inputs that are no whole image: one clear line each, never a traceback of another library."""

import bz2
import errno
import gzip
import io
import lzma

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import (
    file_digest,
    fits_file,
    open_frame,
    read_provenance,
    split_selector,
)

ALL = slice(None)


def content_of(*hdus, **options):
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream, **options)
    return stream.getvalue()


def image(shape=(40, 50), name="SCI"):
    return fits.ImageHDU(np.random.default_rng(1).normal(size=shape).astype("f4"), name=name)


def refused(path, name=None):
    """The message, when a file is refused, in one line that names the file."""
    with pytest.raises(FrameError) as caught:
        open_frame(name or path).read(ALL, ALL)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_file_that_opens_but_cannot_be_read_is_closed_again(tmp_path, monkeypatch):
    """A disk with a bad sector, or a share that went away: a night of them has no handle left."""

    class Unreadable(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "a.fits"
    path.write_bytes(content_of(image()))
    stream = Unreadable()
    monkeypatch.setattr(type(path), "open", lambda *_: stream)
    assert "cannot be read: Input/output error" in refused(path)
    assert stream.closed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"#ASDF 1.0.0\n" + b"x" * 99, "an ASDF file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture: write its pixels as FITS"),
        (b"night/a.fits\nnight/b.fits\n" * 9, "a list of frames is for dip run"),
        (b"<!DOCTYPE html><html>" + b" " * 99, "a web page"),
        (b"anything else" * 99, "does not start with SIMPLE"),
        (b"SIMPLE  =                    T".ljust(2880), "no END"),
        (b"SIMPLE  =                    T".ljust(1000), "no END"),
        (b"\x1f\x8b\x08\x00", "truncated or damaged"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
    ],
)
def test_what_is_no_fits_file_is_called_what_it_is(tmp_path, content, message):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    assert message in refused(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"BITPIX  =                  -32", b"BITPIX  =                  -33"),
        (b"NAXIS1  =                   50", b"NAXIS1  =                  ABC"),
        (b"NAXIS1  =                   50", b"NAXIS1  =                  -50"),
        (b"NAXIS1  =                   50", b"NAXIS1  =  9999999999999999999"),
        (b"NAXIS2  =                   40", b"NAXIX2  =                   40"),
    ],
)
def test_broken_headers_are_refused(tmp_path, old, new):
    path = tmp_path / "a.fits"
    content = content_of(image())
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert "header of HDU 1 is broken" in refused(path)


def test_every_cut_of_a_file_is_noticed_or_harmless(tmp_path):
    """A cut may cost fill bytes after the last pixel, or whole trailing HDUs: nothing else."""
    content = content_of(image((3, 5)), image((2, 4), name="ERR"))
    path = tmp_path / "a.fits"
    fill = [range(5760 + 3 * 5 * 4, 8640), range(11520 + 2 * 4 * 4, 14400)]
    for size in range(1, len(content), 97):
        path.write_bytes(content[:size])
        if any(size in cut for cut in fill):
            open_frame(path).read(ALL, ALL)
        else:
            refused(path)
    path.write_bytes(content[:8640])  # cut between two HDUs: a whole file to anyone
    assert not open_frame(path).has_error_plane


@pytest.mark.parametrize("packing", [gzip, bz2, lzma], ids=["gzip", "bzip2", "xz"])
def test_packed_files_read_like_plain_ones_and_their_cuts_are_noticed(tmp_path, packing):
    content = content_of(image(), image(name="ERR"))
    plain, packed = tmp_path / "a.fits", tmp_path / "b.fits.gz"
    plain.write_bytes(content)
    squeezed = packing.compress(content)
    packed.write_bytes(squeezed)
    region = (slice(5, 9), slice(3, 40))
    np.testing.assert_array_equal(
        open_frame(packed).read(*region).science, open_frame(plain).read(*region).science
    )
    for size in (len(squeezed) // 3, len(squeezed) - 9, len(squeezed) - 1):
        packed.write_bytes(squeezed[:size])
        assert "truncated or damaged" in refused(packed)
    damaged = bytearray(squeezed)
    damaged[len(damaged) // 2] ^= 255
    packed.write_bytes(bytes(damaged))
    assert "truncated or damaged" in refused(packed)


def test_a_packed_file_is_unpacked_once_for_many_tiles(tmp_path, monkeypatch):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(content_of(image())))
    unpacked = []
    real = fits_file._unpack
    monkeypatch.setattr(fits_file, "_unpack", lambda *args: unpacked.append(1) or real(*args))
    frame = open_frame(path)
    for row in range(39):
        frame.read(slice(row, row + 1), ALL)
    assert len(unpacked) == 1


@pytest.mark.parametrize(
    ("hdus", "message"),
    [
        ([], "only headers"),
        (
            [fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])], name="CAT")],
            "only tables",
        ),
        ([fits.ImageHDU(np.zeros(5, "f4"))], "one axis of 5 pixels"),
        ([fits.ImageHDU(np.zeros((4, 5), "f4"), name="ERR")], "no science image"),
        ([fits.ImageHDU(np.zeros((4, 5), "i2"), name="DQ")], "no science image"),
    ],
)
def test_files_without_an_image_are_refused(tmp_path, hdus, message):
    path = tmp_path / "a.fits"
    path.write_bytes(content_of(*hdus))
    assert message in refused(path)


def test_an_image_without_pixels_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    header = b"".join(
        card.ljust(80)
        for card in (
            b"SIMPLE  =                    T",
            b"BITPIX  =                  -32",
            b"NAXIS   =                    2",
            b"NAXIS1  =                    0",
            b"NAXIS2  =                  100",
            b"END",
        )
    )
    path.write_bytes(header.ljust(2880))
    assert "size (100, 0)" in refused(path)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("9", "no HDU [9]"),
        ("SCI,7", "no HDU [SCI,7]"),
        ("CATALOG", "is a table"),
        ("DQ", "is a mask"),
        ("0", "no pixels"),
        ("-1", "selects no HDU"),
        ("", "selects no HDU"),
    ],
)
def test_selectors_that_fit_no_image_are_refused(layered, selector, message):
    assert message in refused("" if "selects" in message else layered, f"{layered}[{selector}]")


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.fits")
    assert "no such file" in refused(tmp_path / "none.zarr")
    assert read_provenance(tmp_path / "none.fits") is None


@pytest.mark.parametrize("name", ["https://a.org/x.fits", "s3://b/x.fits[SCI,1]", "file:///x.fits"])
def test_an_address_is_named_as_it_was_given_with_what_to_do(name):
    assert "download it" in refused(name, name)


def test_a_wrong_check_sum_is_told_and_read_all_the_same(tmp_path, caplog):
    path = tmp_path / "a.fits"
    path.write_bytes(content_of(image(), checksum=True))
    open_frame(path)
    assert not caplog.records
    content = bytearray(path.read_bytes())
    content[5760] ^= 1
    path.write_bytes(bytes(content))
    open_frame(path).read(ALL, ALL)
    assert "HDU 1 (SCI,1): DATASUM and CHECKSUM wrong" in caplog.text


def test_oddities_after_the_last_hdu(tmp_path, caplog):
    path = tmp_path / "a.fits"
    path.write_bytes(content_of(image()) + bytes(2880))
    open_frame(path).read(ALL, ALL)
    assert not caplog.records
    path.write_bytes(content_of(image()) + b"junk" * 99)
    open_frame(path).read(ALL, ALL)
    assert "396 bytes after the last HDU" in caplog.text


def test_a_digest_tells_contents_and_names_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    first = file_digest(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = file_digest(tmp_path / "a")
    (tmp_path / "a" / "y").write_bytes(b"2")
    assert len({first, second, file_digest(tmp_path / "a")}) == 3
    assert file_digest(tmp_path / "a" / "y") == (
        "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
    )


def test_brackets_are_split_off_unless_they_are_part_of_the_name(tmp_path):
    assert split_selector("a.fits[SCI,1]") == ((tmp_path / "a.fits").relative_to(tmp_path), "SCI,1")
    assert split_selector("dir[2]/a.fits")[1] is None
    odd = tmp_path / "a[1]"
    odd.write_bytes(b"")
    assert split_selector(odd) == (odd, None)
