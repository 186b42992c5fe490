"""The group of all commands, and how errors become exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from .. import __version__
from ..errors import EdgeUNetError, MissingDependencyError

# Command -> module beside this file. Loaded on use, so that `edgeunet run` never loads torch and a
# device without the training extra still has its commands.
_COMMANDS = {
    "bench": "bench",
    "build": "build",
    "demo": "demo",
    "doctor": "doctor",
    "export": "export",
    "gate": "gate",
    "inspect": "inspect",
    "lint": "lint",
    "models": "models",
    "parity": "parity",
    "prune": "prune",
    "run": "run",
    "serve": "serve",
    "train": "train",
}
# Distribution that a missing module points to -> the extra that brings it.
_EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "safetensors": "export",
    "torch_pruning": "train",
    "torchmetrics": "train",
    "onnxruntime": "cpu",
    "cv2": "cpu",
    "PIL": "cpu",
    "av": "video",
    "pycocotools": "video",
    "prometheus_client": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "filelock": "trt",
    "packaging": "trt",
}


class LazyGroup(click.Group):
    """Loads a command's module when it is called or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None where there is none."""
        if cmd_name not in _COMMANDS:
            return None
        try:
            module = importlib.import_module(f"edgeunet.cli.{_COMMANDS[cmd_name]}")
        except ImportError as error:
            return _unavailable(cmd_name, error)
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors raised on purpose become a message and an exit code."""
        try:
            return super().invoke(ctx)
        except EdgeUNetError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except ImportError as error:
            click.echo(f"error: {_missing(error)}", err=True)
            ctx.exit(1)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """U-Nets from a checkpoint to INT8 video segmentation at the edge."""


def _unavailable(name: str, error: ImportError) -> click.Command:
    """Stand-in for a command whose extra is not installed, or not to be loaded."""
    message = str(_missing(error))

    @click.command(
        name,
        help=f"Not available: {message}",
        short_help="(not available)",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:
        click.echo(f"error: {message}", err=True)
        sys.exit(1)

    return command


def _missing(error: ImportError) -> EdgeUNetError:
    module = (error.name or "").split(".")[0]
    if isinstance(error, ModuleNotFoundError):
        if module not in _EXTRAS:
            raise error
        return MissingDependencyError(module, _EXTRAS[module])
    if module == "edgeunet":
        raise error
    return EdgeUNetError(
        f"{module or 'a package'} is installed, but cannot be loaded: {error}. Install the library "
        "or the version that this names; `edgeunet doctor` lists what is there."
    )
