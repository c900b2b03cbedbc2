"""Laws of finer products: sky, light and levels follow; what lies on coarse pixels stays out."""

import shutil
import warnings

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from astropy.wcs import WCS

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.frames import open_frame, read_account
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.prov_json import facts_of, problems_of
from dip_pipeline.pipeline import restore_frame, scratch_of
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.stand_in import QUICK, spread_evenly

SHAPE = (64, 80)
SUFFIXES = ["fits", "fits.gz", "fits.fz", "zarr"]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    yield
    close_files()


def config(factor=2, **more):
    task = {"task.name": "super-resolve", "task.factor": factor, "noise.sigma": 3.0}
    return RunConfig().with_overrides(**QUICK | task | more)


def science_hdu(name="SCI", version=1, unit="adu", seed=8):
    rng = np.random.default_rng(seed)
    hdu = fits.ImageHDU(rng.normal(500, 3, SHAPE).astype(np.float32), name=name, ver=version)
    hdu.data[20:22, 30:33] = 60000
    cards = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRPIX1": 40.0, "CRPIX2": 32.0,
             "CRVAL1": 359.999, "CRVAL2": 80.0, "CD1_1": -1e-4, "CD2_2": 1e-4, "CD1_2": 2e-5,
             "CD2_1": 2e-5, "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "B_0_2": 1e-4,
             "SATURATE": 50000, "BUNIT": unit, "RDNOISE": 4.0, "SEEING": 1.2, "PIXAR_SR": 4e-13,
             "LONGTEXT": "and so on " * 20}  # fmt: skip
    hdu.header.update(cards)
    hdu.header["HISTORY"] = "two"
    return hdu


def layered(path, unit="adu"):
    """SCI with ERR, DQ, VAR_POISSON and a gwcs, beside a table and a chip of its own."""
    error = fits.ImageHDU(np.full(SHAPE, 3, "f4"), name="ERR")
    flags = fits.ImageHDU(np.zeros(SHAPE, "u1"), name="DQ")
    flags.data[5, 6] = 4
    variance = fits.ImageHDU(np.full(SHAPE, 9, "f4"), name="VAR_POISSON")
    table = fits.BinTableHDU.from_columns([fits.Column("X", "D", array=np.arange(5.0))], name="T")
    gwcs = fits.BinTableHDU.from_columns(
        [fits.Column("ASDF_METADATA", "5A", array=[b"#ASDF"])], name="ASDF"
    )
    other = fits.ImageHDU(np.ones((30, 30), "f4"), name="MASK", ver=3)
    primary = fits.PrimaryHDU()
    primary.header["PIXSCALE"] = 0.36
    hdus = [primary, science_hdu(unit=unit), error, flags, variance, table, gwcs, other]
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture
def source(tmp_path):
    return layered(tmp_path / "in.fits")


def restore(source, target, **options):
    return restore_frame(str(source), target, config(**options))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_sky_and_the_light_of_a_product_are_the_input_s(source, tmp_path, factor):
    target = tmp_path / "out.fits"
    report = restore(source, target, factor=factor)
    with fits.open(source) as old, fits.open(target) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = old["SCI"], new["SCI"]
        assert other.data.shape == (SHAPE[0] * factor, SHAPE[1] * factor)
        assert new["DIP_ERR"].data.shape == new["DIP_FLAG"].data.shape == other.data.shape
        kept = np.ones(SHAPE, bool)
        kept[5, 6] = False
        block = other.data.astype(float).reshape(SHAPE[0], factor, SHAPE[1], factor).sum((1, 3))
        np.testing.assert_allclose(block[kept], one.data[kept], rtol=1e-6)
        assert block.sum() == pytest.approx(one.data.astype(float).sum(), rel=1e-6)
        rows, cols = (axis.ravel() for axis in np.mgrid[-0.5:64:8, -0.5:80:8])
        places = ((axis + 0.5) * factor - 0.5 for axis in (cols, rows))
        apart = (
            WCS(one.header)
            .pixel_to_world(cols, rows)
            .separation(WCS(other.header).pixel_to_world(*places))
        )
        assert apart.max().deg * 3.6e6 < 1
        assert other.header["SATURATE"] == 50000 / factor**2
        assert other.header["PIXSCALE"] == pytest.approx(0.36 / factor)
        assert other.header["PIXAR_SR"] == pytest.approx(4e-13 / factor**2, rel=1e-9, abs=0)
        assert other.header["DIPFACT"] == factor
        assert other.header["DIPTASK"] == "super-resolve"
        assert "Super-resolved by dip-pipeline" in str(other.header["HISTORY"])
    assert report.ok
    assert fitscheck.main([str(target)]) == 0


def test_a_brightness_stays_and_so_do_its_levels(tmp_path):
    source, target = layered(tmp_path / "in.fits", unit="MJy/sr"), tmp_path / "out.fits"
    restore(source, target)
    with fits.open(source) as old, fits.open(target) as new:
        np.testing.assert_array_equal(new["SCI"].data[100, 100], old["SCI"].data[50, 50])
        assert new["SCI"].header["SATURATE"] == 50000
        assert new["SCI"].header["PIXAR_SR"] == pytest.approx(1e-13, rel=1e-9, abs=0)


def test_what_lies_on_the_input_s_pixels_is_left_out_and_all_else_stays(source, tmp_path):
    target = tmp_path / "out.fits"
    report = restore(source, target)
    with fits.open(source) as old, fits.open(target) as new:
        names = [hdu.name for hdu in new]
        assert names == ["PRIMARY", "SCI", "T", "MASK", "DIP_ERR", "DIP_FLAG", "DIP_PROV",
                         "DIP_TILE"]  # fmt: skip
        for name in ("T", "MASK"):
            assert fits.HDUDiff(old[name], new[name], ignore_keywords=["CHECKSUM", "DATASUM"])
            assert old[name].data.tobytes() == new[name].data.tobytes()
    told = " ".join(report.notes)
    for name in ("HDU 2 (ERR)", "HDU 3 (DQ)", "HDU 4 (VAR_POISSON)", "HDU 6 (ASDF)", "gwcs"):
        assert name in told
    document = read_account(target).document
    assert not problems_of(document)
    assert facts_of(document, "optics") == {"factor": 2, "psf": "none"}
    assert "HDU 2 (ERR)" in facts_of(document, "product")["left_out"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept_as", ["fits", "zarr"])
def test_products_of_every_format_pass_against_their_input(source, tmp_path, kept_as, suffix):
    if kept_as == "zarr":
        convert(source, tmp_path / "in.zarr")
        source = tmp_path / "in.zarr"
    target = tmp_path / f"out.{suffix}"
    restore(source, target, factor=3)
    verdict = verify_product(target, str(source))
    assert verdict.ok, [check for check in verdict.checks if check.passed is False]
    frame = open_frame(target)
    assert frame.shape == (192, 240)
    assert not frame.has_error_plane
    assert not frame.has_mask


def test_a_plain_zarr_group_keeps_its_other_arrays_and_not_its_error(tmp_path):
    group = zarr.create_group(tmp_path / "in.zarr")
    rng = np.random.default_rng(3)
    group.create_array("science", data=rng.normal(9, 1, (40, 50)).astype("f4"))
    group.create_array("error", data=np.ones((40, 50), "f4"))
    group.create_array("model", data=np.arange(7))
    group.attrs.put({"unit": "adu"})
    report = restore(tmp_path / "in.zarr", tmp_path / "out.zarr")
    product = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert product["science"].shape == product["DIP_ERR"].shape == (80, 100)
    assert "error" not in product
    np.testing.assert_array_equal(product["model"][:], np.arange(7))
    assert any("array error" in note for note in report.notes)
    assert verify_product(tmp_path / "out.zarr", str(tmp_path / "in.zarr")).ok


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_maps_of_a_plain_zarr_group_are_left_out_and_named(tmp_path, zarr_format):
    group = zarr.create_group(tmp_path / "in.zarr", zarr_format=zarr_format)
    rng = np.random.default_rng(3)
    group.create_array("science", data=rng.normal(9, 1, (40, 50)).astype("f4"))
    gone = {"weight": (40, 50), "maps/Exp": (40, 50), "ivar": (2, 40, 50)}
    kept = {"model": (40, 50), "maps/weight": (20, 25), "other/time": (40,)}
    for name, shape in (gone | kept).items():
        group.create_array(name, data=np.ones(shape, "f4"))
    report = restore(tmp_path / "in.zarr", tmp_path / "out.zarr")
    product = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert [name for name in gone if name in product] == []
    assert [name for name in kept if name not in product] == []
    told = " ".join(note for note in report.notes if "left out" in note)
    assert all(f"array {name}" in told for name in gone)
    assert not any(f"array {name}" in told for name in (*kept, "science", "DIP"))
    assert verify_product(tmp_path / "out.zarr", str(tmp_path / "in.zarr")).ok


def test_one_array_of_a_zarr_group_leaves_what_belongs_to_others(tmp_path):
    group = zarr.create_group(tmp_path / "in.zarr")
    rng = np.random.default_rng(3)
    for band in ("g", "r"):
        image = rng.normal(9, 1, (40, 50)).astype("f4")
        group.create_array(f"{band}/image", data=image)
        group.create_array(f"{band}/weight", data=np.ones((40, 50), "f4"))
    restore(f"{tmp_path / 'in.zarr'}[r/image]", tmp_path / "out.zarr")
    product = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert "g/weight" in product
    assert "r/weight" not in product


@pytest.mark.parametrize(
    ("keyword", "value", "check"),
    [
        ("CRPIX1", 79.6, "sky coordinates"),
        ("CD1_1", -5.001e-5, "sky coordinates"),
        ("SATURATE", 50000, "declared changes"),
        ("DIPFACT", 3, "account"),
    ],
)
def test_a_card_that_does_not_follow_is_found(source, tmp_path, keyword, value, check):
    target = tmp_path / "out.fits"
    restore(source, target)
    with fits.open(target, mode="update", checksum=True) as hdus:
        hdus["SCI"].header[keyword] = value
    close_files()
    verdict = verify_product(target, str(source))
    assert check in {one.name for one in verdict.checks if one.passed is False}


def test_another_hdu_that_is_left_out_is_found(source, tmp_path):
    target = tmp_path / "out.fits"
    restore(source, target)
    with fits.open(target) as hdus:
        del hdus["T"]
        hdus.writeto(tmp_path / "less.fits")
    verdict = verify_product(tmp_path / "less.fits", str(source))
    assert "other HDUs" in {one.name for one in verdict.checks if one.passed is False}


def test_saturated_pixels_that_were_changed_are_found(source, tmp_path):
    target = tmp_path / "out.fits"
    restore(source, target)
    assert verify_product(target, str(source)).ok
    with fits.open(target, mode="update") as hdus:
        hdus["SCI"].data[41, 61] += 1
    close_files()
    verdict = verify_product(target, str(source))
    assert "kept pixels" in {one.name for one in verdict.checks if one.passed is False}


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_chips_of_a_mosaic_and_planes_of_a_cube_are_each_made_finer(tmp_path, suffix):
    chips = [science_hdu(version=1), science_hdu(version=2, seed=9, unit="MJy/sr")]
    errors = [fits.ImageHDU(np.full(SHAPE, 3, "f4"), name="ERR", ver=v) for v in (1, 2)]
    cube = science_hdu("SCI", 3)
    cube.data = np.stack([cube.data, cube.data + 7])
    hdus = [fits.PrimaryHDU(), chips[0], errors[0], chips[1], errors[1], cube]
    source, target = tmp_path / "in.fits", tmp_path / f"out.{suffix}"
    fits.HDUList(hdus).writeto(source)
    restore(source, target)
    if suffix == "zarr":
        convert(target, tmp_path / "back.fits")
        assert verify_product(target, str(source)).ok
        target = tmp_path / "back.fits"
    with fits.open(target) as new:
        assert [h.name for h in new][:4] == ["PRIMARY", "SCI", "SCI", "SCI"]
        assert new["SCI", 3].data.shape == (2, 128, 160)
        total = cube.data.astype(float).sum((1, 2))
        np.testing.assert_allclose(new["SCI", 3].data.astype(float).sum((1, 2)), total, rtol=1e-6)
        mean = chips[1].data.astype(float).mean()
        assert new["SCI", 2].data.astype(float).mean() == pytest.approx(mean)
        assert new["DIP_ERR", 3].data.shape == (2, 128, 160)
    assert verify_product(target, str(source)).ok


def test_a_finer_plane_whose_pixels_are_all_masked_is_not_called_a_failure(tmp_path):
    hdu = science_hdu()
    hdu.data = np.stack([hdu.data, hdu.data + 7])
    flags = fits.ImageHDU(np.zeros(hdu.data.shape, "u1"), name="DQ")
    flags.data[1] = 1
    source, target = tmp_path / "in.fits", tmp_path / "out.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu, flags]).writeto(source)
    restore(source, target)
    with fits.open(target) as new:
        assert new["DIP_FLAG"].data.shape == (2, 128, 160)
        assert (new["DIP_FLAG"].data[1] == 2).all()
        assert not (new["DIP_FLAG"].data[0] & 6).any()
    assert verify_product(target, str(source)).ok


def test_maps_of_all_restored_chips_are_left_out_whatever_their_sizes(tmp_path):
    chips = [science_hdu(version=1), science_hdu(version=2)]
    chips[1].data = chips[1].data[:50, :60]
    hdus = [fits.PrimaryHDU()]
    for chip in chips:
        planes = {"ERR": np.full_like(chip.data, 3), "EXP": np.full_like(chip.data, 10)}
        hdus += [chip, *(fits.ImageHDU(p, name=n, ver=chip.ver) for n, p in planes.items())]
    hdus += [fits.ImageHDU(np.ones((50, 60), "f4"), name="EXP", ver=3)]
    source, target = tmp_path / "in.fits", tmp_path / "out.fits"
    fits.HDUList(hdus).writeto(source)
    report = restore(source, target)
    with fits.open(target) as new:
        assert [(h.name, h.ver) for h in new][:5] == [
            ("PRIMARY", 1), ("SCI", 1), ("SCI", 2), ("EXP", 3), ("DIP_ERR", 1)
        ]  # fmt: skip
    told = [note for note in report.notes if "left out" in note]
    assert len(told) == 1
    for name in ("HDU 2 (ERR)", "HDU 3 (EXP)", "HDU 5 (ERR)", "HDU 6 (EXP)"):
        assert name in told[0]
    assert verify_product(target, str(source)).ok


def test_one_chip_of_several_leaves_what_belongs_to_the_others(tmp_path):
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        hdus += [
            science_hdu(version=version),
            fits.ImageHDU(np.full(SHAPE, 3, "f4"), name="ERR", ver=version),
            fits.ImageHDU(np.zeros(SHAPE, "u1"), name="DQ", ver=version),
        ]
    source, target = tmp_path / "in.fits", tmp_path / "out.fits"
    fits.HDUList(hdus).writeto(source)
    restore_frame(f"{source}[SCI,2]", target, config())
    with fits.open(target) as new:
        assert [(h.name, h.ver) for h in new][:5] == [
            ("PRIMARY", 1), ("SCI", 1), ("ERR", 1), ("DQ", 1), ("SCI", 2)
        ]  # fmt: skip
        assert new["SCI", 1].data.shape == SHAPE
    assert verify_product(target, f"{source}[SCI,2]").ok


def test_lookup_distortions_go_and_the_user_is_told(tmp_path):
    hdu = science_hdu()
    for card in ("CPDIS1  = 'Lookup  '", "DP1     = 'EXTVER: 1'", "DP1     = 'NAXES: 2'",
                 "CPERR1  = 0.01"):  # fmt: skip
        hdu.header.append(fits.Card.fromstring(card), end=True)
    table = fits.ImageHDU(np.full((8, 8), 0.3, "f4"), name="WCSDVARR")
    source, target = tmp_path / "in.fits", tmp_path / "out.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu, table]).writeto(source)
    report = restore(source, target)
    assert any("distortions in lookup tables" in note for note in report.notes)
    header = fits.getheader(target, "SCI")
    assert not any(keyword.startswith(("CPDIS", "DP1", "CPERR")) for keyword in header)
    assert verify_product(target, str(source)).ok


def test_a_sky_that_would_move_is_refused_before_anything_is_fitted(tmp_path, monkeypatch):
    """A polynomial that astropy takes before CDELT, in a form that cannot be cut finer."""
    hdu = science_hdu()
    for keyword in ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "A_ORDER", "B_ORDER", "A_2_0", "B_0_2"):
        del hdu.header[keyword]
    hdu.header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CDELT1": -1e-4,
                       "CDELT2": 1e-4, "CROTA2": 20.0, "PV1_1": 1.0, "PV2_1": 1.0,
                       "PV1_4": 1e-3})  # fmt: skip
    path = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    monkeypatch.setattr(ways, "restore_scene", None)
    with pytest.raises(FrameError, match=r"would put pixels .* mas away") as caught:
        restore(path, tmp_path / "out.fits")
    assert "\n" not in str(caught.value)
    assert not scratch_of(tmp_path / "out.fits").exists()


def test_magnitudes_are_refused(tmp_path):
    path = layered(tmp_path / "in.fits", unit="mag/arcsec2")
    with pytest.raises(FrameError, match=r"in\.fits: BUNIT 'mag/arcsec2': a logarithm"):
        restore(path, tmp_path / "out.fits")


def test_the_input_is_not_touched(source, tmp_path):
    before = source.read_bytes()
    copy = tmp_path / "copy.fits"
    shutil.copy(source, copy)
    restore(source, tmp_path / "out.fits")
    assert source.read_bytes() == before


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_psf_whose_name_no_header_can_hold_is_no_contradiction(source, tmp_path, suffix):
    psf = tmp_path / "étoile — 2.fits"
    rows, cols = np.mgrid[-6:7, -6:7]
    kernel = np.exp(-(rows**2 + cols**2) / 4)
    fits.PrimaryHDU((kernel / kernel.sum()).astype("f4")).writeto(psf)
    target = tmp_path / f"out.{suffix}"
    restore(source, target, **{"task.psf": str(psf)})
    assert verify_product(target, str(source)).ok
    if suffix == "fits":
        with fits.open(target, mode="update", checksum=True) as hdus:
            hdus["SCI"].header["DIPPSF"] = "another.fits"
        close_files()
        assert not verify_product(target, str(source)).ok


@pytest.mark.parametrize(("unit", "told"), [("furlong/fortnight", True), ("e-/s", False)])
def test_a_unit_that_nobody_knows_is_warned_of(tmp_path, caplog, unit, told):
    source = layered(tmp_path / "in.fits", unit=unit)
    restore(source, tmp_path / "out.fits")
    assert ("not known whether of a pixel" in caplog.text) is told
    assert ("numbers are divided by 4" in caplog.text) is told


@pytest.mark.parametrize(("unit", "factor"), [("DN/s", 4), ("MJy/sr", 1)])
def test_brightness_by_the_cards_stays_what_it_was(tmp_path, unit, factor):
    source = layered(tmp_path / "in.fits", unit=unit)
    with fits.open(source, mode="update") as hdus:
        hdus["SCI"].header["PHOTMJSR"] = 0.3
        hdus["SCI"].header["PHOTUJA2"] = 7.05  # the same, in another unit
    restore(source, tmp_path / "out.fits")
    header = fits.getheader(tmp_path / "out.fits", "SCI")
    assert header["PHOTMJSR"] == pytest.approx(0.3 * factor)
    assert header["PHOTUJA2"] == pytest.approx(7.05 * factor)
    assert verify_product(tmp_path / "out.fits", str(source)).ok


@pytest.mark.parametrize("suffix", ["fits", "fits.fz"])
@pytest.mark.parametrize("factor", [2, 3])
def test_error_and_flags_lie_on_the_sky_where_the_science_does(source, tmp_path, suffix, factor):
    target = tmp_path / f"out.{suffix}"
    restore(source, target, factor=factor)
    with fits.open(target) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places = np.array([[0.0, 0.0], [60.0, 100.0], [127.0, 5.0]])
        worlds = [
            WCS(hdus[name].header).all_pix2world(places, 0)
            for name in ("SCI", "DIP_ERR", "DIP_FLAG")
        ]
        assert {"A_2_0", "CD1_1", "CTYPE2"} <= set(hdus["DIP_ERR"].header)
        assert not {"SATURATE", "HISTORY", "LONGTEXT", "BUNIT"} & set(hdus["DIP_FLAG"].header)
    np.testing.assert_array_equal(worlds[0], worlds[1])
    np.testing.assert_array_equal(worlds[0], worlds[2])
    assert verify_product(target, str(source)).ok
