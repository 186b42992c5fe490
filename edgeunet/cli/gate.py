"""`edgeunet gate`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.schema import encode
from ..data.datasets import open_dataset
from ..errors import CheckpointError
from ..gate.calibrate import MAX_LOST, calibrate_checkpoint
from ..models.checkpoints import find_weights, read_card
from .common import (
    DIRECTORY,
    Command,
    echo_json,
    force_option,
    json_option,
    model_option,
    option,
    progress,
)


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
    show_default=True,
    help="Share of each class's true pixels that its gate may lose.",
)
@option(
    "--margin",
    metavar="LOGITS",
    type=float,
    default=0.0,
    show_default=True,
    help="Safety margin in logits, to allow for INT8 error.",
)
@option("-o", "output", type=DIRECTORY, required=True, help="Checkpoint to write.")
@force_option
@json_option
def command(
    model: str,
    weights: str,
    data: Path,
    max_lost: float,
    margin: float,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Calibrate the thresholds of a checkpoint's gate.

    The gate closes classes that an image does not contain.
    """
    source = find_weights(model, weights)
    found = read_card(source).model
    if found != model:
        raise CheckpointError(f"{source} is a checkpoint of {found}, not of {model}.")
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
