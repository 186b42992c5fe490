"""Options of a command from a TOML file, and what was chosen back into one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import UsageError, did_you_mean, first_line, printable
from ..files import write_bytes
from .common import option

_NEVER = ("config_file", "help", "as_json")
"""Parameters that a file does not set."""

config_option = option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, param, path: _load(ctx, path),
    metavar="FILE.toml",
    show_default="none",
    help="Options from a file, such as `epochs = 60`; those of the command line go before it.",
)
"""Give a command `--config FILE.toml`; it must come before eager options that set defaults."""


def write_config(path: Path, *, without: tuple[str, ...] = ()) -> None:
    """Write the options of the running command that were given, on the command line or in a file.

    Args:
        without: names of parameters, such as that of the output.

    Example:
        >>> write_config(Path("run/config.toml"), without=("output",))  # doctest: +SKIP
    """
    ctx = click.get_current_context()
    left_out = (*_NEVER, *without)
    lines = [
        f"{key} = {_toml(ctx.params[name])}\n"
        for key, name in _keys(ctx.command).items()
        if name not in left_out and name in ctx.params and _is_given(ctx, name)
    ]
    write_bytes(path, "".join(lines).encode())


def _is_given(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    given = ctx.meta.get(_GIVEN, {})
    return source is ParameterSource.COMMANDLINE or name in given


_GIVEN = f"{__name__}.given"


def _load(ctx: click.Context, path: Path | None) -> None:
    """Make the values of a file the defaults of the command's options."""
    if path is None:
        return
    if sys.version_info < (3, 11):
        raise UsageError("--config reads TOML, which needs Python 3.11 or newer.")
    import tomllib  # type: ignore[import-not-found]  # new in 3.11, mypy checks for 3.10

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {first_line(error)}") from None
    keys = _keys(ctx.command)
    for key, value in values.items():
        if key not in keys or keys[key] in _NEVER:
            known = [each for each, name in keys.items() if name not in _NEVER]
            raise UsageError(
                f"{path} sets {printable(key)!r}, which is no option of {ctx.info_name}."
                f"{did_you_mean(key, known)}"
            )
        if isinstance(value, Mapping):
            raise UsageError(f"{path}: {printable(key)} is a table; expected a value of --{key}.")
    several = {param.name for param in ctx.command.params if getattr(param, "multiple", False)}
    given = {keys[key]: _as_written(value) for key, value in values.items()}
    for name in several & set(given):  # one alone needs no list
        given[name] = given[name] if isinstance(given[name], tuple) else (given[name],)
    ctx.meta[_GIVEN] = given
    ctx.default_map = {**(ctx.default_map or {}), **given}


def _keys(command: click.Command) -> dict[str, str]:
    """Names of options as they are typed, without dashes, and their parameters."""
    return {
        param.opts[0].removeprefix("--"): str(param.name)
        for param in command.params
        if isinstance(param, click.Option) and param.opts[0].startswith("--")
    }


def _as_written(value: Any) -> Any:
    """A value as the command line has it: lists of numbers are `MIN MAX` or have commas."""
    return tuple(value) if isinstance(value, list) else value


def _toml(value: Any) -> str:
    """A value in TOML, which has JSON's strings, numbers, booleans and lists."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
