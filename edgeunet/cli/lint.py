"""`edgeunet lint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from ..exporting.lint import Target, lint_all
from .common import DIRECTORY, Choice, Command, echo, echo_json, echo_step, json_option, option


@click.command("lint", cls=Command)
@click.argument("file", type=DIRECTORY)
@option(
    "--target",
    "targets",
    type=Choice(get_args(Target)),
    multiple=True,
    required=True,
    help="What will read the file. nvinfer: DeepStream's plug-in on TensorRT 10. qnn and rknn ask "
    "the compilers for Hexagon, of the extra [qnn], and for the RK3588, installed at its first "
    "use. Repeat the option for several.",
)
@json_option
def command(file: Path, targets: tuple[Target, ...], as_json: bool) -> None:
    """Find what an engine or an NPU would refuse or misread.

    The exit code is 1 if a target would.
    """
    reports = lint_all(file, targets, echo_step)
    ok = all(report.ok for report in reports)
    if as_json:
        echo_json({"ok": ok, "reports": [report.to_json() for report in reports]})
    else:
        echo("\n".join(report.table() for report in reports))
    if not ok:
        sys.exit(1)
