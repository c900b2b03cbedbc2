"""Laws of the options: defaults, then the file, then the command line; all reach the run."""

import pytest

from dip_pipeline import pipeline, planning
from dip_pipeline.config import OPTIONS, RunConfig
from dip_pipeline.prior_file import PriorFile
from tests.cli.conftest import report
from tests.test_config import OTHER_VALUES


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


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "workers.workers"])
def test_every_option_reaches_the_run(dip, seen, tmp_path, name):
    flag, value = OPTIONS[name].flag, OTHER_VALUES[name]
    words = [flag] if value is True else [flag, value]
    code, _, err = dip("denoise", "a.fits", "-o", tmp_path / "b.fits", *words)
    assert code == 0, err
    assert seen["config"] == RunConfig().with_overrides(**{name: value})
    assert seen["config"] != RunConfig()


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
