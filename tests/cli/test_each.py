"""`dip combine --each` from the command line, with few steps: one product an exposure."""

import json

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames import file_digest, open_frame, read_account
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.runs import ways
from tests.restoration.exposed import SHIFTS, SKY, draw_sky, noisy
from tests.stand_in import any_prior, arithmetic

FAST = ("--effort", "fast", "--steps", 1, "--tile", 64, "--overlap", 8, "--threads-per-fit", 1)
SHAPE = (40, 44)
_SKY = draw_sky(SHAPE, count=25, brightest=3e4)
NAMES = ("a", "b", "c")


def write(folder, number, **cards):
    row, col = SHIFTS[number]
    header = fits.Header(
        {
            "BUNIT": "adu",
            "GAIN": 2.0,
            "RDNOISE": 6.0,
            "FILTER": "r",
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": 150.0,
            "CRVAL2": 2.0,
            "CRPIX1": 22.5 - col,
            "CRPIX2": 20.5 - row,
            "CD1_1": -1e-4,
            "CD2_2": 1e-4,
            "DATE-OBS": f"2026-02-03T04:0{number}:00",
        }
    )
    header.update(cards)
    level = _SKY.seen(SHAPE, SHIFTS[number]) + SKY
    path = folder / f"{'abcd'[number]}.fits"
    fits.writeto(path, noisy(level, np.random.default_rng([3, number])), header)
    return path


@pytest.fixture
def three(tmp_path):
    return [write(tmp_path, number) for number in range(3)]


@pytest.fixture
def standing_in(monkeypatch):
    """Cheap arithmetic for what networks do."""
    monkeypatch.setattr(ways, "fit_epoch_prior", any_prior)
    monkeypatch.setattr(ways, "restore_epoch", arithmetic)


def products(folder):
    return [folder / f"{name}_dip.fits" for name in NAMES]


def test_every_exposure_comes_out_on_its_own_pixels_and_names_its_guides(dip, three, tmp_path):
    out = tmp_path / "each"
    code, said, err = dip("combine", *three, "-o", f"{out}/", "--each", *FAST)
    assert code == 0, err
    assert "3 frames: 3 restored" in said
    assert sorted(path.name for path in out.glob("*.fits")) == [p.name for p in products(out)]
    assert {path.name for path in out.iterdir()} - {p.name for p in products(out)} == {
        "summary.json"
    }
    for source, product in zip(three, products(out), strict=True):
        before, after = fits.getheader(source), fits.getheader(product)
        assert {key: after[key] for key in before} == dict(before)
        assert (after["DIPTASK"], after["DIPNGUID"]) == ("combine each", 2)
        assert open_frame(product).shape == SHAPE
        document = read_account(product).document
        told = {facts_of(document, f"exposure-{n}")["sha256"] for n in (1, 2)}
        assert told == {file_digest(path) for path in three if path != source}
    told = dip("provenance", products(out)[0])[1]
    assert "exposure 2:\n    file: c.fits" in told
    assert "wider_px2" in told
    # An interrupted batch goes on with what is missing.
    products(out)[1].unlink()
    code, said, _ = dip("combine", *three, "-o", f"{out}/", "--each", *FAST)
    assert code == 0
    assert "3 frames: 2 already done, 1 restored" in said
    code, _, err = dip("verify", products(out)[2], "--against", three[2])
    assert code == 0, err
    again = tmp_path / "again.fits"
    assert dip("provenance", products(out)[0], "--repeat", "-o", again)[0] == 0
    assert fits.getdata(again).tobytes() == fits.getdata(products(out)[0]).tobytes()


def test_results_beside_the_exposures_are_no_exposures(dip, standing_in, three, tmp_path):
    """A folder that holds both, given whole, as it is after the first run."""
    command = ("-o", f"{tmp_path}/", "--each", *FAST)
    assert dip("combine", *three[:2], *command)[0] == 0
    done = products(tmp_path)[:2]
    code, said, err = dip("combine", *three[:2], *done, *command)
    assert code == 0
    assert "2 frames: 2 already done" in said
    assert "results of other inputs, left out" in err


def test_a_refused_run_leaves_no_empty_folder_behind(dip, tmp_path):
    paths = [write(tmp_path, 0), write(tmp_path, 1, FILTER="g")]
    out = tmp_path / "new" / "each"
    command = ("combine", *paths, "-o", f"{out}/", "--each", *FAST)
    assert dip(*command)[0] == 1
    assert not out.parent.exists()
    out.mkdir(parents=True)
    assert dip(*command)[0] == 1
    assert out.exists()  # it was there before


def test_what_is_there_is_not_replaced_and_does_not_stop_the_others(
    dip, standing_in, three, tmp_path
):
    out = tmp_path / "each"
    out.mkdir()
    products(out)[0].write_text("mine")
    code, said, err = dip("combine", *three[:2], "-o", out, "--each", *FAST)
    assert code == 1
    assert "--overwrite" in err
    assert "2 frames: 1 failed, 1 restored" in said
    assert products(out)[0].read_text() == "mine"


@pytest.mark.parametrize(("kind", "place"), [("no FITS", 0), ("missing", 2)])
def test_a_file_that_cannot_be_read_fails_alone(dip, standing_in, three, tmp_path, kind, place):
    out, bad = tmp_path / "each", three[place]
    whole = bad.read_bytes()
    if kind == "missing":
        bad.unlink()
    else:
        bad.write_bytes(b"no frame at all" * 99)
    command = ("combine", *three, "-o", f"{out}/", "--each", *FAST)
    code, said, err = dip(*command)
    assert code == 1, err
    assert "2 restored" in said
    assert "1 failed" in said
    assert bad.name in err
    good = [path for path in products(out) if path != products(out)[place]]
    assert sorted(out.glob("*.fits")) == good
    for product in good:
        assert fits.getheader(product)["DIPNGUID"] == 1
    bad.write_bytes(whole)  # a good copy: what lacked it as a guide is no longer finished
    code, said, err = dip(*command)
    assert code == 1
    assert "1 restored" in said
    assert err.count("--overwrite") == 2


def test_where_fewer_than_two_can_be_read_all_end_in_one_line(dip, three, tmp_path):
    three[0].write_bytes(b"no frame")
    code, said, err = dip("combine", *three[:2], "-o", f"{tmp_path / 'each'}/", "--each", *FAST)
    assert code == 1
    assert "restored" not in said
    assert err.count("a.fits") == 1


@pytest.mark.parametrize(
    ("more", "words", "code"),
    [
        (("--factor", "2"), "--factor 2: with --each", 2),
        (("--input", "code"), "--input code: --each needs --input image", 2),
        (("--noise", "none"), "--noise none", 2),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_line(
    dip, three, tmp_path, more, words, code
):
    found, _, err = dip("combine", *three, "-o", f"{tmp_path}/each/", "--each", *more, *FAST)
    assert (found, len(err.splitlines())) == (code, 1)
    assert words in err
    assert not (tmp_path / "each").exists()


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"FILTER": "g"}, "filter g"),
        ({"BUNIT": "electron"}, "in electron"),
        ({"CD1_1": -3e-4, "CD2_2": 3e-4}, "one pixel scale"),
    ],
    ids=["filter", "unit", "scale"],
)
def test_exposures_that_do_not_belong_together_are_one_clear_line(dip, tmp_path, cards, words):
    paths = [write(tmp_path, number) for number in (0, 1)]
    paths.append(write(tmp_path, 2, **cards))
    code, _, err = dip("combine", *paths, "-o", f"{tmp_path}/each/", "--each", *FAST)
    assert (code, len(err.splitlines())) == (1, 1), err
    assert words in err
    assert not any((tmp_path / "each").glob("*.fits"))


def test_one_exposure_is_none_to_guide_and_one_file_is_no_folder(dip, three, tmp_path):
    code, _, err = dip("combine", three[0], "-o", f"{tmp_path}/each/", "--each", *FAST)
    assert code == 2
    assert "one input; give two" in err
    code, _, err = dip("combine", *three, "-o", tmp_path / "one.fits", "--each", *FAST)
    assert code == 2
    assert "give a folder" in err
    code, _, err = dip("combine", three[0], three[0], "-o", f"{tmp_path}/each/", "--each", *FAST)
    assert code in (1, 2)
    assert "Traceback" not in err


def test_a_workflow_restores_every_exposure_at_its_own_epoch(dip, standing_in, three, tmp_path):
    work = tmp_path / "work.toml"
    names = ", ".join(f"'{path}'" for path in three[:2])
    work.write_text(
        f"[frames]\ninputs = [{names}]\nout = '{tmp_path}/video'\n"
        "[task]\nname = 'combine'\neach = true\n[fit]\nsteps = 1\n[tiles]\nsize_px = 64\n"
        "overlap_px = 8\n[workers]\nthreads_per_fit = 1\n"
    )
    code, _, err = dip("run", work)
    assert code == 0, err
    summary = json.loads((tmp_path / "video" / "summary.json").read_text())
    assert summary["counts"] == {"restored": 2}
    assert fits.getheader(products(tmp_path / "video")[1])["DIPNGUID"] == 1
