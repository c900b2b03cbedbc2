"""Laws of `dip report`: every product is on the page, in the order of the night, the odd marked."""

import gzip
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import sep
from astropy.io import fits

from dip_pipeline import picturing
from dip_pipeline.batch.batch import BatchReport, FrameResult, Job
from dip_pipeline.cli.task_command import describe
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.frames import read_provenance
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.night import figures as night_figures
from dip_pipeline.night import report as night_report
from dip_pipeline.night.figures import figures_of, night_frame
from dip_pipeline.night.odd_frames import kinds
from dip_pipeline.night.page import render, write_report
from dip_pipeline.night.products import products_in
from dip_pipeline.night.report import gather
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from tests.cli.conftest import report
from tests.stand_in import QUICK, arithmetic, cut_inner, spread_evenly

CONFIG = RunConfig().with_overrides(**QUICK | {"noise.law": "auto"})
FWHM_PX = 3.5
SIDE_PX = 96


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_is)
    yield
    close_files()


def as_it_is(problem, prior=None):
    """Stand-in for a restoration: the pixels of the input."""
    science = cut_inner(problem, problem.pixels)
    return replace(arithmetic(problem), science=science)


def sky(seed, *, level=200.0, light=6000.0, axis_ratio=1.0):
    """Twelve stars of one flux on a flat sky, under noise of 2 e/DN."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    image = np.full((SIDE_PX, SIDE_PX), level)
    sigma = FWHM_PX / 2.3548
    for number in range(12):
        y, x = 14 + 22 * (number // 4), 14 + 22 * (number % 4)
        apart = ((rows - y) / axis_ratio) ** 2 + (cols - x) ** 2
        image += light / (2 * np.pi * sigma**2 * axis_ratio) * np.exp(-apart / (2 * sigma**2))
    return rng.normal(image, np.sqrt(image / 2 + 4))


def product(folder, number, *, name="", cards=None, **scene):
    """One frame of the night, restored; the first was taken last."""
    source = folder / (name or f"f{number}.fits")
    hdu = fits.PrimaryHDU(sky(number, **scene).astype("f4"))
    hdu.header.update({"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "adu", "FILTER": "R"})
    hdu.header.update({"EXPTIME": 60.0, "DATE-OBS": f"2026-01-01T20:{59 - number:02d}:00"})
    hdu.header.update(cards or {})
    hdu.writeto(source)
    target = folder / "out" / f"{source.stem}_dip.fits"
    target.parent.mkdir(exist_ok=True)
    restore_frame(str(source), target, CONFIG)
    return target


class _Page(HTMLParser):
    """Texts of the table's cells by rows, and what the page asks for."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.asked, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.asked += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(["", dict(attrs)])

    def handle_data(self, data):
        if self.rows and self.rows[-1] and self.tags[-1] in ("td", "a"):
            self.rows[-1][-1][0] += data.strip()

    def cells(self, number):
        return [text for text, _ in self.rows[number]]


def test_the_page_holds_every_product_in_the_order_of_the_night(dip, tmp_path):
    made = [product(tmp_path, number) for number in range(3)]
    (tmp_path / "out" / "notes.fits").write_bytes(b"no product")
    code, out, err = dip("report", tmp_path / "out", "-o", tmp_path / "night.html")
    assert (code, err) == (0, "")
    assert out == f"3 frames -> {tmp_path / 'night.html'}\n"
    page = _Page((tmp_path / "night.html").read_text("utf-8"))
    assert [page.cells(n)[1] for n in (1, 2, 3)] == [path.name for path in reversed(made)]
    assert page.cells(1)[2:5] == ["2026-01-01T20:57:00", "R", "60"]
    assert float(page.cells(1)[5]) == pytest.approx(200, abs=2)
    pictures = [asked for asked in page.asked if asked.startswith("data:image/")]
    assert len(pictures) == 4  # one of each, and the curves
    assert all(asked.startswith(("data:", "#")) for asked in page.asked)
    assert "script" not in page.tags


def test_an_odd_frame_is_marked_where_it_is_odd(dip, tmp_path):
    for number in range(6):
        product(tmp_path, number, level=420.0 if number == 2 else 200.0)
    target = tmp_path / "night.html"
    code, out, _ = dip("report", tmp_path / "out", "-o", target, "--no-pictures")
    assert code == 0
    assert out.startswith("6 frames, 1 unlike the others -> ")
    assert "f2_dip.fits: unlike 5 others" in out
    page = _Page(target.read_text("utf-8"))
    marked = {
        (cells[1][0], cell[0])
        for cells in page.rows[1:]
        for cell in cells
        if cell[1].get("class") == "odd" and "sky level" in cell[1]["title"]
    }
    assert [name for name, _ in marked] == ["f2_dip.fits"]
    assert [float(value) for _, value in marked] == [pytest.approx(420, abs=3)]
    assert not [asked for asked in page.asked if asked.startswith("data:image/jpeg")]


def test_what_headers_and_names_hold_is_text(dip, tmp_path):
    hostile = "<script src=x>"
    product(tmp_path, 1, name="<b>&1.fits", cards={"FILTER": hostile, "BUNIT": "<i>"})
    product(tmp_path, 2)
    dip("report", tmp_path / "out", "-o", tmp_path / "night.html")
    text = (tmp_path / "night.html").read_text("utf-8")
    page = _Page(text)
    assert not {"script", "i"} & set(page.tags)
    assert "<b>&1" not in text
    assert "&lt;b&gt;&amp;1_dip.fits" in text
    assert "&lt;script src=x&gt;" in text


def test_a_product_that_cannot_be_read_is_told_and_the_others_are_there(dip, tmp_path):
    made = product(tmp_path, 1)
    torn = tmp_path / "out" / "torn.fits"
    torn.write_bytes(made.read_bytes()[:-6000])
    code, out, err = dip("report", made, torn, tmp_path / "f1.fits", "-o", tmp_path / "night.html")
    assert code == 1
    assert len(err.splitlines()) == 2
    assert "f1.fits: is no product of dip" in err
    assert out.startswith("3 frames, 2 that cannot be read -> ")
    page = _Page((tmp_path / "night.html").read_text("utf-8"))
    assert page.cells(1)[1] == made.name
    assert "torn.fits" in page.cells(2)[1] + page.cells(3)[1]


def test_without_its_input_a_product_has_no_picture_and_the_page_says_why(dip, tmp_path):
    made = product(tmp_path, 1)
    (tmp_path / "f1.fits").unlink()
    code, _, err = dip("report", made, "-o", tmp_path / "night.html")
    assert (code, err) == (0, "")
    text = (tmp_path / "night.html").read_text("utf-8")
    assert re.search(r"No picture: .*f1\.fits", text)


def test_a_page_is_not_overwritten_unasked_and_no_product_is(dip, tmp_path):
    made = product(tmp_path, 1)
    page = tmp_path / "night.html"
    page.write_text("mine")
    code, _, err = dip("report", made, "-o", page)
    assert code != 0
    assert "--overwrite" in err
    assert page.read_text() == "mine"
    before = made.read_bytes()
    assert dip("report", made, "-o", made, "--overwrite")[0] != 0
    assert made.read_bytes() == before
    assert dip("report", made, "-o", page, "--overwrite")[0] == 0
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_folder_without_products_is_refused(dip, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = dip("report", tmp_path / "empty", "-o", tmp_path / "night.html")
    assert code != 0
    assert "holds no product of dip" in err
    assert not (tmp_path / "night.html").exists()


def test_products_of_one_name_are_told_apart(dip, tmp_path):
    made = product(tmp_path, 1)
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / made.name
    shutil.copy(made, again)
    dip("report", made, again, "-o", tmp_path / "night.html")
    page = _Page((tmp_path / "night.html").read_text("utf-8"))
    assert {page.cells(n)[1] for n in (1, 2)} == {str(made), str(again)}


def test_figures_of_a_product_are_those_of_its_frame(tmp_path):
    told = night_frame("a", product(tmp_path, 1))
    values = told.figures.values
    assert values["sky"] == pytest.approx(200, abs=2)
    assert values["noise"] == pytest.approx((200 / 2 + 4) ** 0.5, rel=0.02)
    assert values["gain_e_per_dn"] == 2.0
    assert values["star_fwhm_px"] == pytest.approx(FWHM_PX, rel=0.1)
    assert values["star_axis_ratio"] == pytest.approx(1.0, abs=0.08)
    assert values["star_light"] == pytest.approx(6000, rel=0.05)
    assert values["masked_share"] == 0.0
    assert (told.filter, told.exposure_s, told.unit, told.failed_tiles) == ("R", 60.0, "adu", 0)


def test_a_trailed_frame_has_another_axis_ratio(tmp_path):
    values = night_frame("a", product(tmp_path, 1, axis_ratio=1.5)).figures.values
    assert 1.2 < values["star_axis_ratio"] < 1.6  # by the light above a threshold: less than 1.5


def kinds_of(folder, *cards, **scene):
    """Numbers of the frames with these cards, in groups of those that are compared."""
    told = [
        night_frame(str(n), product(folder, n, cards=each, **scene)).figures
        for n, each in enumerate(cards)
    ]
    return [[int(frame.source) for frame in kind] for kind in kinds(told)]


def test_frames_of_another_filter_or_exposure_are_of_another_kind(tmp_path):
    cards = ({}, {"FILTER": "B"}, {"EXPTIME": 30.0}, {"EXPTIME": 60.2}, {"OBJECT": "M13"})
    assert sorted(kinds_of(tmp_path, *cards)) == [[0, 3], [1], [2], [4]]


def looks_at(longitude, latitude=80.0, **cards):
    """Cards of a plate of 96 px, 0.01 degrees each."""
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 48.5, "CRPIX2": 48.5}
    wcs |= {"CRVAL1": longitude, "CRVAL2": latitude, "CDELT1": -0.01, "CDELT2": 0.01}
    return wcs | cards


def test_fields_without_a_name_are_told_apart_by_their_coordinates(tmp_path):
    """Half a frame, 0.48 degrees, is one field: a dither's step, not that of a mosaic."""
    dithers = (looks_at(359.0), looks_at(1.0), looks_at(3.5))  # 0.35 and 0.43 degrees apart
    elsewhere = (looks_at(12.0), looks_at(12.0, 81.0))
    assert kinds_of(tmp_path, *dithers, *elsewhere) == [[0, 1, 2], [3], [4]]


def test_a_frame_that_no_plate_was_solved_of_is_compared_where_one_field_is(tmp_path):
    assert kinds_of(tmp_path, looks_at(5.0), {}, looks_at(5.0)) == [[0, 1, 2]]
    (tmp_path / "b").mkdir()
    others = (looks_at(5.0), {}, looks_at(90.0), {})
    assert kinds_of(tmp_path / "b", *others) == [[0], [2], [1, 3]]


def test_a_name_of_the_field_outranks_its_coordinates(tmp_path):
    named = (looks_at(5.0, OBJECT="M13"), looks_at(90.0, OBJECT="M13"))
    assert kinds_of(tmp_path, *named, looks_at(5.0)) == [[0, 1], [2]]


def test_what_is_no_product_has_no_figures(tmp_path, caplog):
    fits.PrimaryHDU(np.zeros((20, 20))).writeto(tmp_path / "a.fits")
    assert figures_of("a", tmp_path / "a.fits") is None
    assert "a.fits: is not compared with the others: " in caplog.text
    with pytest.raises(FrameError, match="is no product of dip"):
        night_frame("a", tmp_path / "a.fits")


@pytest.mark.parametrize(
    ("cards", "begun"),
    [
        ({"DATE-OBS": "19/05/94", "TIME-OBS": "15:41:16"}, "1994-05-19T15:41:16"),
        ({"DATE-OBS": "2026-01-01T20:00:00.5", "TIME-OBS": "21:00:00"}, "2026-01-01T20:00:00.5"),
        ({"DATE-OBS": "2026-01-01", "TIME-OBS": 3.5}, "2026-01-01"),
        ({"DATE-OBS": " ", "DATE-BEG": "2026-01-02T01:00:00"}, "2026-01-02T01:00:00"),
        ({"DATE-OBS": ""}, ""),
        ({"DATE-OBS": "2026-01-01", "UT": "3:04:05.6"}, "2026-01-01T03:04:05.6"),
        ({"DATE-OBS": "2026-01-01", "TIME-OBS": "n/a", "UTSTART": "03:04"}, "2026-01-01T03:04"),
        ({"DATE-OBS": "", "MJD-OBS": 61041.5}, "2026-01-01T12:00:00"),
        ({"DATE-OBS": "2026-01-01", "MJD-OBS": 61041.5}, "2026-01-01T12:00:00"),
        ({"DATE-OBS": "2026-01-01T20:00:00", "MJD-OBS": 1.0}, "2026-01-01T20:00:00"),
    ],
)
def test_when_an_exposure_began_is_told_as_iso(tmp_path, cards, begun):
    assert night_frame("a", product(tmp_path, 1, cards=cards)).begun == begun


def test_frames_that_do_not_say_when_come_last(tmp_path):
    made = [product(tmp_path, n, cards={"DATE-OBS": ""} if n == 1 else None) for n in range(3)]
    told = gather(made, pictures=0).frames
    assert [frame.product for frame in told] == [made[2], made[0], made[1]]


def test_a_fault_in_comparing_frames_ends_no_night(tmp_path, monkeypatch, caplog):
    made = product(tmp_path, 1)

    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(night_figures, "night_frame", broken)
    assert night_figures.all_figures([("a", made)]) == []
    assert "is not compared with the others: a fault" in caplog.text


def test_what_is_not_there_is_told_and_nothing_is_written(dip, tmp_path):
    (tmp_path / "night.html").write_text("mine")
    missing = tmp_path / "no_dip.fits"
    code, out, err = dip("report", missing, "-o", tmp_path / "night.html", "--overwrite")
    assert (code, out) == (1, "")
    assert f"{missing}: no such file or folder" in err
    assert (tmp_path / "night.html").read_text() == "mine"


def test_light_everywhere_hides_no_stars(tmp_path):
    """More pixels above the threshold than are kept at once by default are no reason to give up."""
    made, full = product(tmp_path, 1), sep.get_extract_pixstack()
    try:
        sep.set_extract_pixstack(20)
        values = night_frame("a", made).figures.values
    finally:
        sep.set_extract_pixstack(max(full, sep.get_extract_pixstack()))
    assert values["star_light"] == pytest.approx(6000, rel=0.05)


def test_any_name_is_on_the_page_as_far_as_it_is_text(tmp_path):
    """Names are bytes: some are no UTF-8, and some matplotlib would take for formulas."""
    made = product(tmp_path, 1)
    names = [b"caf\xe9.fits", "é ü.fits".encode(), b"cost $x_{$.fits", b"new\nline.fits"]
    for name in names:
        shutil.copy(made, tmp_path / "out" / os.fsdecode(name))
    page = tmp_path / os.fsdecode(b"n\xe9.html")
    assert not write_report(products_in([tmp_path / "out"]), page).unread
    text = page.read_bytes().decode()
    for shown in ("caf\ufffd.fits", "é ü.fits", "cost $x_{$.fits", "<title>n\ufffd</title>"):
        assert shown in text
    assert text.count("data:image/jpeg") == 5


def test_a_locale_without_letters_takes_none_from_the_page(tmp_path):
    made = product(tmp_path, 1)
    shutil.copy(made, tmp_path / "é ü.fits")
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "dip_pipeline", "report", "é ü.fits", "-o", "é.html"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    text = (tmp_path / "é.html").read_text("utf-8")
    assert "<title>é</title>" in text
    assert "é ü.fits" in text


def test_filters_and_units_that_look_like_formulas_are_drawn_as_they_are(dip, tmp_path):
    for n, name in enumerate(["$x_{$", "R", "$e^{$"]):
        product(tmp_path, n, cards={"FILTER": name, "BUNIT": "$e^{$"})
    assert dip("report", tmp_path / "out", "-o", tmp_path / "night.html")[0] == 0


def test_a_product_that_is_named_twice_is_one(dip, tmp_path):
    made = product(tmp_path, 1)
    (tmp_path / "out" / "link.fits").symlink_to(made)
    around = tmp_path / "out" / ".." / "out" / made.name
    given = (made, made.parent, around, tmp_path / "out" / "link.fits")
    _, out, _ = dip("report", *given, "-o", tmp_path / "night.html", "--no-pictures")
    assert out.startswith("1 frame -> ")


@pytest.mark.parametrize("name", ["f1.fits", "notes", "f1_prior"])
def test_what_is_no_page_is_never_overwritten(dip, tmp_path, name):
    """Not the input of the night, which no product leads back to."""
    made = product(tmp_path, 1)
    mine = tmp_path / name
    if not mine.exists():
        mine.write_bytes(b"mine")
    before = mine.read_bytes()
    code, _, err = dip("report", made, "-o", mine, "--overwrite", "--no-pictures")
    assert code == 1
    assert "is no page of HTML" in err
    assert mine.read_bytes() == before
    page = tmp_path / "page"
    page.write_text("<!doctype HTML><p>old")
    assert dip("report", made, "-o", page, "--overwrite", "--no-pictures")[0] == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [0.4, 0.6, 0.9])
def test_a_torn_product_in_a_folder_is_told(dip, tmp_path, kept, packed):
    """What is left of it says that it was one; inputs beside it are none."""
    made = product(tmp_path, 1)
    product(tmp_path, 2)
    shutil.copy(tmp_path / "f2.fits", made.parent)
    (made.parent / "torn.fits").write_bytes((tmp_path / "f2.fits").read_bytes()[:-5000])
    whole = made.read_bytes()
    whole = gzip.compress(whole) if packed else whole
    torn = made.with_name("torn_dip.fits" + (".gz" if packed else ""))
    torn.write_bytes(whole[: int(kept * len(whole))])
    code, out, err = dip("report", made.parent, "-o", tmp_path / "night.html", "--no-pictures")
    assert code == 1
    assert out.startswith("3 frames, 1 that cannot be read -> ")
    (line,) = err.splitlines()
    assert torn.name in line
    assert "damaged" in line


def test_frames_are_in_order_of_time_whatever_zone_their_cards_name(tmp_path):
    dates = ("2026-01-01T23:00:00+09:00", "2026-01-01T20:00:00Z", "2026-01-01T19:00:00")
    made = [product(tmp_path, n, cards={"DATE-OBS": date}) for n, date in enumerate(dates)]
    told = gather(made, pictures=0).frames  # at 14, 20, 19 h UT
    assert [frame.product for frame in told] == [made[0], made[2], made[1]]


def test_the_page_says_how_many_a_frame_was_compared_with(dip, tmp_path):
    """That nothing was odd of frames that nothing was compared with is no word of praise."""
    for n in range(7):
        product(tmp_path, n, cards={"FILTER": "B"} if n > 4 else None)
    code, out, _ = dip("report", tmp_path / "out", "-o", tmp_path / "night.html", "--no-pictures")
    assert code == 0
    assert out.startswith("7 frames, 2 compared with none (fewer than 5 of a kind) -> ")
    text = (tmp_path / "night.html").read_text("utf-8")
    assert "<b>2</b>compared with none: fewer than 5 of a kind" in text
    page = _Page(text)
    compared = {page.cells(n)[1][:2]: page.cells(n)[-1] for n in range(1, 8)}
    assert compared == {f"f{n}": "4" if n < 5 else "none (1 of its kind)" for n in range(7)}


def test_of_several_images_the_page_says_which_one_it_shows(dip, tmp_path):
    planes = np.stack([sky(n).astype("f4") for n in range(3)])
    hdu = fits.PrimaryHDU(planes)
    hdu.header.update({"GAIN": 2.0, "RDNOISE": 4.0})
    hdu.writeto(tmp_path / "cube.fits")
    restore_frame(str(tmp_path / "cube.fits"), tmp_path / "cube_dip.fits", CONFIG)
    dip("report", tmp_path / "cube_dip.fits", "-o", tmp_path / "night.html")
    text = (tmp_path / "night.html").read_text("utf-8")
    assert "of the first of its 3 images" in text
    assert text.count("data:image/jpeg") == 1


def test_the_page_is_dark_on_paper_and_its_table_has_a_head(dip, tmp_path):
    """Printers leave backgrounds out: light letters would be on white."""
    dip("report", product(tmp_path, 1), "-o", tmp_path / "night.html", "--no-pictures")
    text = (tmp_path / "night.html").read_text("utf-8")
    printed = text[text.index("@media print") :]
    assert re.search(r"body \{[^}]*color: #000", printed)
    assert text.index("<thead>") < text.index('<th scope="col">begun') < text.index("</thead>")


def test_noise_of_finer_pixels_is_the_share_of_the_inputs(tmp_path, monkeypatch):
    """A law of the input's pixels says nothing of a level that is spread over four."""
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    once = night_frame("a", product(tmp_path, 1)).figures.values
    config = CONFIG.with_overrides(**{"task.name": "super-resolve", "task.factor": 2})
    restore_frame(str(tmp_path / "f1.fits"), tmp_path / "finer.fits", config)
    finer = night_frame("a", tmp_path / "finer.fits").figures.values
    assert finer["sky"] / once["sky"] == pytest.approx(0.25, rel=0.01)
    assert finer["noise"] / once["noise"] == pytest.approx(0.25, rel=0.01)


def test_residual_noise_of_several_images_is_that_of_all(tmp_path, monkeypatch):
    """As that by which frames are odd: each image has its own cards."""

    def judged(problem, prior=None):
        made = as_it_is(problem)
        outcome = replace(made.outcome, risk=0.1, risk_error=0.01, judged_pixels=1000)
        return replace(made, outcome=outcome)

    monkeypatch.setattr(ways, "restore", judged)
    hdus = [fits.PrimaryHDU()]
    for n, level in enumerate((200.0, 800.0)):
        hdus.append(fits.ImageHDU(sky(n, level=level).astype("f4")))
        hdus[-1].header.update({"GAIN": 2.0, "RDNOISE": 4.0})
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    restore_frame(str(tmp_path / "two.fits"), tmp_path / "two_dip.fits", CONFIG)
    told = night_frame("a", tmp_path / "two_dip.fits")
    whole = facts_of(read_provenance(tmp_path / "two_dip.fits").document, "product")
    first = fits.getheader(tmp_path / "two_dip.fits", 1)
    assert (told.risk, told.images) == (whole["risk_rms"], 2)
    assert told.risk_error == whole["risk_standard_error"]
    assert told.risk_error != first["DIPRISKE"]


def test_a_fault_in_drawing_one_frame_loses_no_page(tmp_path, monkeypatch):
    made = [product(tmp_path, n) for n in range(2)]
    drawn = picturing.first_picture

    def first_picture(path):
        if path == made[0]:
            raise MemoryError("640 GiB")
        return drawn(path)

    monkeypatch.setattr(picturing, "first_picture", first_picture)
    told = {frame.product: frame for frame in gather(made).frames}
    assert "640 GiB" in told[made[0]].no_picture
    assert told[made[1]].picture


def test_of_a_long_night_the_odd_frames_and_others_all_over_it_are_drawn(tmp_path, monkeypatch):
    made = [product(tmp_path, n, level=900.0 if n == 7 else 200.0) for n in range(9)]
    drawn = []
    monkeypatch.setattr(picturing, "first_picture", lambda path: drawn.append(path) or b"picture")
    told = gather(made, pictures=4)
    assert drawn == [frame.product for frame in told.frames if frame.picture]
    assert (len(drawn), told.drawable) == (4, 9)
    assert made[7] in drawn
    at = [number for number, frame in enumerate(told.frames) if frame.picture]
    assert at[0] == 0
    assert max(np.diff([*at, 9])) <= 4
    assert "Drawn: 4 of 9 frames" in render(told, title="a")
    for most in (9, None):
        told = gather(made, pictures=most)
        assert (told.drawn, told.drawable) == (9, 0)


def test_a_page_of_many_frames_says_how_many_it_draws_and_draws_all_where_asked(
    dip, tmp_path, monkeypatch
):
    made = [product(tmp_path, n) for n in range(3)]
    monkeypatch.setattr(night_report, "MOST_PICTURES", 2)
    monkeypatch.setattr(picturing, "first_picture", lambda _: b"picture")
    page = tmp_path / "night.html"
    for words, count in (((), 2), (("--pictures",), 3), (("--no-pictures",), 0)):
        code, out, _ = dip("report", made[0].parent, "-o", page, "--overwrite", *words)
        assert code == 0
        assert page.read_text("utf-8").count("image/jpeg") == count
        told = "2 of 3 frames are drawn, the odd ones first; --pictures draws all"
        assert (told in out) == (count == 2)


def test_a_page_takes_little_more_memory_than_its_pictures(tmp_path, monkeypatch):
    made = product(tmp_path, 0)
    others = [shutil.copy(made, made.with_name(f"g{n}_dip.fits")) for n in range(1, 30)]
    size = 300_000
    monkeypatch.setattr(picturing, "first_picture", lambda _: bytes(size))
    tracemalloc.start()
    write_report([made, *others], tmp_path / "night.html")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "night.html").stat().st_size > 30 * size * 4 / 3
    assert peak < 1.6 * 30 * size  # with the page as one text, and as bytes, six times


@pytest.mark.parametrize(
    ("frames", "status"), [(5, "restored"), (4, "restored"), (5, "already done")]
)
def test_a_night_of_five_new_frames_ends_with_the_way_to_its_page(
    tmp_path, monkeypatch, frames, status
):
    monkeypatch.chdir(tmp_path)
    jobs = [Job(f"f{n}.fits", tmp_path / "of july" / f"f{n}_dip.fits") for n in range(frames)]
    results = tuple(FrameResult(job, report(job.source, job.target, status=status)) for job in jobs)
    last = describe(BatchReport(results)).splitlines()[-1]
    command = f"dip report '{tmp_path / 'of july'}' -o night.html"
    is_told = frames == 5 and status == "restored"
    assert last.endswith(command) == is_told
    (tmp_path / "night.html").touch()  # of the last night
    assert describe(BatchReport(results)).endswith(f"{command} --overwrite") == is_told
    apart = replace(results[0], job=Job("f0.fits", tmp_path / "f0_dip.fits"))
    assert "dip report" not in describe(BatchReport((apart, *results[1:])))
