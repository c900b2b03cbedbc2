"""Laws of the names: one output an input, in the format of the input, never on an input."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.cli.naming import jobs_planned, output_name, plan_jobs
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, OutputError
from dip_pipeline.exposures.guiding import further_exposures
from dip_pipeline.pipeline import restore_frame


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("m13.fits", "m13_dip.fits"),
        ("M13.FIT", "M13_dip.FIT"),
        ("night/m13.fits.gz", "m13_dip.fits"),
        ("m13.fits.fz[1]", "m13_dip.fits"),
        ("m13.2024-01-01.fits[SCI,1]", "m13.2024-01-01_dip.fits"),
        ("m13.zarr", "m13_dip.zarr"),
        ("m13.zarr/", "m13_dip.zarr"),
        ("m13.dat", "m13.dat_dip.fits"),
        ("m13", "m13_dip.fits"),
    ],
)
def test_names(source, name):
    assert output_name(source) == name


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_an_output_never_has_the_name_of_its_input(stem):
    for suffix in (".fits", ".fits.gz", ".zarr", ""):
        assert output_name(stem + suffix) != stem + suffix


@pytest.mark.parametrize("out", ["restored/", "there", "new.fits/"])
def test_one_input_goes_into_a_folder_that_is_one_by_name_or_by_nature(tmp_path, out):
    (tmp_path / "there").mkdir()
    (job,) = plan_jobs(["a.fits"], f"{tmp_path}/{out}")
    assert job.target == tmp_path / out / "a_dip.fits"
    assert job.target.parent.is_dir()


def test_an_option_that_stands_where_a_name_is_missing_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"as if it were an option; .* \./-o"):
        plan_jobs(["a.fits", "b.fits"], "-o")
    assert not any(tmp_path.iterdir())
    assert plan_jobs(["a.fits"], "./-o")[0].target == Path("-o")


@pytest.mark.parametrize("out", ["b.fits", "b.zarr", "b.zarr/", "old.zarr"])
def test_one_input_has_one_output(tmp_path, out):
    (tmp_path / "old.zarr").mkdir()
    (job,) = plan_jobs(["a.fits"], f"{tmp_path}/{out}")
    assert job.target == tmp_path / out


def test_several_inputs_have_an_output_each(tmp_path):
    jobs = plan_jobs(["x/a.fits", "x/b.zarr"], f"{tmp_path}/deep/night")
    assert [job.target.name for job in jobs] == ["a_dip.fits", "b_dip.zarr"]
    assert (tmp_path / "deep" / "night").is_dir()


@pytest.mark.parametrize(
    "sources",
    [["x/a.fits", "y/a.fits"], ["a.fits", "a.fits.gz"], ["a.fits[1]", "a.fits[2]"]],
)
def test_two_inputs_with_one_output_are_refused(tmp_path, sources):
    with pytest.raises(ConfigError, match=r"a_dip\.fits"):
        plan_jobs(sources, f"{tmp_path}/night")
    assert not (tmp_path / "night").exists()


def test_a_frame_of_several_names_is_restored_once(tmp_path, monkeypatch, caplog):
    """Advice was to restore it twice, by itself; with --watch it failed by its second name."""
    monkeypatch.chdir(tmp_path)
    Path("night").mkdir()
    Path("link").symlink_to("night")
    for name in ("a.fits", "b.fits", "a.zarr"):
        Path("night", name).touch()
    names = ["night/a.fits", f"{tmp_path}/night/a.fits", "link/a.fits", "night/b.fits"]
    jobs = plan_jobs([*names, "night/b.fits", "link/a.zarr"], "out/")
    assert [job.source for job in jobs] == ["night/a.fits", "night/b.fits", "link/a.zarr"]
    assert f"named more than once, restored once: 3, {tmp_path}/night/a.fits (as" in caplog.text
    caplog.clear()
    assert len(plan_jobs(names, "out/", come_in=True)) == 2
    assert caplog.text == ""
    with pytest.raises(ConfigError, match="both would be written"):
        plan_jobs(["night/a.fits[1]", "link/a.fits[2]"], "out/")
    Path("night", "c.fits").symlink_to("a.fits")  # another name for its result, too
    assert len(plan_jobs(["night/a.fits", "night/c.fits"], "out/")) == 2


def test_an_exposure_that_is_restored_is_no_further_one_by_another_name(tmp_path):
    (tmp_path / "night").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "night")
    names = [f"{tmp_path}/{name}" for name in ("link/a.fits", "link/b.fits[1]", "night/c.fits")]
    config = RunConfig().with_overrides(**{"task.exposures": tuple(names)})
    restored = [f"{tmp_path}/night/a.fits", f"{tmp_path}/night/b.fits[1]"]
    assert further_exposures(restored, config) == names[2:]


@pytest.mark.parametrize(
    ("sources", "out"), [(["a.fits"], ""), (["a.fits"], " "), ([""], "b.fits")]
)
def test_an_empty_name_is_no_folder(sources, out):
    with pytest.raises(ConfigError, match="is an empty name"):
        plan_jobs(sources, out)


def test_an_output_that_is_another_input_is_refused(tmp_path):
    sources = [f"{tmp_path}/a.fits", f"{tmp_path}/a_dip.fits"]
    with pytest.raises(ConfigError, match="is an input"):
        plan_jobs(sources, str(tmp_path))


def test_an_input_that_is_the_result_of_another_is_left_out(tmp_path, caplog):
    names = {name: f"{tmp_path}/{name}.fits" for name in ("a", "b")}
    for seed, path in enumerate(names.values()):
        pixels = np.random.default_rng(seed).normal(100, 5, (32, 32)).astype(np.float32)
        fits.writeto(path, pixels)
    options = {"fit.steps": 1, "noise.sigma": 5.0, "workers.device": "cpu"}
    result = tmp_path / "a_dip.fits"
    restore_frame(names["a"], result, RunConfig().with_overrides(**options))
    jobs = plan_jobs([names["a"], str(result), names["b"]], str(tmp_path))
    assert [job.source for job in jobs] == [names["a"], names["b"]]
    assert f"results of other inputs, left out: {result}" in caplog.text
    (job,) = plan_jobs([str(result)], f"{tmp_path}/")
    assert job.source == str(result)


@pytest.mark.parametrize("sources", [["a\0.fits"], ["a.fits", "b.fits"]])
def test_a_name_that_no_file_can_have_is_refused(sources):
    with pytest.raises(ConfigError, match="no file can be called"):
        plan_jobs(sources, "out\0/")


def test_links_that_lead_to_themselves_are_left_to_those_who_open_them(tmp_path):
    for name in ("a.fits", "a_dip.fits"):
        (tmp_path / name).symlink_to(tmp_path / name)
    (job,) = plan_jobs([f"{tmp_path}/a.fits"], f"{tmp_path}/")
    assert job.target == tmp_path / "a_dip.fits"


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "night").write_text("a file")
    with pytest.raises(OutputError, match="night"):
        plan_jobs(["a.fits", "b.fits"], f"{tmp_path}/night")


def test_no_results_go_into_a_zarr_store_of_either_format(tmp_path):
    for number, mark in enumerate((".zgroup", "zarr.json")):
        store = tmp_path / f"{number}.zarr"
        store.mkdir()
        (store / mark).write_text("{}")
        with pytest.raises(ConfigError, match="names one file for 2 inputs"):
            plan_jobs(["a.fits", "b.fits"], str(store))
        assert [item.name for item in store.iterdir()] == [mark]


def test_noise_and_flags_of_other_inputs_are_left_out(tmp_path):
    """Nights of DECam hold three files an exposure, and a folder of images their weights."""
    names = [f"c4d_1_oo{sort}_z.fits.fz" for sort in "diw"]
    names += ["m31.fits", "m31_rms.fits", "m31.mask.fits", "m33_rms.fits"]
    jobs = plan_jobs([f"{tmp_path}/{name}" for name in names], f"{tmp_path}/out/")
    left = [Path(job.source).name for job in jobs]
    assert left == ["c4d_1_ooi_z.fits.fz", "m31.fits", "m33_rms.fits"]


def test_folders_made_for_nothing_go_again_but_not_where_frames_failed(tmp_path):
    """Another command may have found the folder there, and be about to write into it."""
    out = tmp_path / "new" / "out"
    with pytest.raises(ConfigError), jobs_planned(["a.fits"], f"{out}/"):
        raise ConfigError("no such option")
    assert not (tmp_path / "new").exists()
    with jobs_planned(["a.fits"], f"{out}/"):
        pass
    assert out.is_dir()
