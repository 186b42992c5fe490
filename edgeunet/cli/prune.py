"""`edgeunet prune`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.manifest import Color
from ..models import Preparation
from ..pruning.prune import FINETUNE_EPOCHS, PruneOptions, prune
from .common import DIRECTORY, SIZE, echo_json, force_option, json_option, preparation_options


@click.command("prune")
@click.option("--model", required=True, help="Variant; `edgeunet models` lists them.")
@click.option("--weights", default="cells", show_default=True, help="Tag or checkpoint file.")
@click.option("--depth", type=click.IntRange(1, 4), help="Depth that unetpp is cut down to.")
@click.option("--ratio", type=float, help="Share of the channels that goes, between 0 and 1.")
@click.option("--data", type=DIRECTORY, help="Data set: --ratio needs it, --depth measures on it.")
@click.option(
    "--finetune-epochs",
    type=click.IntRange(0),
    help=f"Training after --ratio; 0 for none.  [{FINETUNE_EPOCHS}]",
)
@click.option("--size", type=SIZE, help="Input of the net.  [that of the checkpoint]")
@preparation_options
@click.option("-o", "output", type=DIRECTORY, required=True, help="Checkpoint, NAME.safetensors.")
@force_option
@json_option
def command(
    model: str,
    weights: str,
    depth: int | None,
    ratio: float | None,
    data: Path | None,
    finetune_epochs: int | None,
    size: tuple[int, int] | None,
    color: Color | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Make a checkpoint smaller: by depth (unetpp) or by channels, and measure what it costs."""
    options = PruneOptions(
        model=model,
        weights=weights,
        depth=depth,
        ratio=ratio,
        data=data,
        finetune_epochs=finetune_epochs,
        size=size,
        preparation=Preparation(color, mean, std),
    )
    result = prune(
        output, options, force=force, report=lambda step: click.echo(f"  {step}", err=True)
    )
    if as_json:
        echo_json(result.to_json())
    else:
        click.echo(f"{result.table()}\nwrote {output}")
