"""`edgeunet gate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from ..bundle.schema import encode
from ..data.datasets import open_dataset
from ..data.description import LAYOUT
from ..data.preparation import RAW
from ..fields import describe, described
from ..gate.calibrate import MAX_LOST, calibrate_checkpoint
from ..models import Checkpoint, Preparation
from ..models.checkpoints import check_output
from .common import DIRECTORY, Command, echo, echo_json, force_option, json_option, option, progress
from .options import options_from


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What to calibrate, on what, and how carefully."""

    model: str = field(metadata=describe("Variant; `edgeunet models` lists them.", metavar="NAME"))
    weights: str = field(
        metadata=describe(
            "Tag, checkpoint or training run of a net with a gate.", metavar="TAG|FILE|RUN"
        )
    )
    raw: bool = described(False, RAW)
    data: Path = field(metadata=describe("Data set; its val split is used."))
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows"
    )
    max_lost: float = described(
        100 * MAX_LOST,
        "Share of each class's true pixels that its gate may lose.",
        metavar="PERCENT",
    )
    margin: float = described(
        0.0, "Safety margin in logits, to allow for INT8 error.", metavar="LOGITS"
    )
    open_on: float | None = described(
        None,
        "Share of the images with a class that its gate must be open on, with 95 % confidence.",
        flag="--open",
        metavar="PERCENT",
        shown_default="no promise",
    )
    size: tuple[int, int] | None = described(
        None, "Input size of the net.", shown_default="the checkpoint's"
    )


@click.command("gate", cls=Command)
@options_from(GateOptions, "options")
@options_from(Preparation, "preparation", section="Weights without a card")
@option("-o", "output", type=DIRECTORY, required=True, help="Checkpoint to write.")
@force_option
@json_option
def command(
    options: GateOptions, preparation: Preparation, output: Path, force: bool, as_json: bool
) -> None:
    """Calibrate the thresholds of a checkpoint's gate.

    The gate closes classes that an image does not contain.
    """
    check_output(output, force=force)
    source = Checkpoint.open(
        options.weights,
        options.model,
        size=options.size,
        preparation=preparation,
        raw=options.raw,
    )
    dataset = open_dataset(options.data, options.layout)
    with progress("calibrating", len(dataset.samples("val"))) as report:
        gate = calibrate_checkpoint(
            source,
            dataset,
            output,
            max_lost=options.max_lost / 100,
            margin=options.margin,
            open_on=None if options.open_on is None else options.open_on / 100,
            force=force,
            report=report,
        )
    if as_json:
        echo_json({"checkpoint": str(output), "gate": encode(gate)})
    else:
        echo(f"{gate.table()}\nwrote {output}")
