"""Entry of the `dip` command: picks the command, and turns every ending into an exit code."""

import gc
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import NoReturn

import click

from dip_pipeline import __version__
from dip_pipeline.cli.output import (
    complain,
    complain_as_is,
    end_streams,
    in_one_line,
    write_any_name,
)
from dip_pipeline.cli.verbosity import verbosity_options
from dip_pipeline.errors import ConfigError, DipError, ExitCode

# New objects after which Python looks for garbage. By default it does so thousands of times while
# torch and astropy load, whose objects all stay: 0.4 s of every command.
_GARBAGE_LOOKED_FOR_AFTER = 20_000
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)

# What `dip --help` says of each command. The commands themselves load with their options, and
# those load the configuration: not before one of them is asked for.
COMMANDS = {
    "show": "Tell what is known of a frame; restores nothing.",
    "denoise": "Restore the true sky from noisy frames.",
    "inpaint": "Fill bad pixels, trails and holes.",
    "super-resolve": "Restore the sky on pixels 2, 3 or 4 times finer.",
    "deconvolve": "Undo the blur of a known PSF, on the same pixels.",
    "combine": "Combine several exposures of one sky, and restore it.",
    "psf": "Measure the PSF of a frame on its own stars.",
    "noise": "Write the noise of each pixel of a frame, for errors of photometry.",
    "fit": "Fit one prior on one or more frames, to restore many with.",
    "run": "Run a workflow: which frames, what is done to them, and where, from one file.",
    "convert": "Convert FITS to Zarr and back, without loss.",
    "status": "Tell how a run stands, also while it runs.",
    "finish": "Write the output of a run whose tiles are all there.",
    "clean": "Delete the scratch of runs that nobody is at.",
    "provenance": "Tell how a product was made; --repeat makes it again.",
    "picture": "Draw products beside their inputs.",
    "report": "Write one page of a night: figures, odd frames, pictures.",
    "verify": "Check that products are whole and only changed as declared.",
}

# Of these nothing is kept where they are interrupted.
_WITHOUT_TILES = {
    "psf",
    "noise",
    "fit",
    "convert",
    "status",
    "clean",
    "picture",
    "report",
    "verify",
    "show",
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"dip_pipeline.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} Options of a command stand behind its name.", ctx
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in COMMANDS:
            return super().resolve_command(ctx, args)
        near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(COMMANDS)}"
        raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dip")
@verbosity_options
def dip() -> None:
    """Restore astronomical images with the deep image prior.

    Each command has its own help: dip denoise --help
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code; no user's mistake shows a traceback."""
    write_any_name()
    gc.set_threshold(_GARBAGE_LOOKED_FOR_AFTER)
    code = run(sys.argv[1:] if arguments is None else arguments)
    unwritten = end_streams()
    if unwritten is not None and code == ExitCode.OK:
        complain(str(unwritten))
        code = ExitCode.FRAMES_FAILED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    try:
        with _termination_as_interrupt():
            code = dip.main(
                list(arguments),
                prog_name="dip",
                standalone_mode=False,
                obj=("dip", *arguments),
            )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        complain(f"{in_one_line(error.format_message())} {_where_help_is(error)}")
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        complain_as_is(f"dip: interrupted; {_how_to_go_on(arguments)}")
        return ExitCode.INTERRUPTED
    except DipError as error:
        complain(in_one_line(str(error)))
        return ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.FRAMES_FAILED
    except (OSError, ImportError, MemoryError) as error:
        complain(in_one_line(_what_failed(error)))
        return ExitCode.FRAMES_FAILED
    return int(code or ExitCode.OK)


def _how_to_go_on(arguments: Sequence[str]) -> str:
    """Say what comes of an interrupted command: those that work tile by tile keep the tiles."""
    if next((word for word in arguments if word in COMMANDS), "") in _WITHOUT_TILES:
        return "run the same command again, it begins anew"
    return "the same command resumes"


def _what_failed(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error)
    # Libraries load late, and torch is large.
    advice = "is its memory limited (ulimit -v), or the installation damaged?"
    return f"{str(error) or 'no memory left'}: {advice}"


def _where_help_is(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"(see {context.command_path if context else 'dip'} --help)"


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """End on SIGTERM, or a terminal that is gone, as cleanly as on Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    # Under nohup a terminal that is gone is nothing to end by.
    heard = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
