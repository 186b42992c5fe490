"""`edgeunet tune`."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from ..errors import TuningError
from ..fields import described
from ..training.augment import Flip
from ..training.config import TrainConfig
from ..training.photometry import PHOTOMETRY
from ..tuning.outcome import table
from ..tuning.tune import BUNDLE, PAGE, TuneOptions, tune
from .common import DIRECTORY, Command, echo, echo_json, echo_next, json_option, option
from .options import options_from
from .steps import ShownSteps


@dataclass(frozen=True)
class Recipe:
    """Changes to the recipe of the variant's paper, see `TrainConfig`; None leaves it."""

    crop: tuple[int, int] | None = described(
        None, "Size of the training crops; smaller inputs take what fits.",
        shown_default="192x256", ge=1,
    )  # fmt: skip
    batch_size: int | None = described(
        None, "Crops per training step.", ge=1, flag="--batch", shown_default="12"
    )
    learning_rate: float | None = described(
        None, "Highest learning rate.", gt=0, flag="--lr", shown_default="0.002"
    )
    flip: Flip | None = described(
        None, "How half of the crops are mirrored.", shown_default="horizontal"
    )
    photometry: str | None = described(
        None, "How much light, optics and compression vary.", choices=tuple(PHOTOMETRY),
        shown_default="mild",
    )  # fmt: skip
    focus: float | None = described(
        None, "Share of the crops that are placed on rare classes.", ge=0, le=1, shown_default="0"
    )
    seed: int | None = described(None, "Seed of weights and crops.", shown_default="0", ge=0)


@click.command("tune", cls=Command)
@options_from(TuneOptions, "options")
@options_from(Recipe, "recipe", section="Training")
@option(
    "-o",
    "output",
    type=DIRECTORY,
    required=True,
    help="Folder of the search; resumed if it exists.",
)
@json_option
def command(options: TuneOptions, recipe: Recipe, output: Path, as_json: bool) -> None:
    """Find the most accurate net that is fast enough on this machine.

    Measures input sizes, widths, decoders or encoders, precisions and engines, trains the fast
    enough ones by successive halving, and exports the best. The bundle is measured again before it
    is given out. A search that was killed resumes.
    """
    changes = {name: value for name, value in asdict(recipe).items() if value is not None}
    config = replace(TrainConfig.for_model(options.model), **changes)
    with ShownSteps(quiet=as_json) as steps:
        outcome = tune(output, options, config=config, report=steps)
    if as_json:
        echo_json(outcome.to_json())
    else:
        echo(f"{table(outcome)}\nwrote {output / PAGE}")
        if outcome.chosen is not None:
            bundle = shlex.quote(str(output / BUNDLE))
            echo_next(f"edgeunet run {bundle} FILM.mp4 -o overlay.mp4")
    if outcome.chosen is None:
        raise TuningError(outcome.why)
