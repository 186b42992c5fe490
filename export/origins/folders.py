"""Folders that libraries save a net in: what is read of them, and which options they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgeunet.bundle.schema import SchemaError, load_json
from edgeunet.errors import CheckpointError, UsageError, printable

from ..options import ExportOptions

# Options that say what a net is or how it is fed.
_OPTIONS = ("weights", "arch", "head", "raw", "size")


def folder_of(name: str, prefix: str, needed: Sequence[str]) -> Path:
    """The folder in `--model PREFIX:FOLDER`; it must hold these files.

    Raises:
        UsageError: no such folder. CheckpointError: a file that is missing.

    Example:
        >>> from edgeunet.exporting.origins.folders import folder_of
        >>> folder_of("", "hf", ["config.json"])
        Traceback (most recent call last):
        edgeunet.errors.UsageError: got hf: without a folder. Pass hf:FOLDER with config.json in it.
    """
    if not name:
        raise UsageError(
            f"got {prefix}: without a folder. Pass {prefix}:FOLDER with {', '.join(needed)} in it."
        )
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder. Pass {prefix}:FOLDER with {', '.join(needed)} in it; "
            "nothing is downloaded."
        )
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}. Expected {', '.join(needed)}.")
    return folder


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of unknown origin.

    Raises:
        CheckpointError: it is missing, cannot be read, or holds something else.
    """
    try:
        data = load_json(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist.") from None
    except SchemaError as error:
        raise CheckpointError(f"{path} {error}.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}; expected an object.")
    return data


def refuse_options(options: ExportOptions, told_by: str, *, but: Sequence[str] = ()) -> None:
    """UsageError for options that a folder leaves no choice of.

    Args:
        told_by: the file that says it. but: fields of the options, or of their preparation, that
            are read after all.
    """
    given = [name for name in _OPTIONS if name not in but and getattr(options, name)]
    if options.preparation is not None:
        given += [
            field.name
            for field in fields(options.preparation)
            if field.name not in but and getattr(options.preparation, field.name) is not None
        ]
    if given:
        flags = ", ".join(f"--{flag}" for flag in given)
        raise UsageError(
            f"got {flags} for {printable(options.model)}; {told_by} tells it. Leave it out."
        )
