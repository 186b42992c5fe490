"""`edgeunet models`."""

from __future__ import annotations

import click

from ..models.summary import summarise
from .common import SIZE, echo_json, json_option


@click.command("models")
@click.option("--size", type=SIZE, default="256x320", show_default=True, help="Input for GFLOPs.")
@json_option
def command(size: tuple[int, int], as_json: bool) -> None:
    """List the variants: parameters, GFLOPs, pretrained weights."""
    rows = summarise(*size)
    if as_json:
        echo_json([vars(row) for row in rows])
        return
    click.echo(f"{'variant':<14}{'parameters':>12}{'GFLOPs':>9}   weights")
    for row in rows:
        click.echo(
            f"{row.name:<14}{row.parameters:>12,}{row.gflops:>9.2f}   "
            f"{', '.join(row.weights) or '-'}"
        )
