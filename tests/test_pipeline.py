"""Laws of the whole chain: one frame from file to file."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.account.account import key_of
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory, TileStore
from dip_pipeline.errors import ConfigError, DipError, FrameError, OutputError, SensorError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import read_provenance
from dip_pipeline.frames.prov_json import facts_of, problems_of, unflatten
from dip_pipeline.pipeline import describe_frame, restore_frame, scratch_of
from dip_pipeline.progress import SILENT, Progress
from dip_pipeline.runs import frame_run, prior_work, restoring, ways, work
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate
from dip_pipeline.tiling import tile_borders
from tests.stand_in import any_prior, arithmetic

DECLARED_CARDS = """
    DIPVER DIPTASK DIPNOISE DIPGAIN DIPRDN DIPPED DIPINPUT DIPSCOPE DIPNET DIPSTEPS DIPSTOP DIPSEED
    DIPTILE DIPOVLAP DIPNTILE DIPNFAIL DIPRISK DIPFLUX DIPDEV DIPRUN DIPIN DIPCFG
""".split()  # noqa: SIM905 (a table reads better)

QUICK = {
    "fit.effort": "fast",  # two networks
    "fit.steps": 4,
    "tiles.size_px": 48,
    "tiles.overlap_px": 8,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}


def quick(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A crowded 96 x 112 frame as SCI + DQ, with a table and odd cards beside it."""
    sim = simulate(
        SceneOptions(kind="crowded", shape=(96, 112), seed=4),
        DetectorOptions(saturation_dn=4000.0),
    )
    path = tmp_path_factory.mktemp("sky") / "sky.fits"
    primary = fits.PrimaryHDU()
    primary.header["OBSERVER"] = ("Caroline Herschel", "who looked")
    science = fits.ImageHDU(sim.observed_dn.astype(np.uint16), name="SCI")
    for keyword, value, comment in sim.header_cards():
        if keyword not in ("COMMENT", "HISTORY", ""):
            science.header[keyword] = (value, comment)
    science.header["HISTORY"] = "bias subtracted"
    flags = fits.ImageHDU(sim.flags, name="DQ")
    table = fits.BinTableHDU.from_columns(
        [fits.Column("X", "D", array=np.arange(5.0))], name="STARS"
    )
    fits.HDUList([primary, science, flags, table]).writeto(path, checksum=True)
    return path, sim


def planes(path):
    with fits.open(path) as hdus:
        return {name: hdus[name].data.tobytes() for name in ("SCI", "DIP_ERR", "DIP_FLAG")}


@pytest.fixture(scope="module")
def product(sky, tmp_path_factory):
    """The frame restored by the inline executor."""
    target = tmp_path_factory.mktemp("inline") / "out.fits"
    report = restore_frame(str(sky[0]), target, quick())
    return target, report


@pytest.fixture
def standing_in(monkeypatch):
    """Cheap arithmetic for what networks do."""
    monkeypatch.setattr(ways, "fit_prior", any_prior)
    monkeypatch.setattr(ways, "restore", arithmetic)


@pytest.fixture
def drawn(sky, standing_in, tmp_path):
    """The frame restored by that arithmetic."""
    target = tmp_path / "drawn.fits"
    report = restore_frame(str(sky[0]), target, quick())
    return target, report


def test_science_error_and_flags_do_not_depend_on_the_executor_or_the_workers(
    sky, product, tmp_path
):
    target = tmp_path / "local.fits"
    config = quick(**{"workers.executor": "local", "workers.workers": 2})
    restore_frame(str(sky[0]), target, config)
    assert planes(target) == planes(product[0])
    with fits.open(target) as hdus:
        pids = set(hdus["DIP_TILE"].data["pid"])
    assert len(pids) >= 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("scope", ["frame", "tile"])
@pytest.mark.parametrize("kind", ["image", "code"])
def test_every_input_and_scope_restores_every_tile(sky, tmp_path, kind, scope):
    target = tmp_path / "out.fits"
    two = {"tiles.size_px": 96, "tiles.overlap_px": 16}
    config = quick(**{"fit.input": kind, "fit.scope": scope, **two})
    report = restore_frame(str(sky[0]), target, config)
    assert (report.ok, report.tiles) == (True, 2)
    with fits.open(target) as hdus:
        assert np.isfinite(hdus["SCI"].data).all()
        assert hdus["SCI"].header["DIPINPUT"] == kind
        assert hdus["SCI"].header["DIPSCOPE"] == scope
        assert np.isfinite(hdus["DIP_TILE"].data["risk"]).all()


def test_another_seed_is_that_of_the_networks_and_of_every_tile(sky, standing_in, monkeypatch):
    seeds = {"fit_prior": [], "restore": []}

    def heard(name, real):
        def made(*arguments, **options):
            seeds[name].append(options["seed"] if options else arguments[0].seed)
            return real(*arguments, **options)

        return made

    for name, real in (("fit_prior", any_prior), ("restore", arithmetic)):
        monkeypatch.setattr(ways, name, heard(name, real))
    for seed in (0, 1):
        target = sky[0].with_name(f"seed_{seed}.fits")
        tiles = restore_frame(str(sky[0]), target, quick(**{"fit.seed": seed})).tiles
        target.unlink()
    assert len(set(seeds["fit_prior"])) == 2
    assert len(set(seeds["restore"])) == 2 * tiles


def test_only_what_was_declared_changes(sky, product):
    """Every other HDU and card stays, byte for byte; the new ones are named."""
    with fits.open(sky[0]) as old, fits.open(product[0]) as new:
        assert [h.name for h in new[: len(old)]] == [h.name for h in old]
        assert {h.name for h in new[len(old) :]} == {"DIP_ERR", "DIP_FLAG", "DIP_PROV", "DIP_TILE"}
        diff = fits.FITSDiff(old, fits.HDUList(new[: len(old)]), ignore_hdus=["SCI"])
        assert diff.identical, diff.report()
        technical = {"BITPIX", "BZERO", "BSCALE", "CHECKSUM", "DATASUM"}
        kept, found = (
            [
                card
                for card in hdus["SCI"].header.cards
                if card.keyword not in technical and not card.keyword.startswith("DIP")
            ]
            for hdus in (old, new)
        )
        assert [str(card) for card in found[: len(kept)]] == [str(card) for card in kept]
        assert [card.keyword for card in found[len(kept) :]] == ["HISTORY"]
        assert next(iter(new["SCI"].header["HISTORY"])) == "bias subtracted"
        assert new["SCI"].data.dtype.newbyteorder("=") == np.float32
    assert fitscheck.main([str(product[0])]) == 0


def test_the_header_says_what_was_done(sky, product):
    with fits.open(product[0]) as hdus:
        header = hdus["SCI"].header
        assert header["DIPNOISE"] == "poisson-gaussian"
        assert header["DIPGAIN"] == pytest.approx(sky[1].detector.gain_e_per_dn)
        assert header["DIPNTILE"] == len(hdus["DIP_TILE"].data) == product[1].tiles
        assert header["DIPNFAIL"] == 0
        assert (header["DIPTILE"], header["DIPOVLAP"]) == (48, 8)
        assert header["DIPCFG"] == quick().digest()
        for keyword in DECLARED_CARDS:
            assert keyword in header, keyword


def test_flags_tell_filled_and_saturated_pixels(sky, product):
    sim = sky[1]
    with fits.open(sky[0]) as old, fits.open(product[0]) as new:
        flags, raw = new["DIP_FLAG"].data, old["SCI"].data
        saturated = raw >= sim.detector.saturation_dn
        assert saturated.any()
        assert ((flags & PixelFlag.SATURATED) > 0).tolist() == saturated.tolist()
        np.testing.assert_array_equal(new["SCI"].data[saturated], raw[saturated])
        masked = (old["DQ"].data != 0) & ~saturated
        assert masked.any()
        assert ((flags & PixelFlag.FILLED) > 0)[masked].all()
        assert not (flags & PixelFlag.FILLED)[~masked].any()


def test_the_same_command_on_the_finished_product_is_already_done(sky, product):
    before = product[0].stat()
    report = restore_frame(str(sky[0]), product[0], quick())
    assert report.status == "already done"
    assert report.tiles == product[1].tiles
    assert product[0].stat() == before
    assert not list(product[0].parent.glob("*.dip"))


def test_names_are_taken_as_text_and_as_paths(sky, product):
    for source, target in ((sky[0], str(product[0])), (str(sky[0]), product[0])):
        report = restore_frame(source, target, quick())
        assert (report.status, report.source) == ("already done", str(sky[0]))
        assert report.target == product[0]


def test_scratch_of_a_run_that_died_once_it_was_written_goes_with_the_next(sky, product):
    target = product[0]
    key = key_of(read_provenance(target).document)
    scratch = scratch_of(target)
    for another, left in ((key, False), (key | {"algorithm": -1}, True)):
        with RunDirectory.open(scratch, another):
            pass
        assert restore_frame(str(sky[0]), target, quick()).status == "already done"
        assert scratch.exists() == left
    shutil.rmtree(scratch)


def test_a_product_that_another_run_made_while_this_one_prepared_is_taken(
    sky, tmp_path, monkeypatch
):
    monkeypatch.setattr(ways, "restore", arithmetic)
    source, target, alone = str(sky[0]), tmp_path / "out.fits", frame_run.plan_planes

    def beside_another(*args, **more):
        monkeypatch.setattr(frame_run, "plan_planes", alone)
        assert restore_frame(source, target, config).status == "restored"
        return alone(*args, **more)

    config = quick(**{"fit.scope": "tile"})
    monkeypatch.setattr(frame_run, "plan_planes", beside_another)
    report = restore_frame(source, target, config)
    assert (report.status, report.ok) == ("already done", True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.fits"]


def test_a_group_that_was_written_to_meanwhile_is_no_input(tmp_path, standing_in):
    root = zarr.create_group(tmp_path / "in.zarr")
    pixels = np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32)
    science = root.create_array("science", data=pixels)

    class Rewriting(type(SILENT)):
        def frame_started(self, *_):
            science[...] = pixels + 1000

    config = quick(**{"noise.sigma": 5.0})
    with pytest.raises(FrameError, match="changed while it was being read"):
        restore_frame(str(tmp_path / "in.zarr"), tmp_path / "o.fits", config, progress=Rewriting())
    assert not (tmp_path / "o.fits").exists()


def test_a_product_of_other_options_is_not_overwritten_unasked(sky, product):
    before = product[0].read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        restore_frame(str(sky[0]), product[0], quick(**{"fit.seed": 9}))
    assert product[0].read_bytes() == before


def test_an_interrupted_run_goes_on_and_fits_no_finished_tile_twice(
    sky, drawn, tmp_path, monkeypatch
):
    target = tmp_path / "out.fits"
    done: list[int] = []

    class Interrupt:
        def frame_started(self, source, tiles, found_done): ...
        def fit_step(self, step, steps, risk): ...
        def note(self, message): ...

        def tile_done(self, record):
            done.append(record["tile"])
            if len(done) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_frame(str(sky[0]), target, quick(), progress=Interrupt())
    assert not target.exists()

    fits_run, tiles_run = [], []
    real_fit, real_restore = prior_work.fit_frame_prior, work.restore_tile
    monkeypatch.setattr(
        prior_work, "fit_frame_prior", lambda *a: fits_run.append(1) or real_fit(*a)
    )
    monkeypatch.setattr(
        restoring, "restore_tile", lambda t: tiles_run.append(t.tile.index) or real_restore(t)
    )
    report = restore_frame(str(sky[0]), target, quick())
    assert fits_run == []
    assert not set(tiles_run) & set(done)
    assert report.found_done == 3
    assert planes(target) == planes(drawn[0])


def leave_scratch(source, target, monkeypatch):
    """Run until all tiles are done, and fail to write the product."""

    def full(*args, **kwargs):
        raise OutputError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(frame_run, "save_frames", full)
        with pytest.raises(OutputError):
            restore_frame(source, target, quick())


def test_a_damaged_tile_is_found_and_fitted_again(sky, drawn, tmp_path, monkeypatch):
    target = tmp_path / "out.fits"
    leave_scratch(str(sky[0]), target, monkeypatch)
    victim = next(Path(f"{target}.dip").glob("tiles/*/*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    report = restore_frame(str(sky[0]), target, quick())
    assert report.found_done == report.tiles - 1
    assert planes(target) == planes(drawn[0])


def test_changed_options_begin_a_left_over_run_anew(sky, standing_in, tmp_path, monkeypatch):
    target = tmp_path / "out.fits"
    leave_scratch(str(sky[0]), target, monkeypatch)
    report = restore_frame(str(sky[0]), target, quick(**{"fit.seed": 5}))
    assert report.found_done == 0


def test_a_tile_that_diverges_is_copied_flagged_counted_and_told_of(
    sky, standing_in, tmp_path, monkeypatch, caplog
):
    real = ways.restore

    def sometimes(problem, prior):
        from dip_pipeline.restoration.problem import StopReason
        from dip_pipeline.restoration.restore import unchanged

        if problem.origin == (0, 0):
            return unchanged(problem, StopReason.DIVERGED)
        return real(problem, prior)

    monkeypatch.setattr(ways, "restore", sometimes)
    target = tmp_path / "out.fits"
    report = restore_frame(str(sky[0]), target, quick())
    assert report.failed_tiles == 1
    assert not report.ok
    heard = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert heard == [
        f"{sky[0]}: 1 of {report.tiles} tiles failed (the fit diverged: check the noise model, "
        "give more --steps or another --seed): copied from the input, flag 4"
    ]
    with fits.open(sky[0]) as old, fits.open(target) as new:
        assert new["SCI"].header["DIPNFAIL"] == 1
        borders = tile_borders(old["SCI"].shape, quick().tile_options())
        corner = np.s_[: borders[0][0], : borders[1][0]]  # the part that no other tile shares
        assert (new["DIP_FLAG"].data[corner] & PixelFlag.TILE_FAILED).all()
        np.testing.assert_array_equal(
            new["SCI"].data[corner], old["SCI"].data[corner].astype(np.float32)
        )
        assert np.isnan(new["DIP_ERR"].data[corner]).all()


def test_the_record_names_the_noise_and_where_each_number_came_from(product):
    found = read_provenance(product[0])
    noise = facts_of(found.document, "noise")
    assert noise["law"] == "poisson-gaussian"
    assert noise["numbers"]["gain"]["source"] == "card GAIN"
    config = RunConfig.from_document(unflatten(facts_of(found.document, "configuration")))
    assert config.pixel_key() == quick().pixel_key() == key_of(found.document)["configuration"]
    assert problems_of(found.document) == []
    assert len(found.tiles) == product[1].tiles


def test_the_output_may_be_zarr_with_the_same_pixels(sky, drawn, tmp_path):
    import zarr

    target = tmp_path / "out.zarr"
    restore_frame(str(sky[0]), target, quick())
    group = zarr.open_group(target, mode="r")
    with fits.open(drawn[0]) as hdus:
        np.testing.assert_array_equal(group["science"][:], hdus["SCI"].data)
        np.testing.assert_array_equal(group["DIP_ERR"][:], hdus["DIP_ERR"].data)
        np.testing.assert_array_equal(group["DIP_FLAG"][:], hdus["DIP_FLAG"].data)
    assert restore_frame(str(sky[0]), target, quick()).status == "already done"


def write(path, pixels, **cards):
    hdu = fits.PrimaryHDU(np.asarray(pixels))
    hdu.header.update(cards)
    hdu.writeto(path)
    return str(path)


BAD_PIXELS = {
    "one pixel": np.ones((1, 1), np.float32),
    "a row": np.ones((1, 400), np.float32),
    "all NaN": np.full((64, 64), np.nan, np.float32),
    "constant": np.full((64, 64), 7, np.int16),
}


@pytest.mark.parametrize("name", BAD_PIXELS)
def test_frames_without_anything_to_restore_are_refused_in_one_line(tmp_path, name):
    source = write(tmp_path / "in.fits", BAD_PIXELS[name])
    with pytest.raises(DipError) as caught:
        restore_frame(source, tmp_path / "out.fits", quick())
    assert "\n" not in str(caught.value)
    assert "in.fits" in str(caught.value)
    assert not (tmp_path / "out.fits").exists()


def test_huge_and_tiny_units_are_only_units(tmp_path):
    pixels = np.random.default_rng(0).normal(100, 3, (48, 48))
    found = {}
    for unit in (1.0, 1e30, 1e-30):
        source = write(tmp_path / f"{unit:g}.fits", (pixels * unit).astype(np.float32))
        restore_frame(source, tmp_path / f"{unit:g}_out.fits", quick())
        found[unit] = fits.getdata(tmp_path / f"{unit:g}_out.fits") / unit
    for unit in (1e30, 1e-30):
        np.testing.assert_allclose(found[unit], found[1.0], rtol=1e-4)


def test_a_frame_smaller_than_a_tile_is_one_tile(tmp_path):
    rng = np.random.default_rng(0)
    source = write(tmp_path / "in.fits", rng.normal(100, 3, (20, 21)).astype(np.float32))
    report = restore_frame(source, tmp_path / "out.fits", quick(**{"tiles.size_px": 256}))
    assert report.tiles == 1
    assert fits.getdata(tmp_path / "out.fits").shape == (20, 21)


def test_missing_noise_is_an_error_where_it_was_asked_for(tmp_path):
    source = write(tmp_path / "in.fits", np.random.default_rng(0).normal(9, 1, (32, 32)))
    with pytest.raises(SensorError, match=r"--gain.*--read-noise"):
        restore_frame(source, tmp_path / "out.fits", quick(**{"noise.law": "poisson-gaussian"}))


def test_noise_none_needs_the_code_input(tmp_path):
    source = write(tmp_path / "in.fits", np.random.default_rng(0).normal(9, 1, (32, 32)))
    config = quick(**{"noise.law": "none"})
    with pytest.raises(SensorError, match="--input code"):
        restore_frame(source, tmp_path / "out.fits", config)
    config = config.with_overrides(**{"fit.input": "code"})
    report = restore_frame(source, tmp_path / "out.fits", config)
    assert np.isnan(report.risk)


def test_the_input_is_never_the_output(sky):
    with pytest.raises(OutputError, match="input"):
        restore_frame(str(sky[0]), sky[0], quick(), overwrite=True)


@pytest.mark.parametrize(
    ("options", "task"),
    [
        ({"reading.error": "{beside}"}, "denoise"),
        ({"reading.flags": "{beside}"}, "denoise"),
        ({"task.guides": ("{beside}[0]",)}, "denoise"),
        ({"task.mask": "{beside}"}, "inpaint"),
        ({"task.psf": "{beside}"}, "deconvolve"),
    ],
)
def test_nothing_that_is_read_is_ever_the_output(tmp_path, options, task):
    source = write(tmp_path / "in.fits", np.random.default_rng(0).normal(9, 1, (32, 32)))
    pixels = np.full((5, 5), 0.04) if task == "deconvolve" else np.ones((32, 32))
    beside = Path(write(tmp_path / "beside.fits", pixels))
    told = {
        name: beside_it.format(beside=beside)
        if isinstance(beside_it, str)
        else tuple(each.format(beside=beside) for each in beside_it)
        for name, beside_it in options.items()
    }
    before = beside.read_bytes()
    config = quick(**{"task.name": task, **told})
    with pytest.raises(OutputError, match=r"is the input .*beside"):
        restore_frame(source, beside, config, overwrite=True)
    assert beside.read_bytes() == before


def test_a_gpu_that_is_not_there_is_named(sky, tmp_path):
    with pytest.raises(ConfigError, match="cuda:63"):
        restore_frame(str(sky[0]), tmp_path / "o.fits", quick(**{"workers.device": "cuda:63"}))


def test_showing_a_frame_restores_nothing(sky, tmp_path):
    shown = describe_frame(str(sky[0]), quick())
    assert any("card GAIN" in line for line in shown.noise_lines)
    assert shown.tile_lines.startswith("9 tiles of ")
    assert shown.memory_bytes > 0
    assert set(sky[0].parent.iterdir()) == {sky[0]}


def test_a_full_disk_is_one_line_and_leaves_nothing(sky, standing_in, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OutputError("disk full: 12345 bytes needed")

    monkeypatch.setattr(TileStore, "publish", refuse)
    with pytest.raises(OutputError, match="bytes needed"):
        restore_frame(str(sky[0]), tmp_path / "out.fits", quick())
    assert not (tmp_path / "out.fits").exists()


EXTRA = os.environ.get("DIP_EXTRA_DATA")
CCD = "ccd/a8280271.fits"
JWST = "jwst/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp_512.fits"
READABLE_NASTY = {"checksum_false.fits", "scale.fits"}


@pytest.mark.skipif(not EXTRA, reason="DIP_EXTRA_DATA names no folder of real frames")
def test_nasty_files_are_restored_or_refused_in_one_line(tmp_path):
    restored, refusals = set(), {}
    for path in sorted(Path(EXTRA or ".").glob("nasty/*")):
        try:
            restore_frame(str(path), tmp_path / f"{path.stem}.fits", quick())
            restored.add(path.name)
        except DipError as error:
            refusals[path.name] = str(error)
    assert restored == READABLE_NASTY
    assert refusals
    assert not any("\n" in line for line in refusals.values())


@pytest.mark.skipif(not EXTRA, reason="DIP_EXTRA_DATA names no folder of real frames")
@pytest.mark.parametrize(
    ("name", "networks"),
    [
        (CCD, False),
        ("mef/gmos.fits", True),
        (JWST, False),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in (CCD, JWST)),
    ],
)
def test_real_frames_come_out_valid(tmp_path, request, name, networks):
    """Large ones by arithmetic: what is valid or not is their file."""
    if not networks:
        request.getfixturevalue("standing_in")
    target = tmp_path / "out.fits"
    source = Path(EXTRA or ".") / name
    report = restore_frame(str(source), target, quick(**{"tiles.size_px": 256}))
    assert report.ok
    assert fitscheck.main([str(target)]) == 0
    if name.startswith("ccd"):
        with fits.open(target) as hdus:
            assert 200 < hdus[0].header["DIPPED"] < 230  # the bias of its overscan columns


def test_a_pedestal_from_the_overscan_is_used(tmp_path):
    rng = np.random.default_rng(3)
    pixels = rng.normal(1000, 5, (64, 80)).astype(np.float32)
    source = write(
        tmp_path / "in.fits",
        pixels,
        GAIN=2.0,
        RDNOISE=5.0,
        BIASSEC="[65:80,1:64]",
        TRIMSEC="[1:64,1:64]",
    )
    shown = describe_frame(source, quick())
    assert any("pedestal: 100" in line or "pedestal: 99" in line for line in shown.noise_lines)
    with pytest.raises(FrameError):
        describe_frame(str(tmp_path / "none.fits"), quick())


def test_pixels_without_a_value_are_told_of(tmp_path, monkeypatch):
    """A frame may hold numbers where its noise plane has none."""

    def holed(problem, prior=None):
        made = arithmetic(problem, prior)
        made.science[np.isnan(problem.pixels[problem.inner]) | problem.masked[problem.inner]] = (
            np.nan
        )
        return made

    monkeypatch.setattr(ways, "fit_prior", any_prior)
    monkeypatch.setattr(ways, "restore", holed)
    rng = np.random.default_rng(2)
    error = np.full((64, 80), 3.0, np.float32)
    error[:20] = np.nan
    science = rng.normal(100, 3, error.shape).astype(np.float32)
    hdus = [fits.ImageHDU(science, name="SCI"), fits.ImageHDU(error, name="ERR")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "in.fits")
    notes = []

    class Listener:
        def frame_started(self, source, tiles, found_done): ...
        def fit_step(self, step, steps, risk): ...
        def tile_done(self, record): ...

        def note(self, message):
            notes.append(message)

    config = RunConfig().with_overrides(**QUICK)
    restore_frame(str(tmp_path / "in.fits"), tmp_path / "out.fits", config, progress=Listener())
    assert any(f"{20 * 80} pixels are NaN (flag 2)" in note for note in notes)


@pytest.mark.parametrize("kept", [0, 7])
def test_pixels_that_are_left_as_they_were_observed_are_counted_and_told(
    tmp_path, monkeypatch, kept
):
    def keeping(problem, prior=None):
        made = arithmetic(problem, prior)
        return replace(made, outcome=replace(made.outcome, kept_pixels=kept))

    monkeypatch.setattr(ways, "fit_prior", any_prior)
    monkeypatch.setattr(ways, "restore", keeping)
    pixels = np.random.default_rng(2).normal(100, 3, (64, 80)).astype(np.float32)
    pixels[10, 10] = np.nan
    fits.writeto(tmp_path / "in.fits", pixels)
    told = Mock(spec=Progress)
    for task in ("denoise", "inpaint"):
        told.reset_mock()
        config = quick(**{"noise.sigma": 3.0, "task.name": task})
        restore_frame(tmp_path / "in.fits", tmp_path / f"{task}.fits", config, progress=told)
        tiles = fits.getdata(tmp_path / f"{task}.fits", "DIP_TILE")
        assert ("kept_pixels" in tiles.names) is (task == "denoise")
        notes = " ".join(call.args[0] for call in told.note.call_args_list)
        words = f"{kept * len(tiles)} pixels are sharper than light"
        assert (words in notes) is (task == "denoise" and kept > 0)
        assert ("sharper than light" in notes) is (words in notes)


@pytest.mark.parametrize(("kind", "told"), [("Dome Flat", True), ("Light Frame", False)])
@pytest.mark.parametrize("keyword", ["IMAGETYP", "OBSTYP"])
def test_a_frame_that_shows_no_sky_is_told_of(tmp_path, caplog, keyword, kind, told):
    pixels = np.random.default_rng(1).normal(100, 5, (32, 32)).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", pixels, fits.Header({keyword: kind}))
    notes = describe_frame(str(tmp_path / "a.fits"), quick(**{"noise.sigma": 5.0})).notes
    assert any("a calibration frame, not the sky" in note for note in notes) is told
    options = {"fit.steps": 1, "noise.sigma": 5.0}
    report = restore_frame(str(tmp_path / "a.fits"), tmp_path / "out.fits", quick(**options))
    assert report.status == "restored"
    assert ("which shows no sky" in caplog.text) is told
