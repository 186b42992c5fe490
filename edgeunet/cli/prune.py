"""`edgeunet prune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..bundle.schema import encode
from ..data.preparation import Preparation
from ..pruning.prune import PruneOptions, prune
from .common import (
    DIRECTORY,
    Command,
    echo,
    echo_json,
    force_option,
    json_option,
    option,
)
from .options import options_from
from .steps import ShownSteps


@click.command("prune", cls=Command)
@options_from(PruneOptions, "options")
@options_from(Preparation, "preparation", section="Weights without a card")
@option(
    "-o", "output", type=DIRECTORY, required=True, help="NAME.safetensors, the checkpoint to write."
)
@force_option
@json_option
def command(
    options: PruneOptions, preparation: Preparation, output: Path, force: bool, as_json: bool
) -> None:
    """Make a checkpoint smaller, by depth or by channels.

    --depth cuts unetpp down to a shallower net; --ratio removes a share of the channels of any
    variant, --to-latency those that matter least for the time that they take on this machine. The
    report says what it costs.
    """
    options = replace(options, preparation=preparation)
    with ShownSteps(quiet=as_json) as steps:
        result = prune(output, options, force=force, report=steps)
    if as_json:
        echo_json(encode(result))
    else:
        echo(f"{result.table()}\nwrote {output}")
