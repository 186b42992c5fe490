"""`edgeunet train`."""

from __future__ import annotations

from pathlib import Path

import click

from ..training.loop import TrainConfig
from ..training.train import train
from .common import DIRECTORY, SIZE, echo_json, json_option, progress

_DEFAULT = TrainConfig()


@click.command("train")
@click.option("--model", required=True, help="Variant; `edgeunet models` lists them.")
@click.option("--data", required=True, help="Data set, or `cells` for procedural frames.")
@click.option("--width", type=click.IntRange(1), help="Channels of the first stage.")
@click.option("--cgm", is_flag=True, help="Add the classification-guided gate.")
@click.option("--size", type=SIZE, help="Input of the net at inference.  [that of the images]")
@click.option("--crop", type=SIZE, default=_DEFAULT.crop, help="Training crops.  [192x256]")
@click.option(
    "--scale", nargs=2, type=float, default=_DEFAULT.scale, show_default=True, help="Zoom of crops."
)
@click.option("--weights", type=DIRECTORY, help="Checkpoint to start from.  [random weights]")
@click.option("--epochs", type=click.IntRange(1), default=_DEFAULT.epochs, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=_DEFAULT.batch_size, show_default=True)
@click.option("--lr", type=float, default=_DEFAULT.learning_rate, show_default=True)
@click.option("--seed", type=int, default=_DEFAULT.seed, show_default=True)
@click.option("--amp/--no-amp", default=_DEFAULT.amp, show_default=True, help="BF16 autocast.")
@click.option("-o", "output", type=DIRECTORY, required=True, help="Run; resumed where it exists.")
@json_option
def command(
    model: str,
    data: str,
    width: int | None,
    cgm: bool,
    size: tuple[int, int] | None,
    crop: tuple[int, int],
    scale: tuple[float, float],
    weights: Path | None,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    amp: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Train a variant; best.safetensors is the epoch with the highest validation mIoU."""
    config = TrainConfig(
        crop=crop,
        scale=scale,
        epochs=epochs,
        batch_size=batch,
        learning_rate=lr,
        seed=seed,
        amp=amp,
    )
    arguments = {"cgm": cgm} if width is None else {"cgm": cgm, "width": width}
    with progress(f"training {model}", 1000) as report:
        card = train(
            model,
            data,
            output,
            config=config,
            size=size,
            initial=weights,
            report=lambda news: report(round(1000 * news.done)),
            **arguments,
        )
    if as_json:
        echo_json({"checkpoint": str(output / "best.safetensors"), "metrics": card.metrics})
    else:
        click.echo(f"mIoU {card.metrics['miou']:.2f} %, wrote {output / 'best.safetensors'}")
