"""`edgeunet train`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import click

from ..bundle.manifest import Color, Resize
from ..data.check import check_dataset
from ..data.datasets import open_dataset
from ..errors import UsageError
from ..training.config import Progress, TrainConfig
from ..training.losses import LOSSES
from ..training.train import train
from .common import DIRECTORY, SIZE, echo_json, json_option

_DEFAULT = TrainConfig()
_PAPER = "  [what the variant's paper has]"


@click.command("train")
@click.option("--model", required=True, help="Variant; `edgeunet models` lists them.")
@click.option("--data", required=True, help="Data set, or `cells` for procedural frames.")
@click.option("--width", type=click.IntRange(1), help="Channels of the first stage.")
@click.option("--cgm/--no-cgm", default=None, help="The classification-guided gate.  [off]")
@click.option(
    "--deep-supervision/--no-deep-supervision",
    default=None,
    help="Heads at every scale, for unetpp and unet3p.  [on]",
)
@click.option("--padding", type=click.Choice(["same", "valid"]), help="Of unet.  [same]")
@click.option("--size", type=SIZE, help="Input of the net at inference.  [that of the images]")
@click.option("--color", type=click.Choice(get_args(Color)), help="[rgb]")
@click.option("--resize", type=click.Choice(get_args(Resize)), help="[stretch]")
@click.option("--crop", type=SIZE, default=_DEFAULT.crop, help="Training crops.  [192x256]")
@click.option(
    "--scale", nargs=2, type=float, default=_DEFAULT.scale, show_default=True, help="Zoom of crops."
)
@click.option("--loss", type=click.Choice(sorted(LOSSES)), help=f"Of every head.{_PAPER}")
@click.option("--border", type=float, help=f"Weight between touching instances.{_PAPER}")
@click.option("--elastic", type=float, help=f"Elastic deformation, sigma in pixels.{_PAPER}")
@click.option(
    "--focus",
    type=float,
    default=_DEFAULT.focus,
    show_default=True,
    help="Share of the crops that are placed on rare classes.",
)
@click.option(
    "--weights",
    help="Tag or checkpoint to start from; it also sets the options that shape the net and its "
    "input, where they are not given.  [random weights]",
)
@click.option("--encoder-weights", type=DIRECTORY, help="torchvision's classifier to start from.")
@click.option("--epochs", type=click.IntRange(1), default=_DEFAULT.epochs, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=_DEFAULT.batch_size, show_default=True)
@click.option("--lr", type=float, default=_DEFAULT.learning_rate, show_default=True)
@click.option("--seed", type=int, default=_DEFAULT.seed, show_default=True)
@click.option("--amp/--no-amp", default=_DEFAULT.amp, show_default=True, help="BF16 autocast.")
@click.option("--device", default="cpu", show_default=True, help="Of PyTorch, such as cuda.")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes that make crops.")
@click.option("--check", is_flag=True, help="Read the whole data set, tell what is in it, and end.")
@click.option("-o", "output", type=DIRECTORY, help="Run; resumed where it exists.")
@json_option
def command(
    model: str,
    data: str,
    width: int | None,
    cgm: bool | None,
    deep_supervision: bool | None,
    padding: str | None,
    size: tuple[int, int] | None,
    color: Color | None,
    resize: Resize | None,
    crop: tuple[int, int],
    scale: tuple[float, float],
    loss: str | None,
    border: float | None,
    elastic: float | None,
    focus: float,
    weights: str | None,
    encoder_weights: Path | None,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    amp: bool,
    device: str,
    workers: int,
    check: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Train a variant; best.safetensors is the epoch with the highest validation mIoU."""
    if check:
        contents = check_dataset(open_dataset(data))
        return echo_json(contents.to_json()) if as_json else click.echo(contents.table())
    if output is None:
        raise UsageError("nowhere to train was given. Pass -o DIR for the run, or --check.")
    config = TrainConfig.for_model(
        model,
        crop=crop,
        scale=scale,
        epochs=epochs,
        batch_size=batch,
        learning_rate=lr,
        seed=seed,
        amp=amp,
        focus=focus,
        **_given(loss=loss, border=border, elastic=elastic),
    )
    with _news(f"training {model}") as report:
        card = train(
            model,
            data,
            output,
            config=config,
            size=size,
            color=color,
            resize=resize,
            initial=weights,
            encoder=encoder_weights,
            device=device,
            workers=workers,
            report=report,
            **_given(width=width, cgm=cgm, deep_supervision=deep_supervision, padding=padding),
        )
    if as_json:
        echo_json({"checkpoint": str(output / "best.safetensors"), "metrics": card.metrics})
    else:
        click.echo(f"mIoU {card.metrics['miou']:.2f} %, wrote {output / 'best.safetensors'}")


@contextmanager
def _news(label: str) -> Iterator[Callable[[Progress], None]]:
    """Bar on a terminal, a line for each epoch elsewhere, both on stderr."""
    terminal = sys.stderr.isatty()
    told = 0
    bar: Any  # of Progress; click does not tell the item of a bar that has only a length
    with click.progressbar(
        length=1000,
        label=label,
        show_eta=False,  # resumed runs begin in the middle: ours knows
        item_show_func=lambda news: None if news is None else _line(news),
        file=sys.stderr,
        hidden=not terminal,
    ) as bar:

        def report(news: Progress) -> None:
            nonlocal told
            bar.update(round(1000 * news.done) - bar.pos, news)
            if not terminal and news.epoch > told:
                click.echo(_line(news), err=True)
            told = news.epoch

        yield report


def _line(news: Progress) -> str:
    """One line of news."""
    miou = "" if news.miou is None else f", mIoU {news.miou:.2f} %"
    left = timedelta(seconds=round(news.remaining))
    return f"epoch {news.epoch}, loss {news.loss:.4f}, {news.rate:.1f} img/s, {left} left{miou}"


def _given(**options: Any) -> dict[str, Any]:
    """Options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
