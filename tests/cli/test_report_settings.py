"""Laws of settings on the page of a night: read of the accounts, told in words, not as oddity."""

import pytest

from dip_pipeline.frames import read_provenance
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.night.settings import settings_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from tests.cli.test_report import CONFIG, as_it_is, product


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_is)
    yield
    close_files()


def again(folder, number, **settings):
    """Restore a frame of the night anew, with other settings."""
    config = CONFIG.with_overrides(**{name.replace("_", ".", 1): v for name, v in settings.items()})
    target = folder / "out" / f"f{number}_dip.fits"
    restore_frame(str(folder / f"f{number}.fits"), target, config, overwrite=True)


def test_frames_with_other_settings_are_told_in_words_and_are_not_odd(dip, tmp_path):
    for number in range(7):
        product(tmp_path, number)
    again(tmp_path, 2, fit_effort="fast")
    again(tmp_path, 5, fit_effort="fast")
    again(tmp_path, 4, fit_steps=20, fit_flux_scale_px=0.0)
    again(tmp_path, 6, fit_seed=7)
    code, out, _ = dip("report", tmp_path / "out", "-o", tmp_path / "night.html", "--no-pictures")
    assert code == 0
    first, *lines = out.splitlines()
    assert first.startswith("7 frames, 3 with other settings -> ")
    names = [line.replace(f"{tmp_path}/out/", "") for line in lines]
    assert names == [
        "f5_dip.fits, f2_dip.fits: restored with --effort fast (others normal)",
        "f4_dip.fits: restored with --steps 20 (others none), --flux-scale 0.0 (others 2.0)",
    ]
    page = (tmp_path / "night.html").read_text("utf-8")
    assert page.count("Other settings than most of its kind: --effort fast (others normal)") == 2
    assert '<td class="words settings">--effort fast (others normal)</td>' in page
    assert "<b>3</b>with other settings" in page
    assert "<b>0</b>unlike the others" in page


def test_settings_are_those_that_decide_pixels_and_a_prior_is_one_by_its_content(tmp_path):
    made = product(tmp_path, 1)
    document = read_provenance(made).document
    told = settings_of(document)
    assert told["fit.effort"] == "normal"
    assert told["fit.prior"] == "none"
    assert not {"fit.seed", "task.name", "workers.device"} & {*told}
    (run,) = document["activity"].values()
    key = run["dip:key"]
    key["$"] = key["$"].replace('"prior": ""', '"prior": "0123456789abcdef"')
    document["entity"]["dip:configuration"]["dip:fit.prior"] = "/night/01_r.prior"
    assert settings_of(document)["fit.prior"] == "01_r.prior (01234567)"
    key["$"] = "[]"
    run["dip:key"] = 3
    document["activity"] = {}
    assert settings_of(document) == {}
