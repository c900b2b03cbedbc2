"""Laws of the options: defaults, then the file, then the command line; all reach the run."""

import click
import pytest

from dip_pipeline import pipeline
from dip_pipeline.cli.main import COMMANDS
from dip_pipeline.cli.main import dip as commands
from dip_pipeline.config import OPTIONS, RunConfig
from dip_pipeline.preparing import planning
from dip_pipeline.runs.prior_file import PriorFile
from tests.cli.conftest import report
from tests.config.test_run_config import OTHER_VALUES


@pytest.fixture
def seen(monkeypatch):
    """Stand in for the restoration; gives the configuration and the command line it got."""
    got = {}

    def fake(source, target, config, *, overwrite, progress, command_line, place):
        got.update(config=config, command_line=command_line, overwrite=overwrite)
        return report(source, target)

    monkeypatch.setattr(pipeline, "restore_frame", fake)
    monkeypatch.setattr(planning, "devices_of", lambda _config: ("cpu",))
    monkeypatch.setattr(PriorFile, "read", lambda _path: None)
    return got


# Commands of tasks, with what they cannot do without.
NEEDED = {
    "denoise": {},
    "super-resolve": {},
    "deconvolve": {"task.fwhm_px": 2.0},
    "inpaint": {},
}


def options_of(command):
    """Options of the configuration that a command has, but for what goes with others alone."""
    found = commands.get_command(click.Context(commands), command)
    names = [(parameter.name or "").replace("__", ".") for parameter in found.params]
    return [name for name in names if name in OPTIONS and name != "workers.workers"]


def words_of(values):
    """Put options on a command line."""
    words = []
    for name, value in values.items():
        for item in value if isinstance(value, tuple) else (value,):
            words += [OPTIONS[name].flag] if item is True else [OPTIONS[name].flag, item]
    return words


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command in NEEDED
        if command in COMMANDS
        for name in options_of(command)
        if command == "denoise" or name.startswith("task.")
    ],
)
def test_every_option_reaches_the_run(dip, seen, tmp_path, command, name):
    chosen = {name: OTHER_VALUES[name]}
    if name not in ("task.psf", "task.fwhm_px"):
        chosen = NEEDED[command] | chosen
    code, _, err = dip(command, "a.fits", "-o", tmp_path / "b.fits", *words_of(chosen))
    assert code == 0, err
    assert seen["config"] == RunConfig().with_overrides(**{"task.name": command} | chosen)
    assert seen["config"] != RunConfig()


def test_common_options_are_those_of_every_task():
    common = {name for name in OPTIONS if not name.startswith("task.")} - {"workers.workers"}
    for command in NEEDED.keys() & COMMANDS.keys():
        assert common <= set(options_of(command))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("super-resolve --factor 1", "--factor 1: super-resolve needs 2, 3 or 4"),
        ("super-resolve --factor 5", "--factor 5: super-resolve needs 2, 3 or 4"),
        ("super-resolve --factor 0", "task.factor (--factor) = 0: need a number greater than or"),
        ("super-resolve --factor 2.5", "'2.5' is not a valid integer"),
        ("super-resolve --psf a.fits --fwhm 2", "two PSFs; give one of them"),
        ("super-resolve --fwhm 0", "task.fwhm_px (--fwhm) = 0.0: need a number greater than 0"),
        ("super-resolve --fwhm 2 --input code", "--input code: super-resolve needs --input image"),
        ("super-resolve --fwhm 2 --input code --noise none", "drawn through the paper's low pass"),
        ("deconvolve --fwhm 2 --input code --noise none", "deconvolve needs --input image"),
        ("super-resolve --noise none", "--noise none: super-resolve needs a noise law"),
        ("super-resolve --prior night.prior", "denoises, and cannot super-resolve; leave it out"),
        ("deconvolve", "no PSF to undo; give its image with --psf FILE"),
        ("deconvolve --psf a.fits --fwhm 2", "two PSFs; give one of them"),
        ("deconvolve --factor 2", "No such option"),
    ],
)
def test_options_that_do_not_go_with_a_task_are_refused_in_one_line(
    dip, seen, tmp_path, words, said
):
    command, *options = words.split()
    code, _, err = dip(command, "a.fits", "-o", tmp_path / "b.fits", *options)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not seen


def test_a_factor_in_the_configuration_is_refused_by_deconvolve(dip, seen, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[task]\nfactor = 2\nfwhm_px = 2.0\n")
    code, _, err = dip("deconvolve", "a.fits", "-o", tmp_path / "b.fits", "--config", path)
    assert code == 2
    assert "deconvolve keeps the pixels; for finer ones use super-resolve" in err


def test_the_command_line_outranks_the_file_and_the_file_the_defaults(dip, seen, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[tiles]\nsize_px = 128\noverlap_px = 16\n")
    code, _, _ = dip(
        "denoise", "a.fits", "-o", tmp_path / "b.fits", "--config", path, "--tile", 192
    )
    assert code == 0
    assert seen["config"].tiles.size_px == 192
    assert seen["config"].tiles.overlap_px == 16
    assert seen["config"].fit == RunConfig().fit


def test_the_command_line_is_handed_on_for_the_record(dip, seen, tmp_path):
    words = ("denoise", "a.fits", "-o", str(tmp_path / "b.fits"), "--seed", "3")
    dip(*words)
    assert seen["command_line"] == ("dip", *words)
    assert seen["overwrite"] is False
    dip(*words, "--overwrite")
    assert seen["overwrite"] is True
