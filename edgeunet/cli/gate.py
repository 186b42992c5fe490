"""`edgeunet gate`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.schema import encode
from ..data.datasets import open_dataset
from ..gate.calibrate import MAX_LOST, calibrate_checkpoint
from ..models import Checkpoint, Preparation
from .common import (
    DIRECTORY,
    SIZE,
    Command,
    echo_json,
    force_option,
    json_option,
    model_option,
    option,
    progress,
)
from .options import options_from


@click.command("gate", cls=Command)
@model_option
@option(
    "--weights",
    metavar="TAG|FILE",
    required=True,
    help="Tag or checkpoint file of a net with a gate.",
)
@option("--data", type=DIRECTORY, required=True, help="Data set; its val split is used.")
@option(
    "--max-lost",
    metavar="PERCENT",
    type=float,
    default=100 * MAX_LOST,
    help="Share of each class's true pixels that its gate may lose.",
)
@option(
    "--margin",
    metavar="LOGITS",
    type=float,
    default=0.0,
    help="Safety margin in logits, to allow for INT8 error.",
)
@option("--size", type=SIZE, show_default="the checkpoint's", help="Input size of the net.")
@options_from(Preparation, "preparation", section="Weights without a card")
@option("-o", "output", type=DIRECTORY, required=True, help="Checkpoint to write.")
@force_option
@json_option
def command(
    model: str,
    weights: str,
    data: Path,
    max_lost: float,
    margin: float,
    size: tuple[int, int] | None,
    preparation: Preparation,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Calibrate the thresholds of a checkpoint's gate.

    The gate closes classes that an image does not contain.
    """
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
