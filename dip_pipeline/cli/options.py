"""The options of a run, made from the table of the configuration."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from dip_pipeline.cli.verbosity import verbosity_options
from dip_pipeline.config import OPTIONS, OptionInfo, RunConfig

_SECTIONS = {
    "task": "The task",
    "reading": "What is read",
    "tiles": "Tiles",
    "noise": "Noise of the sensor",
    "fit": "Fit",
    "output": "Output",
    "workers": "Where it runs",
}


# What stands for the value of an option, where it is not a number or one of a few words.
_METAVARS = {
    "task.psf": "FILE",
    "task.mask": "FILE",
    "task.guides": "FILE",
    "reading.science": "EXT",
    "reading.error": "EXT|FILE",
    "reading.flags": "EXT|FILE",
    "reading.bad_bits": "BITS",
    "reading.bayer": "FILTERS|none",
    "noise.correlation": "auto|white|NUMBER",
    "fit.prior": "FILE.prior",
    "workers.scheduler": "ADDRESS",
    "workers.scheduler_file": "FILE",
    "workers.device": "DEVICE",
}


class RunCommand(click.Command):
    """A command whose help lists the options of a run by section of the configuration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options a section, those of the command itself first."""
        lists: dict[str, list[tuple[str, str]]] = {"": [], **{name: [] for name in _SECTIONS}}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                name = dotted(parameter.name or "")
                lists[name.partition(".")[0] if name in OPTIONS else ""].append(record)
        for section, records in lists.items():
            if records:
                with formatter.section(_SECTIONS.get(section, "Options")):
                    formatter.write_dl(records)


# What decides nothing about the fit of a prior for many frames.
_NOT_OF_A_FIT = (
    "task.",
    "tiles.",
    "fit.input",
    "fit.scope",
    "fit.planes",
    "fit.prior",
    "fit.flux_scale_px",
    "output.",
    "workers.executor",
    "workers.workers",
    "workers.scheduler",
    "workers.insecure_cluster",
    "workers.packet",
    "workers.dashboard",
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, -v, -q and the options of any task; `read_config` reads them."""
    return _add(command, [name for name in OPTIONS if not name.startswith("task.")])


def task_options(*keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options of the configuration's table of the task, by key."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed([f"task.{key}" for key in keys]):
            command = _option(name, OPTIONS[name])(command)
        return command

    return add


def fit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as `run_options`, with those options alone that matter to the fit of a prior."""
    return _add(command, [name for name in OPTIONS if not name.startswith(_NOT_OF_A_FIT)])


def noise_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as `run_options`, with those options alone that say how a frame and its noise are read."""
    return _add(command, [name for name in OPTIONS if name.startswith(("reading.", "noise."))])


def override_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every option of the configuration that has a flag, -v and -q, but no --config."""
    return _add(command, [name for name in OPTIONS if OPTIONS[name].flag], with_file=False)


def _add(
    command: Callable[..., Any], names: Iterable[str], *, with_file: bool = True
) -> Callable[..., Any]:
    file = click.option(
        "--config",
        "config_file",
        metavar="FILE.toml",
        type=click.Path(path_type=Path),
        help="Configuration file; options given here outrank it.  [default: none]",
    )
    options = [
        *([file] if with_file else []),
        *(_option(name, OPTIONS[name]) for name in names),
        verbosity_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_config(config_file: Path | None, values: dict[str, Any]) -> RunConfig:
    """Lay the options of the command line over those of the file, and these over the defaults.

    values : by the names that `run_options` gave them; None where the option was not given.
    Raises ConfigError for whatever cannot be used.
    """
    config = RunConfig() if config_file is None else RunConfig.from_toml(config_file)
    return config.with_overrides(**{dotted(name): value for name, value in values.items()})


def _option(name: str, info: OptionInfo) -> Callable[[Any], Any]:
    if info.kind is bool:
        return click.option(
            info.flag, name.replace(".", "__"), is_flag=True, default=None, help=_help(info)
        )
    if info.several:
        return click.option(
            info.flag,
            name.replace(".", "__"),
            multiple=True,
            metavar=_METAVARS[name],
            callback=lambda _context, _parameter, values: values or None,
            help=_help(info),
        )
    kind = click.Choice(info.choices) if info.choices else {int: click.INT, float: click.FLOAT}
    return click.option(
        info.flag,
        name.replace(".", "__"),
        type=kind if isinstance(kind, click.Choice) else kind.get(info.kind, click.STRING),
        metavar=_METAVARS.get(name),
        help=_help(info),
    )


def _help(info: OptionInfo) -> str:
    """Tell the default of every option, in words where it is not one value."""
    if "default" in info.help:
        return info.help
    default = "what the file says" if info.default is None else info.default
    if isinstance(default, bool):
        default = "yes" if default else "no"
    return f"{info.help}  [default: {default}]"


def dotted(name: str) -> str:
    """Name an option as the configuration does."""
    return name.replace("__", ".")
