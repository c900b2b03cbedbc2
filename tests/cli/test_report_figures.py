"""Laws of the figures on the page of a night: whose pixels, whose noise, by which name."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.night import figures as night_figures
from dip_pipeline.night import page as night_page
from dip_pipeline.night.fields import Pointing, fields_of
from dip_pipeline.night.figures import night_frame
from dip_pipeline.night.odd_frames import FrameFigures, kinds
from dip_pipeline.night.page import render
from dip_pipeline.night.products import products_in
from dip_pipeline.night.report import gather
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from tests.cli import test_report
from tests.cli.test_report import CONFIG, SIDE_PX, as_it_is, product, sky


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_is)
    yield
    close_files()


def judged(monkeypatch, **facts):
    """Let each tile end so; of several values the first tile has the first."""
    tiles = iter(range(1000))

    def restored(problem, prior=None):
        made, number = as_it_is(problem), next(tiles)
        own = {
            k: v[min(number, len(v) - 1)] if isinstance(v, tuple) else v for k, v in facts.items()
        }
        return replace(made, outcome=replace(made.outcome, **own))

    monkeypatch.setattr(ways, "restore", restored)


def values_of(path):
    return night_frame("a", path).figures.values


def test_a_pedestal_has_no_noise(tmp_path):
    made = product(tmp_path, 1)
    raised = CONFIG.with_overrides(**{"noise.pedestal_dn": 120.0})
    restore_frame(str(tmp_path / "f1.fits"), tmp_path / "raised.fits", raised)
    assert values_of(made)["noise"] == pytest.approx((200 / 2 + 4) ** 0.5, rel=0.02)
    assert values_of(tmp_path / "raised.fits")["noise"] == pytest.approx(
        (80 / 2 + 4) ** 0.5, rel=0.02
    )


@pytest.mark.parametrize("beta", [2.5, 4.0, 30.0])
@pytest.mark.parametrize("fwhm_px", [2.7, 6.0])
def test_the_width_of_stars_is_that_at_half_their_height_whatever_their_wings(
    tmp_path, monkeypatch, fwhm_px, beta
):
    def sky(seed):
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[:144, :144]
        image = np.full(rows.shape, 200.0)
        for number in range(9):
            y, x = 24 + 48 * np.array(divmod(number, 3)) + rng.uniform(-0.5, 0.5, 2)
            square = (np.hypot(rows - y, cols - x) / (fwhm_px / 2)) ** 2
            image += 3000 * (1 + square * (2 ** (1 / beta) - 1)) ** -beta
        return rng.normal(image, np.sqrt(image / 2 + 4))

    monkeypatch.setattr(test_report, "sky", sky)
    found = values_of(product(tmp_path, 1))["star_fwhm_px"]
    assert found == pytest.approx(fwhm_px, rel=0.05)


@pytest.mark.parametrize(
    ("cards", "variance"),
    [({"SUBSKY": 300.0}, 500 / 2 + 4), ({"NCOMBINE": 4}, (200 / 2 + 4) / 4)],
)
def test_the_noise_before_is_that_of_the_whole_law(tmp_path, monkeypatch, cards, variance):
    def sky(seed):  # scatters as the law says
        return np.random.default_rng(seed).normal(200, variance**0.5, (SIDE_PX, SIDE_PX))

    monkeypatch.setattr(test_report, "sky", sky)
    values = values_of(product(tmp_path, 1, cards=cards))
    assert values["noise"] == pytest.approx(variance**0.5, rel=0.02)


def test_of_an_error_plane_no_card_of_the_camera_tells_the_noise(tmp_path):
    source = tmp_path / "a.fits"
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "adu"})
    error = np.full((SIDE_PX, SIDE_PX), 10.2, "f4")
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(sky(1).astype("f4"), header, name="SCI"),
            fits.ImageHDU(error, name="ERR"),
        ]
    ).writeto(source)
    restore_frame(str(source), tmp_path / "a_dip.fits", CONFIG)
    assert values_of(tmp_path / "a_dip.fits")["noise"] is None


def test_the_page_says_where_the_unit_of_a_frame_is_not_named(tmp_path):
    made = [product(tmp_path, 0), product(tmp_path, 1, cards={"BUNIT": ""})]
    pages = [render(gather(found, pictures=0), title="a") for found in (made[:1], made, made[1:])]
    told = [page.partition("of each frame")[2].partition(";")[0] for page in pages]
    assert told == [", in adu", ", in adu or a unit that is not named", ""]


def test_sky_and_stars_are_those_of_the_middle_without_spoilt_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(night_figures, "_SIDE_PX", 40)
    image = np.full((SIDE_PX, SIDE_PX), 900.0)
    image[28:68, 28:68] = np.random.default_rng(1).normal(200.0, 10.0, (40, 40))
    image[28:55, 28:68] = np.nan  # filled: of them nothing is known
    hdu = fits.PrimaryHDU(image.astype("f4"))
    hdu.header.update({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "adu"})
    hdu.writeto(tmp_path / "a.fits")

    def filled(problem, prior=None):
        made = as_it_is(problem)
        lost = ~np.isfinite(made.science)
        science = np.where(lost, np.float32(5000), made.science)
        return replace(made, science=science, flags=np.where(lost, np.uint8(1), made.flags))

    monkeypatch.setattr(ways, "restore", filled)
    restore_frame(str(tmp_path / "a.fits"), tmp_path / "a_dip.fits", CONFIG)
    told = values_of(tmp_path / "a_dip.fits")
    assert told["sky"] == pytest.approx(200, abs=3)
    assert told["masked_share"] == pytest.approx(27 / 40)


def test_figures_of_tiles_weigh_their_pixels_and_flux_its_noise(tmp_path, monkeypatch):
    changes = {"judged_pixels": (800, 100), "flux_change": (0.0, 160.0)}
    judged(monkeypatch, chi_square=(2.0, 1.0), **changes)
    told = values_of(product(tmp_path, 1))  # of nine tiles
    assert told["chi_square"] == pytest.approx((800 * 2 + 800 * 1) / 1600)
    change = 8 * 160 / 1600
    assert told["flux_change_in_noise"] == pytest.approx(change / told["noise"], rel=1e-3)


def test_few_seconds_tell_nothing_of_a_frame(tmp_path):
    """They are those of whatever else the machine does."""
    made = product(tmp_path, 1)
    for seconds, told in ((2.0, None), (3.0, 27.0)):
        close_files()
        with fits.open(made, mode="update") as hdus:
            hdus["DIP_TILE"].data["seconds"] = seconds
        assert values_of(made)["seconds"] == told


def test_an_upper_bound_is_told_as_one_and_compared_with_nothing(tmp_path, monkeypatch):
    judged(monkeypatch, risk=-0.01, risk_error=0.01, judged_pixels=1000)
    made = product(tmp_path, 1)
    told = night_frame("a", made)
    assert told.risk is not None
    assert told.risk_error is None
    assert told.figures.values["residual_noise"] is None
    page = render(gather([made], pictures=0), title="a")
    assert f"&lt; {told.risk:.3f}" in page
    judged(monkeypatch, risk=0.04, risk_error=0.001, judged_pixels=1000)
    surer = night_frame("b", product(tmp_path, 2))
    assert surer.risk_error is not None
    assert surer.figures.values["residual_noise"] == surer.risk


def test_failed_tiles_are_counted_where_they_are(tmp_path, monkeypatch):
    whole = product(tmp_path, 1)
    judged(monkeypatch, failed=(True, False))
    broken = product(tmp_path, 2)
    report = gather([whole, broken], pictures=0)
    assert [frame.product for frame in report.failed] == [broken]
    assert "1 of 9" in render(report, title="a")


def test_combinations_of_other_numbers_of_exposures_are_of_other_kinds(tmp_path):
    made = [product(tmp_path, n) for n in range(3)]
    for path, exposures in zip(made, (3, 5, 3), strict=True):
        close_files()
        fits.setval(path, "DIPNEXP", value=exposures)
    told = [night_frame(str(n), path).figures for n, path in enumerate(made)]
    assert [[frame.source for frame in kind] for kind in kinds(told)] == [["0", "2"], ["1"]]


def test_the_farther_reaching_of_two_frames_decides_whether_they_are_near():
    wide, narrow, far = (Pointing(0.3, 0.0, 1.0), Pointing(0.0, 0.0, 0.01), Pointing(2.0, 0.0, 0.9))
    assert fields_of([wide, narrow]) == fields_of([narrow, wide]) == [[0, 1]]
    assert fields_of([far, wide]) == [[0], [1]]
    frames = [FrameFigures(str(n), "R", {}, pointing=p) for n, p in enumerate((narrow, far, wide))]
    assert [[frame.source for frame in kind] for kind in kinds(frames)] == [["0", "2"], ["1"]]


def test_curves_name_a_unit_that_all_have_and_mark_the_odd(tmp_path, monkeypatch):
    made = [product(tmp_path, n, level=450.0 if n == 3 else 200.0) for n in range(6)]
    drawn = []
    monkeypatch.setattr(night_page, "draw_curves", lambda curves, _: drawn.append(curves) or b"")
    render(gather(made, pictures=0), title="a")
    (curves,) = drawn
    assert [curve.words for curve in curves] == [
        "sky level, adu",
        "width of its stars (FWHM), px",
        "light of its stars, adu",
    ]
    assert list(curves[0].odd) == [False, False, True, False, False, False]  # the last began first
    made.append(product(tmp_path, 7, cards={"BUNIT": "electron"}))
    render(gather(made, pictures=0), title="a")
    assert drawn[1][0].words == "sky level"


def test_a_link_gives_no_product_its_name(tmp_path):
    made = product(tmp_path, 1)
    (made.parent / "a_link.fits").symlink_to(made)
    assert products_in([made.parent]) == [made]


def test_stars_too_few_have_no_width(tmp_path):
    hdu = fits.PrimaryHDU(np.asarray(sky(1, light=0.0), "f4"))
    hdu.header.update({"GAIN": 2.0, "RDNOISE": 4.0})
    hdu.writeto(tmp_path / "a.fits")
    restore_frame(str(tmp_path / "a.fits"), tmp_path / "a_dip.fits", CONFIG)
    told = values_of(tmp_path / "a_dip.fits")
    assert told["sky"] == pytest.approx(200, abs=2)
    assert not {"star_light", "star_fwhm_px", "star_axis_ratio"} & told.keys()
