"""Laws of the help: it is quick, complete, and the documents say nothing else."""

import asyncio
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import click
import pytest

from dip_pipeline.cli.denoise import denoise
from dip_pipeline.cli.fit import fit
from dip_pipeline.cli.main import COMMANDS, dip
from dip_pipeline.cli.show import show
from dip_pipeline.config import OPTIONS, RunConfig
from dip_pipeline.restoration.problem import SPENDING, Effort, InputKind, Spending
from dip_pipeline.runs import ways
from tests.cli.conftest import ROOT
from tests.stand_in import arithmetic

HEAVY = ("torch", "dask", "distributed", "astropy", "zarr", "scipy", "matplotlib")


def loaded(*arguments: str) -> set[str]:
    """Modules that are loaded once `python -m dip_pipeline ARGUMENTS` has ended."""
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['dip', *{arguments!r}]\n"
        "try:\n"
        "    runpy.run_module('dip_pipeline', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('LOADED', *sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert "Usage: dip" in done.stdout or "version" in done.stdout
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_the_help_of_dip_loads_nothing_heavy(arguments):
    modules = loaded(*arguments)
    assert "dip_pipeline.cli.main" in modules
    assert modules.isdisjoint({*HEAVY, "pydantic", "numpy", "rich.progress"})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_neither_torch_nor_dask_nor_astropy(command):
    assert loaded(command, "--help").isdisjoint(HEAVY)


def test_every_command_is_listed_with_its_own_first_line():
    context = click.Context(dip)
    assert set(COMMANDS) == set(dip.list_commands(context))
    for name, text in COMMANDS.items():
        command = dip.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(limit=200) == text


@pytest.mark.parametrize("command", [denoise, show])
def test_every_option_of_the_configuration_is_on_the_command_line(command):
    flags = {flag for parameter in command.params for flag in parameter.opts}
    common = {info.flag for name, info in OPTIONS.items() if not name.startswith("task.")}
    assert common <= flags


@pytest.mark.parametrize("command", [denoise, fit, show])
def test_the_help_of_every_option_gives_its_default(command):
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert "default" in (parameter.help or ""), parameter.opts


@pytest.mark.parametrize("name", [name for name, info in OPTIONS.items() if info.flag])
def test_the_help_says_what_stands_for_the_value_of_an_option(name):
    """A number, one of a few words, or what sort of name: FILE is not EXT."""
    command = dip.get_command(click.Context(dip), "run")
    assert command is not None
    (option,) = (p for p in command.params if p.name == name.replace(".", "__"))
    named = option.metavar not in (None, "NAME") or isinstance(option.type, click.Choice)
    assert named or option.is_flag or OPTIONS[name].kind in (int, float)


def test_a_factor_that_is_not_given_is_told_for_every_command_that_has_one():
    for name, default in (("super-resolve", 2), ("combine", 1), ("psf", 1)):
        command = dip.get_command(click.Context(dip), name)
        assert command is not None
        (option,) = (p for p in command.params if "--factor" in p.opts)
        assert f"by default {default} for {name}" in option.help or f"else {default}" in option.help


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md", "docs/products.md"])
def test_what_documents_import_is_there(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for module, names in re.findall(r"from (dip_pipeline[\w.]*) import ([\w, ]+)", text):
        found = import_module(module)
        for name in names.split(", "):
            assert hasattr(found, name), f"{module} has no {name}"


def test_the_default_in_the_help_is_the_one_in_force():
    for parameter in denoise.params:
        info = OPTIONS.get((parameter.name or "").replace("__", "."))
        if info is not None and info.default not in (None, ()):
            default = "no" if info.default is False else info.default
            assert f"[default: {default}]" in (parameter.help or "")


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md", "docs/products.md"])
def test_documents_name_options_and_commands_that_exist(document):
    context = click.Context(dip)
    commands = [dip.get_command(context, name) for name in COMMANDS]
    flags = {flag for c in commands if c for parameter in c.params for flag in parameter.opts}
    flags.add("--help")
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert len(named) > 5
    assert named <= flags
    assert set(re.findall(r"^ +dip ([a-z-]+)", text, flags=re.MULTILINE)) <= set(COMMANDS)


def test_the_guide_tells_what_every_effort_buys():
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for effort in Effort:
        image, code = (SPENDING[kind][effort] for kind in (InputKind.IMAGE, InputKind.CODE))
        row = re.search(rf"^\| `{effort}`.*$", text, flags=re.MULTILINE)
        assert row is not None
        told = [int(number) for number in re.findall(r"\| (\d+) ", row.group())]
        assert told == [image.steps, image.views, code.steps]


# Options of commands that make the same product as another one, on other processors.
ELSEWHERE = ("shard", "workers__executor", "workers__scheduler_file")


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md", "docs/products.md"])
def test_commands_of_documents_can_be_run_as_they_stand_one_after_the_other(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = re.findall(r"^    dip (.*)$", text, flags=re.MULTILINE)
    assert len(lines) > 5
    makers: dict[object, list[str]] = {}
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        command = dip.get_command(click.Context(dip), name)
        given = command.make_context(name, [*words]).params
        output = given.get("out")
        if output is None or any(given.get(where) for where in ELSEWHERE):
            continue
        made = (output, given["inputs"]) if str(output).endswith("/") else output
        assert makers.setdefault(made, [name, *words]) == [name, *words], f"both make {made}"


def test_what_the_guide_restores_from_python_is_restored_in_a_notebook(
    tmp_path, monkeypatch, capsys
):
    """A cell of a notebook runs inside of an event loop."""
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    section = text.partition("## Restoring from Python")[2].partition("\n## ")[0]
    program = "\n".join(re.findall(r"^ {4}(.*)$|^$", section, flags=re.MULTILINE))
    monkeypatch.setattr(ways, "restore", arithmetic)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SPENDING[InputKind.IMAGE], Effort.FAST, Spending(1, 4))

    async def cell():
        exec(compile(program, "cell", "exec"), {})

    asyncio.run(cell())
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1].startswith("restored ")
    assert "dip: pixels.fits: 1 of 1 tiles" in said.out
    assert "\x1b" not in said.out


def test_make_targets_of_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"make (demo|test|lint|clean)\b", text)) <= set(rules)


def test_the_example_configuration_is_read():
    path = ROOT / "workflows" / "denoise.toml"
    config = RunConfig.from_toml(path)
    assert config.fit.flux_scale_px == tomllib.loads(path.read_text())["fit"]["flux_scale_px"]


EXAMPLE = (ROOT / "workflows" / "denoise.toml").read_text()
LEFT_OUT = re.findall(r"^# (\w+ = .*)$", EXAMPLE, flags=re.MULTILINE)


@pytest.mark.parametrize("line", LEFT_OUT, ids=lambda line: line.partition(" ")[0])
def test_lines_that_the_example_leaves_out_are_options_too(tmp_path, line):
    text = EXAMPLE.replace(f"# {line}", line).replace("# [task]", "[task]")
    executor = {"scheduler": "dask", "scheduler_file": "dask", "workers": "local"}
    wanted = executor.get(line.partition(" ")[0], "inline")
    text = text.replace('executor = "inline"', f'executor = "{wanted}"')
    path = tmp_path / "filled.toml"
    path.write_text(text)
    assert RunConfig.from_toml(path) != RunConfig.from_toml(ROOT / "workflows" / "denoise.toml")


def test_the_example_has_every_option_that_is_not_of_another_task():
    keys = set(re.findall(r"^(?:# )?(\w+) = ", EXAMPLE, flags=re.MULTILINE))
    assert {name.partition(".")[2] for name in OPTIONS if not name.startswith("task.")} <= keys
