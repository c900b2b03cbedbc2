"""Laws of the configuration: a mistake is one line, and the key holds what changes pixels."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.config import OPTIONS, RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.errors import ConfigError
from dip_pipeline.sensor import NoiseChoice, SensorOverrides
from dip_pipeline.tiling import TileOptions

OTHER_VALUES = {
    "task.name": "super-resolve",
    "task.factor": 3,
    "task.psf": "psf.fits",
    "task.fwhm_px": 1.8,
    "task.mask": "mask.fits[1]",
    "task.denoise_known": True,
    "task.guides": ("deep.fits", "red.fits"),
    "task.exposures": ("b.fits",),
    "task.each": True,
    "reading.science": "SCI,2",
    "reading.error": "variance:STAT",
    "reading.flags": "none",
    "reading.bad_bits": "DO_NOT_USE",
    "reading.bayer": "GRBG",
    "reading.find_cosmics": True,
    "reading.grow_px": 2,
    "reading.strict": True,
    "tiles.size_px": 128,
    "tiles.overlap_px": 16,
    "noise.law": "gaussian",
    "noise.sigma": 3.5,
    "noise.gain_e_per_dn": 2.0,
    "noise.read_noise_e": 0.0,
    "noise.pedestal_dn": -100.0,
    "noise.saturation_dn": 6e4,
    "noise.correlation": "0.3",
    "fit.input": "code",
    "fit.scope": "tile",
    "fit.planes": "apart",
    "fit.network": "hourglass",
    "fit.effort": "best",
    "fit.steps": 300,
    "fit.prior": "night.prior",
    "fit.any_optics": True,
    "fit.flux_scale_px": 0.0,
    "fit.seed": 7,
    "output.quantize_sigma": 0.5,
    "workers.executor": "local",
    "workers.scheduler": "tls://cluster:8786",
    "workers.scheduler_file": "scheduler.json",
    "workers.insecure_cluster": True,
    "workers.workers": 2,
    "workers.threads_per_fit": 3,
    "workers.packet": 8,
    "workers.dashboard": True,
    "workers.device": "cuda:1",
}


def read(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return RunConfig.from_toml(path)


def test_the_table_of_other_values_knows_every_option():
    assert set(OTHER_VALUES) == set(OPTIONS)


def test_a_file_of_noise_counts_by_its_content_and_not_by_its_name(tmp_path):
    """Else a folder that was moved would hold products of other options."""
    digests = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "n.fits"
        file.touch()
        for plane in (f"{file}", f"ivar:{file}", f"{file}[2]"):
            given = {"reading.error": plane, "reading.flags": plane}
            digests.append(RunConfig().with_overrides(**given).digest())
    assert digests[:3] == digests[3:]
    assert len(set(digests)) == 3


def test_exposures_that_contradict_each_other_count_where_each_guides_the_others():
    each = RunConfig().with_overrides(**{"task.name": "combine", "task.each": True})
    asked = {"fit.any_optics": True}
    assert each.with_overrides(**asked).digest() != each.digest()
    alone = RunConfig()
    assert alone.with_overrides(**asked).digest() == alone.digest()


@pytest.mark.parametrize("name", ["task.mask", "task.psf", "task.guides"])
def test_brackets_in_folders_are_no_planes(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "od[1]").mkdir()
    (tmp_path / "od[1]" / "m.fits").touch()
    for text in ("od[1]/m.fits", "od[1]/m.fits[SCI,1]"):
        given = (text,) if name == "task.guides" else text
        config = RunConfig().with_overrides(**{name: given})
        found = getattr(config.task, name.partition(".")[2])
        assert found in (f"{tmp_path}/{text}", (f"{tmp_path}/{text}",))


@pytest.mark.parametrize("wrong", [{"task.guides": ("",)}, {"fit.flux_scale_px": 65.0}])
def test_values_that_no_run_could_use_are_refused_at_once(wrong):
    with pytest.raises(ConfigError):
        RunConfig().with_overrides(**wrong)


def test_a_mark_of_the_byte_order_is_no_letter(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[fit]\nsteps = 7\n")
    assert RunConfig.from_toml(path).fit.steps == 7


def test_a_file_with_a_plane_is_named_in_full(tmp_path, monkeypatch):
    """Otherwise a run that is finished from another folder would be another run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.fits").touch()
    for text, full in (
        ("b.fits", f"{tmp_path}/b.fits"),
        ("ivar:b.fits[2]", f"ivar:{tmp_path}/b.fits[2]"),
        ("b.fits[SCI,1]", f"{tmp_path}/b.fits[SCI,1]"),
        ("variance:STAT", "variance:STAT"),
        ("none", "none"),
    ):
        config = RunConfig().with_overrides(**{"reading.error": text, "reading.flags": text})
        assert config.reading.error == config.reading.flags == full
        again = config.with_overrides(**{"reading.error": config.reading.error})
        assert again.digest() == config.digest()


@pytest.mark.parametrize(
    ("options", "tiles"),
    [
        ({}, TileOptions(512, 32, evenly=True)),
        ({"task.name": "inpaint"}, TileOptions(512, 32, evenly=True)),
        ({"task.name": "deconvolve"}, TileOptions(256, 32, evenly=True)),
        ({"fit.input": "code"}, TileOptions(256, 32, evenly=True)),
        ({"fit.scope": "tile"}, TileOptions(256, 32)),
        ({"fit.scope": "tile", "tiles.size_px": 300}, TileOptions(300, 32)),
        ({"tiles.size_px": 128, "tiles.overlap_px": 8}, TileOptions(128, 8, evenly=True)),
        ({"tiles.overlap_px": 200}, TileOptions(512, 200, evenly=True)),
    ],
)
def test_tiles_are_large_where_networks_are_applied_and_full_where_they_are_fitted(options, tiles):
    config = RunConfig().with_overrides(**options)
    assert config.tile_options() == tiles
    said = config.with_overrides(**{"tiles.size_px": config.tile_px})
    assert said.digest() == config.digest()


def test_defaults():
    config = RunConfig()
    assert config.tile_options() == TileOptions(512, 32, evenly=True)
    assert config.sensor_overrides() == SensorOverrides()
    assert (config.fit.input, config.fit.scope, config.fit.network) == ("image", "frame", "auto")
    assert (config.fit.steps, config.fit.flux_scale_px, config.fit.seed) == (None, 2.0, 0)
    assert config.noise.law is NoiseChoice.AUTO
    assert config.workers.device == "auto"
    assert config.worker_options().executor is ExecutorKind.INLINE


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(OTHER_VALUES))))
def test_a_file_says_what_the_command_line_says(tmp_path_factory, names):
    chosen = {name: OTHER_VALUES[name] for name in names | {"workers.executor"}}
    for elsewhere in ("workers.scheduler", "workers.scheduler_file"):  # not beside "local"
        chosen.pop(elsewhere, None)
    if "fit.prior" in names:  # for --input image, --scope frame alone
        chosen = {name: chosen[name] for name in chosen if name not in ("fit.input", "fit.scope")}
    config = RunConfig().with_overrides(**chosen)
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in chosen.items())
    again = read(tmp_path_factory.mktemp("config"), text)
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.parametrize("name", sorted(OTHER_VALUES))
def test_what_changes_pixels_changes_the_digest_and_where_it_runs_does_not(name):
    executor = "inline" if name.startswith("workers.scheduler") else "local"
    base = RunConfig().with_overrides(
        **{"workers.executor": executor, "workers.threads_per_fit": 1}
    )
    value = "inline" if name == "workers.executor" else OTHER_VALUES[name]
    other = base.with_overrides(**{name: value})
    assert other != base
    only_where = {n for n in OTHER_VALUES if n.startswith("workers.")} - {"workers.threads_per_fit"}
    # Of files the content is in the key of a run.
    by_content = {"fit.prior", "fit.any_optics"}
    by_content |= {f"task.{name}" for name in ("psf", "mask", "guides", "exposures")}
    assert (other.digest() == base.digest()) == (name in only_where | by_content)


def test_the_digest_is_the_same_for_the_same_values_however_they_are_written(tmp_path):
    a = read(tmp_path, "[noise]\nsigma = 3\ngain_e_per_dn = 2.0\n[tiles]\nsize_px = 128")
    b = read(tmp_path, "[tiles]\nsize_px = 128\n[noise]\ngain_e_per_dn = 2\nsigma = 3.0")
    assert a.digest() == b.digest()
    assert len(a.digest()) == 64


def test_the_number_of_threads_in_the_key_is_the_number_that_is_used():
    default = RunConfig()
    threads = default.worker_options().threads_per_fit
    assert default.pixel_key()["threads_per_fit"] == threads >= 1
    said = default.with_overrides(**{"workers.threads_per_fit": threads})
    assert said.digest() == default.digest()


def test_a_factor_that_is_left_to_the_task_is_the_one_that_it_has():
    left = RunConfig().with_overrides(**{"task.name": "super-resolve"})
    said = left.with_overrides(**{"task.factor": 2})
    assert said.digest() == left.digest()
    assert said.with_overrides(**{"task.factor": 3}).digest() != left.digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tiles]\nsizepx = 128", "unknown key tiles.sizepx; did you mean tiles.size_px?"),
        ("[tile]\nsize_px = 128", "unknown key tile; did you mean tiles?"),
        ("[tiles]\nseed = 1", "unknown key tiles.seed; did you mean fit.seed?"),
        ("seed = 1", "unknown key seed; did you mean fit.seed?"),
        ("steps = 4", "unknown key steps; did you mean fit.steps?"),
        ("read-noise = 4", "unknown key read-noise; did you mean noise.read_noise_e?"),
        ("[noise]\ngain = 1", "unknown key noise.gain; did you mean noise.gain_e_per_dn?"),
        ("[noise]\nfrobnicate = 1", "unknown key noise.frobnicate; known are noise.correlation,"),
        ("zzz = 1", "unknown key zzz; known are fit, noise, output, reading, task, tiles,"),
        ("tiles = 3", "tiles = 3: need a table of options, [tiles]"),
        ("[tiles]\nsize_px = '128'", "tiles.size_px (--tile) = '128': need a whole number"),
        ("[tiles]\nsize_px = true", "tiles.size_px (--tile) = True: need a whole number"),
        ("[tiles]\nsize_px = 0", "--tile) = 0: need a number greater than or equal to 1"),
        ("[tiles]\noverlap_px = 256", "less than half of the tile's 512 px; give --overlap"),
        (
            "[tiles]\noverlap_px = 128\n[fit]\nscope = 'tile'",
            "overlap 128 px: need zero or more, and less than half of the tile's 256 px",
        ),
        (
            "[noise]\nlaw = 'pink'",
            "need 'auto', 'none', 'gaussian', 'poisson' or 'poisson-gaussian'",
        ),
        (
            "[noise]\ncorrelation = 'pink'",
            "(--noise-correlation): noise correlation 'pink': need auto,",
        ),
        ("[noise]\ncorrelation = 0.9", "noise correlation '0.9': need auto, white, or"),
        ("[noise]\ngain_e_per_dn = -1", "(--gain) = -1: need a number greater than 0"),
        ("[noise]\nread_noise_e = nan", "(--read-noise) = nan: need a finite number"),
        ("[fit]\nsteps = 2.5", "fit.steps (--steps) = 2.5: need a whole number"),
        ("[fit]\nflux_scale_px = 'a'", "fit.flux_scale_px (--flux-scale) = 'a': need a number"),
        ("[fit]\nnetwork = 'resnet'", "(--network) = 'resnet': need 'auto', 'unet' or 'hourglass'"),
        ("[fit]\neffort = 'high'", "fit.effort (--effort) = 'high': need 'fast', 'normal' or"),
        ("[fit]\nany_optics = 1", "fit.any_optics (--any-optics) = 1: need true or false"),
        ("[fit]\nprior = ''", "fit.prior (--prior) = '': need a name"),
        ("[fit]\nprior = 'a'\ninput = 'code'", "--prior a with --input code, --scope frame: a"),
        ("[workers]\ndevice = 'gpu'", "(--device) = 'gpu': need auto, cpu, cuda, or cuda:0"),
        ("[workers]\nworkers = 2", "add --executor local"),
        ("[tiles\n", "not a TOML file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'run.toml'}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            RunConfig.from_toml(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a TOML file"):
        RunConfig.from_toml(tmp_path / "bytes.toml")


def test_the_command_line_lies_over_the_file_and_none_leaves_what_is_there(tmp_path):
    config = read(tmp_path, "[tiles]\nsize_px = 128\n[fit]\nseed = 5")
    over = config.with_overrides(**{"tiles.size_px": 64, "tiles.overlap_px": 8, "fit.seed": None})
    assert (over.tiles.size_px, over.tiles.overlap_px, over.fit.seed) == (64, 8, 5)
    with pytest.raises(ConfigError, match=r"\(--seed\) = -1: need"):
        config.with_overrides(**{"fit.seed": -1})
    with pytest.raises(ConfigError, match=r"unknown option fit\.sede; did you mean fit\.seed\?"):
        config.with_overrides(**{"fit.sede": 1})


def test_values_that_fit_only_together_may_come_together():
    changes = {"workers.executor": "local", "workers.workers": 2, "tiles.size_px": 40}
    config = RunConfig().with_overrides(**changes, **{"tiles.overlap_px": 10})
    assert config.worker_options(("cuda:0",)) == WorkerOptions(
        ExecutorKind.LOCAL, 2, config.threads_per_fit, ("cuda:0",)
    )


def test_what_is_said_of_the_sensor_reaches_it():
    said = {name: value for name, value in OTHER_VALUES.items() if name.startswith("noise.")}
    assert RunConfig().with_overrides(**said).sensor_overrides() == SensorOverrides(
        sigma_dn=3.5,
        gain_e_per_dn=2.0,
        read_noise_e=0.0,
        pedestal_dn=-100.0,
        saturation_dn=6e4,
    )


def test_every_option_has_a_flag_of_its_own_and_help_that_gives_the_unit():
    flags = [info.flag for info in OPTIONS.values() if info.flag]
    assert len(set(flags)) == len(flags)
    # A task is a command, and exposures are its inputs.
    without = {name for name, info in OPTIONS.items() if not info.flag}
    assert without == {"task.name", "task.exposures"}
    units = {"_px": "pixels", "_e": "electrons", "_dn": "DN", "_e_per_dn": "electrons per DN"}
    for name, info in OPTIONS.items():
        assert name in without or info.flag.startswith("--")
        assert len(info.help) > 10
        for ending, unit in units.items():
            assert not name.endswith(ending) or unit in info.help


def test_choices_are_those_that_the_configuration_takes():
    for name, info in OPTIONS.items():
        for choice in info.choices:
            section, _, key = name.partition(".")
            changed = RunConfig().with_overrides(**{name: choice})
            assert str(getattr(getattr(changed, section), key)) == choice
    names = ("auto", "none", "gaussian", "poisson", "poisson-gaussian")
    assert OPTIONS["noise.law"].choices == names
    assert OPTIONS["tiles.size_px"].choices == ()


def test_importing_the_configuration_loads_neither_torch_nor_dask():
    heavy = "{'dask', 'distributed', 'torch'}"
    code = f"import sys, dip_pipeline.config.run_config; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_a_correlation_may_be_written_as_a_number_or_as_text(tmp_path):
    number, text = (read(tmp_path, f"[noise]\ncorrelation = {value}") for value in ("0.4", "'0.4'"))
    assert number == text
    assert number.digest() == text.digest()


def test_a_workflow_is_no_configuration_and_how_it_is_run_is_told(tmp_path):
    (tmp_path / "w.toml").write_text('task = "denoise"\n')
    with pytest.raises(ConfigError, match=r"need a table of options, \[task\].*dip run"):
        RunConfig.from_toml(tmp_path / "w.toml")


@pytest.mark.parametrize("asked", [None, True, False])
def test_an_unencrypted_connection_is_made_only_where_it_is_asked_for(asked):
    values = {"workers.executor": "dask", "workers.scheduler": "tcp://far:8786"}
    config = RunConfig().with_overrides(**values, **{"workers.insecure_cluster": asked})
    assert config.worker_options().scheduler.insecure is bool(asked)
