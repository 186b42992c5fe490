"""`edgeunet prune`."""

from __future__ import annotations

from pathlib import Path

import click

from ..pruning.prune import FINETUNE_EPOCHS, PruneOptions, prune
from .common import (
    DIRECTORY,
    Command,
    echo_json,
    echo_step,
    force_option,
    json_option,
    model_option,
    option,
)


@click.command("prune", cls=Command)
@model_option
@option(
    "--weights",
    metavar="TAG|FILE",
    default="cells",
    show_default=True,
    help="Tag or checkpoint file.",
)
@option("--depth", metavar="N", type=click.IntRange(1, 4), help="Cut unetpp down to this depth.")
@option("--ratio", metavar="SHARE", type=float, help="Share of the channels to remove, 0 to 1.")
@option("--data", type=DIRECTORY, help="Data set; --ratio needs it, --depth is measured on it.")
@option(
    "--finetune-epochs",
    metavar="N",
    type=click.IntRange(0),
    show_default=str(FINETUNE_EPOCHS),
    help="Epochs of training after --ratio; 0 for none.",
)
@option(
    "-o", "output", type=DIRECTORY, required=True, help="NAME.safetensors, the checkpoint to write."
)
@force_option
@json_option
def command(
    model: str,
    weights: str,
    depth: int | None,
    ratio: float | None,
    data: Path | None,
    finetune_epochs: int | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Make a checkpoint smaller, by depth or by channels.

    --depth cuts unetpp down to a shallower net; --ratio removes channels of any variant. The report
    says what it costs.
    """
    options = PruneOptions(
        model=model,
        weights=weights,
        depth=depth,
        ratio=ratio,
        data=data,
        finetune_epochs=finetune_epochs,
    )
    result = prune(output, options, force=force, report=echo_step)
    if as_json:
        echo_json(result.to_json())
    else:
        click.echo(f"{result.table()}\nwrote {output}")
