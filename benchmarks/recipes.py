"""What recipes of training are worth on films that no net has seen, and their table.

    python benchmarks/recipes.py --data camvid/ --encoder-weights FILE -o RUNS [--fold 1]
    python benchmarks/recipes.py --table

CamVid's training images are three films. Each is held out in turn; a net is trained on the two
others by each recipe, and judged on it. All nets that a film judges have the same number of epochs.
The films leave 163 to 305 images, so another film may take another number: `--epochs 60 --fold 1`,
37 for fold 2 and 30 for fold 3 are 9,150 to 9,850 crops each. No epoch is chosen: the last one is
kept. Nets that a teacher has taught had one that has not seen the film either. `results/
recipes.jsonl` gets a line for each net, so that the table can be made on several days; RUNS keeps
what an interrupted training needs. A net takes 13 to 25 minutes on two cores with AMX.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np

from edgeunet.catalogue import RUN_WEIGHTS
from edgeunet.data.datasets import open_dataset
from edgeunet.data.folds import Fold, split_folds
from edgeunet.doctor import instructions, processor_identity
from edgeunet.metrics import mean_iou
from edgeunet.models.checkpoints import read_card
from edgeunet.training.config import TrainConfig
from edgeunet.training.cross_validation import cross_validate, of_fold
from edgeunet.training.train import train

RESULTS = Path(__file__).parent / "results" / "recipes.jsonl"
FILMS = "([^/]+)_"
"""What the images of one film have in common in their names."""

_SIMPLE: dict[str, Any] = {"crop": (192, 256), "batch_size": 12}
_VARIED: dict[str, Any] = {
    "crop": (224, 288),
    "scale": (0.6, 1.8),
    "batch_size": 8,
    "ema": 0.99,
    "focus": 0.5,
    "photometry": "camera",
    "mix": 0.5,
}


@dataclass(frozen=True)
class Recipe:
    """A variant and how it is trained.

    begins: the recipe whose net it begins with, but for another decoder, and then trains as many
    epochs again. teacher: the recipe of the net that teaches it.
    """

    model: str
    config: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    begins: str | None = None
    teacher: str | None = None


RECIPES = {
    "eff_unet lite0": Recipe(
        "eff_unet", {**_VARIED, "encoder_rate": 0.5}, {"encoder": "lite0"}, pretrained=True
    ),
    "mobile_unet, as first shipped": Recipe("mobile_unet", _SIMPLE),
    "mobile_unet, taught": Recipe("mobile_unet", _VARIED, teacher="eff_unet lite0"),
    "mobile_unet, longer": Recipe("mobile_unet", _SIMPLE, begins="mobile_unet, as first shipped"),
    "mobile_unet, then taught": Recipe(
        "mobile_unet", _VARIED, begins="mobile_unet, as first shipped", teacher="eff_unet lite0"
    ),
    "mobile_unet light, then taught": Recipe(
        "mobile_unet",
        _VARIED,
        {"decoder": "light"},
        begins="mobile_unet, as first shipped",
        teacher="eff_unet lite0",
    ),
    "mobile_unet light, twice": Recipe(
        "mobile_unet",
        {**_VARIED, "seed": 1},
        {"decoder": "light"},
        begins="mobile_unet light, then taught",
        teacher="eff_unet lite0",
    ),
}


@click.command(help=(__doc__ or "").split("\n\n", 1)[0])
@click.option("--data", type=click.Path(path_type=Path, exists=True))
@click.option("--encoder-weights", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "output", type=click.Path(path_type=Path))
@click.option("--fold", "chosen", multiple=True, help="Number of a film.  [default: all]")
@click.option("--recipe", "named", multiple=True, type=click.Choice(list(RECIPES)))
@click.option("--epochs", default=30, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--table", "table_only", is_flag=True, help="Print the table of the results alone.")
def main(
    data: Path | None,
    encoder_weights: Path | None,
    output: Path | None,
    chosen: tuple[str, ...],
    named: tuple[str, ...],
    epochs: int,
    results: Path,
    table_only: bool,
) -> None:
    """Train and judge what is missing, and print the table."""
    lines = read(results)
    if not table_only:
        if data is None or encoder_weights is None or output is None:
            raise click.UsageError("got no --data, --encoder-weights or -o; all three are needed.")
        films = split_folds(open_dataset(data), 3, FILMS)
        folds = [fold for fold in films if not chosen or fold.name in chosen]
        for fold in folds:  # before any of them is trained
            if any(line["epochs"] != epochs for line in lines if line["fold"] == fold.name):
                raise click.UsageError(
                    f"{results} holds nets of other epochs for fold {fold.name}. Pass theirs."
                )
        judged = {(line["recipe"], line["fold"]) for line in lines}
        for fold in folds:
            for name in named or RECIPES:
                if (name, fold.name) in judged:
                    continue
                line = judge(name, fold, output, epochs=epochs, encoder_weights=encoder_weights)
                results.parent.mkdir(parents=True, exist_ok=True)
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                lines.append(line)
                click.echo(f"{name}, fold {fold.name}: mIoU {line['miou']:.2f}", err=True)
    click.echo(table(lines))


def judge(
    name: str, fold: Fold, output: Path, *, epochs: int, encoder_weights: Path
) -> dict[str, Any]:
    """Train a net by a recipe without a film, and judge it there: a line of the results."""
    recipe = RECIPES[name]
    run, begins = folder_of(name, fold, output), run_of(recipe.begins, fold, output)
    config = TrainConfig.for_model(recipe.model, **recipe.config, epochs=epochs)

    def train_fold(fold: Fold) -> Path:
        train(
            recipe.model,
            fold.dataset,
            run,
            config=of_fold(config),
            encoder_weights=encoder_weights if recipe.pretrained else None,
            initial=None if begins is None else begins / RUN_WEIGHTS,
            teacher=run_of(recipe.teacher, fold, output),
            **recipe.arguments,
        )
        return run / RUN_WEIGHTS

    judged = cross_validate([fold], group_by=FILMS, train_fold=train_fold).pooled
    return {
        "recipe": name,
        "fold": fold.name,
        "films": list(fold.groups),
        "images": fold.held_out,
        "epochs": epochs,
        "minutes": read_card(run / RUN_WEIGHTS).training["minutes"],
        "machine": machine(),
        "miou": judged.miou,
        "confusion": judged.confusion.tolist(),
    }


def machine() -> str:
    """What the minutes were measured on."""
    told = processor_identity()
    bf16 = ", ".join(instructions().get("BF16", ())) or "none known"
    return f"{told['processor']}, {told['cores']} cores, for BF16: {bf16}"


def run_of(name: str | None, fold: Fold, output: Path) -> Path | None:
    """The run of a recipe's net, None for no recipe."""
    return None if name is None else folder_of(name, fold, output)


def folder_of(name: str, fold: Fold, output: Path) -> Path:
    """The run of a recipe's net."""
    return output / f"{name.replace(',', '').replace(' ', '-')}-{fold.name}"


def read(results: Path) -> list[dict[str, Any]]:
    """The lines of the results, none if there are none yet."""
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: mIoU of each film, and of all masks together where no film is missing."""
    films = sorted({line["films"][0]: line["epochs"] for line in lines}.items())
    heads = [f"{film}, {epochs} epochs" for film, epochs in films]
    by_recipe: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        by_recipe[line["recipe"]][line["films"][0]] = line
    rows = [
        "".join(f"| {each} " for each in ("recipe", *heads, "all", "minutes")) + "|",
        "|---" * (len(films) + 3) + "|",
    ]
    for name, found in by_recipe.items():
        each = [f"{found[film]['miou']:.1f}" if film in found else "" for film, _ in films]
        pooled = ""
        if len(found) == len(films):
            confusion = np.sum([line["confusion"] for line in found.values()], axis=0)
            pooled = f"{100 * mean_iou(confusion):.1f}"
        minutes = sum(line["minutes"] for line in found.values())
        rows.append(f"| {name} | {' | '.join(each)} | {pooled} | {minutes:.0f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
