"""`edgeunet lint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from ..exporting.lint import Target, lint_all
from .common import DIRECTORY, Choice, Command, echo, echo_json, json_option, option


@click.command("lint", cls=Command)
@click.argument("file", type=DIRECTORY)
@option(
    "--target",
    "targets",
    type=Choice(get_args(Target)),
    multiple=True,
    required=True,
    help="Builder that will read the file; nvinfer is DeepStream's plug-in on TensorRT 10. Repeat "
    "the option for several.",
)
@json_option
def command(file: Path, targets: tuple[Target, ...], as_json: bool) -> None:
    """Find what TensorRT, DeepStream or ONNX Runtime would refuse or misread.

    The exit code is 1 if a target would.
    """
    reports = lint_all(file, targets)
    ok = all(report.ok for report in reports)
    if as_json:
        echo_json({"ok": ok, "reports": [report.to_json() for report in reports]})
    else:
        echo("\n".join(report.table() for report in reports))
    if not ok:
        sys.exit(1)
