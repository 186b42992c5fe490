"""`edgeunet lint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from ..export.lint import Target, lint_all
from .common import DIRECTORY, echo_json, json_option


@click.command("lint")
@click.argument("file", type=DIRECTORY)
@click.option(
    "--target",
    "targets",
    type=click.Choice(get_args(Target)),
    multiple=True,
    required=True,
    help="Who is to read the file; may be given several times.",
)
@json_option
def command(file: Path, targets: tuple[Target, ...], as_json: bool) -> None:
    """Check an ONNX file against what builders refuse or misread; exit code 1 where one would."""
    reports = lint_all(file, targets)
    ok = all(report.ok for report in reports)
    if as_json:
        echo_json({"ok": ok, "reports": [report.to_json() for report in reports]})
    else:
        click.echo("\n".join(report.table() for report in reports))
    if not ok:
        sys.exit(1)
