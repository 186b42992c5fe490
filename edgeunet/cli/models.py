"""`edgeunet models`."""

from __future__ import annotations

import click

from ..bundle.schema import encode
from ..catalogue import summarise
from .common import SIZE, Command, echo_json, echo_next, json_option, option


@click.command("models", cls=Command)
@option("--size", type=SIZE, default="256x320", help="Input size that GFLOPs are for.")
@json_option
def command(size: tuple[int, int], as_json: bool) -> None:
    """List the variants and their pretrained weights."""
    rows = summarise(*size)
    if as_json:
        return echo_json([encode(row) for row in rows])
    click.echo(f"{'variant':<14}{'parameters':>12}{'GFLOPs':>9}")
    for row in rows:
        click.echo(f"{row.name:<14}{row.parameters:>12,}{row.gflops:>9.2f}")
    click.echo(
        f"\n{'weights':<28}{'parameters':>12}{'input':>10}{'classes':>9}{'gate':>6}{'mIoU %':>8}"
    )
    for row in rows:
        for entry in row.weights:
            miou = "-" if entry.miou is None else f"{entry.miou:.2f}"
            click.echo(
                f"{f'{row.name}:{entry.tag}':<28}{entry.parameters:>12,}{entry.input:>10}"
                f"{entry.classes:>9}{'yes' if entry.gated else 'no':>6}{miou:>8}"
            )
    click.echo("mIoU on validation data; -: the weights were trained on them too")
    echo_next("edgeunet run mobile_unet:camvid FILM.mp4 -o overlay.mp4")
