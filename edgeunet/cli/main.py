"""The group of all commands, and how errors become messages and exit codes."""

from __future__ import annotations

import ast
import errno
import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError, NoSuchCommand

from .. import __version__
from ..errors import EdgeUNetError, MissingDependencyError, printable_lines
from ..extras import find_package
from .common import paint

# Each command is in a module of its name beside this file. It is imported on use: `edgeunet run`
# never loads torch, and a device without the training extra still has its commands.
_SECTIONS = {
    "Make": ("models", "data", "train", "tune", "prune", "gate", "export", "build", "deploy"),
    "Run": ("run", "serve", "demo"),
    "Prove": ("parity", "bench", "lint", "inspect"),
    "Machine": ("doctor",),
}
_OTHER_NAMES = {"predict": "run"}
"""What other tools call a command."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FREE = "Free some, choose another output, or set TMPDIR to a place for temporary files."


# Windows has no SIGHUP.
_ENDING = tuple(each for each in signal.Signals if each.name in ("SIGTERM", "SIGHUP"))


class Failure(click.ClickException):
    """An error of any kind, shown as one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # a class attribute in click

    def show(self, file: Any = None) -> None:
        """Print `error: ...` on stderr."""
        click.echo(paint(printable_lines(f"error: {self.message}")), file=file, err=True)


class CommandGroup(click.Group):
    """Commands in sections, imported when they are called or their own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, by section."""
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        name = _OTHER_NAMES.get(cmd_name, cmd_name)
        if name not in self.list_commands(ctx):
            return None
        try:
            module = importlib.import_module(f"edgeunet.cli.{name}")
        except ImportError as error:
            return _unavailable(name, _import_failure(error))
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; the error knows commands that are not imported yet."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            known = self.list_commands(ctx)
            raise NoSuchCommand(error.command_name, possibilities=known, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A help section for each group of commands."""
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, _summary(name)) for name in names])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options of the group."""
        with _failures():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _failures(), _unwound_by_signals():
            return super().invoke(ctx)


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, and only then the process.

    By default they end the process at once, and leave temporary folders and the programs that it
    started. A second one still does. Signals that are ignored, as by `nohup`, or handled by
    whoever called us are left alone; only the main thread can handle any.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    received: list[int] = []

    def restore() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    def take(number: int, frame: FrameType | None) -> None:
        restore()
        received.append(number)
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, take)
    try:
        yield
    finally:
        restore()
        if received:  # so that whoever waits for the process sees what ended it
            signal.raise_signal(received[0])


@contextmanager
def _failures() -> Iterator[None]:
    """Turn every expected error into a `Failure`."""
    try:
        yield
    except NoArgsIsHelpError:  # shows the help
        raise
    except click.UsageError as error:
        help_of = f" See `{error.ctx.command_path} --help`." if error.ctx else ""
        raise Failure(error.format_message() + help_of, error.exit_code) from error
    except EdgeUNetError as error:
        raise Failure(str(error), error.exit_code) from error
    except ImportError as error:
        raise Failure(str(_import_failure(error)), 1) from error
    except OSError as error:
        if error.errno in _FULL:  # writing to an open file tells no name, copying tells both
            where = error.filename2 or error.filename or "where the output or temporary files go"
            raise Failure(f"{where}: {error.strerror}. {_FREE}", 1) from error
        if error.filename is None:  # such as a closed pipe, which click handles
            raise
        raise Failure(f"{error.filename}: {error.strerror}.", 1) from error
    except KeyboardInterrupt as error:
        raise Failure("interrupted.", 1) from error


@click.command(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """U-Nets from a checkpoint to INT8 video segmentation at the edge."""


def _summary(name: str) -> str:
    """The first sentence of a command's help, from its source: an import takes seconds."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    (command,) = (node for node in found if node.name == "command")
    return click.Command(name, help=ast.get_docstring(command)).get_short_help_str(80)


def _unavailable(name: str, problem: EdgeUNetError) -> click.Command:
    """Stands in for a command whose packages are missing or cannot be loaded."""

    @click.command(
        name,
        help=f"Not available: {problem}",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:
        raise problem

    return command


def _import_failure(error: ImportError) -> EdgeUNetError:
    """The error for a package that is missing or broken; raises errors that are bugs of ours."""
    module = (error.name or "").split(".")[0]
    if isinstance(error, ModuleNotFoundError):
        if find_package(module) is None:
            raise error
        return MissingDependencyError(module)
    if module == "edgeunet":
        raise error
    return EdgeUNetError(
        f"{module or 'a package'} is installed, but cannot be loaded: {error}. Install the library "
        "or the version that the message names; `edgeunet doctor` lists what is there."
    )
