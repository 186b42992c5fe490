"""`edgeunet gate`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.manifest import Color
from ..bundle.schema import encode
from ..data.datasets import open_dataset
from ..gate.calibrate import MAX_LOST, calibrate_checkpoint
from ..models import Checkpoint, Preparation
from .common import (
    DIRECTORY,
    SIZE,
    echo_json,
    force_option,
    json_option,
    preparation_options,
    progress,
)


@click.command("gate")
@click.option("--model", required=True, help="Variant; `edgeunet models` lists them.")
@click.option("--weights", required=True, help="Tag or checkpoint file of a net with a gate.")
@click.option("--data", type=DIRECTORY, required=True, help="Data set; its val split is used.")
@click.option(
    "--max-lost",
    type=float,
    default=100 * MAX_LOST,
    show_default=True,
    help="Percent of a class's true pixels that its gate may lose.",
)
@click.option(
    "--margin",
    type=float,
    default=0.0,
    show_default=True,
    help="Logits that a presence may fall by, as in INT8, without more being lost.",
)
@click.option("--size", type=SIZE, help="Input of the net.  [that of the checkpoint]")
@preparation_options
@click.option("-o", "output", type=DIRECTORY, required=True, help="Checkpoint to write.")
@force_option
@json_option
def command(
    model: str,
    weights: str,
    data: Path,
    max_lost: float,
    margin: float,
    size: tuple[int, int] | None,
    color: Color | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Calibrate a checkpoint's gate: the thresholds that close classes an image lacks."""
    preparation = Preparation(color, mean, std)
    source = Checkpoint.open(weights, model, size=size, preparation=preparation)
    dataset = open_dataset(data)
    with progress("calibrating", len(dataset.samples("val"))) as report:
        gate = calibrate_checkpoint(
            source,
            dataset,
            output,
            max_lost=max_lost / 100,
            margin=margin,
            force=force,
            report=report,
        )
    if as_json:
        echo_json({"checkpoint": str(output), "gate": encode(gate)})
    else:
        click.echo(f"{gate.table()}\nwrote {output}")
