"""Train the camvid nets on a GPU within some minutes, and measure what feeding it costs.

    python benchmarks/gpu_train.py -o OUT [--data DIR] [--minutes 10] [--device cuda] [--only NET]

`gpu_train.sh` carries this to a GPU host and its results home. For each net: crops a second that
the net learns from random tensors which lie on the device, then from the crops of the data set; as
many epochs as fit into its share of the minutes at that rate; and what the whole training reached,
with everything between epochs. OUT gets NET/best.safetensors with its card, NET.log and a line in
rates.jsonl. `--epochs 1 --device cpu` tries all of it on a CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import torch

from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.fit import Reading
from edgeunet.errors import EdgeUNetError
from edgeunet.training.config import TrainConfig
from edgeunet.training.feed import Step, open_feed
from edgeunet.training.loop import Trainer
from edgeunet.training.recipe import input_of
from edgeunet.training.teacher import open_teacher

RECIPE = {"photometry": "camera", "focus": 0.5, "scale": (0.6, 1.8), "with_val": True}
"""That of the camvid weights in the package, but for the batch."""

_BETWEEN = 0.85  # share of a net's minutes for its steps: the rest is for start, state and card


@dataclass(frozen=True)
class Net:
    """What is trained. start: how `edgeunet train` is told what it begins with."""

    model: str
    arguments: dict[str, str] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    teacher: str | None = None


NETS = {
    "mobile_unet": Net("mobile_unet", {}, ("--weights", "camvid"), "eff_unet:camvid"),
    "mobile_unet-light": Net(
        "mobile_unet", {"decoder": "light"}, ("--weights", "camvid_light"), "eff_unet:camvid"
    ),
    "eff_unet-lite0": Net("eff_unet", {"encoder": "lite0"}, ("--weights", "camvid")),
}


@dataclass(frozen=True)
class Rates:
    """Crops a second: of random tensors on the device, and of the data set's crops."""

    random: float
    fed: float


@click.command(help=(__doc__ or "").split("\n\n", 1)[0])
@click.option("-o", "output", type=click.Path(path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--minutes", default=10.0, help="For all nets together.")
@click.option("--epochs", type=int, help="Instead of as many as fit.")
@click.option("--device", default="cuda")
@click.option("--only", multiple=True, type=click.Choice(list(NETS)))
@click.option("--batch", default=16)
@click.option("--crop", default="224x288")
@click.option("--seconds", default=8.0, help="For each rate.")
@click.option("--encoder-weights", help="Start eff_unet from this classifier.")
def main(
    output: Path,
    data: Path,
    minutes: float,
    epochs: int | None,
    device: str,
    only: tuple[str, ...],
    batch: int,
    crop: str,
    seconds: float,
    encoder_weights: str | None,
) -> None:
    """Measure and train net after net, each within its share of the time that is left."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.ClickException("PyTorch finds no CUDA here. Pass --device cpu to try it.")
    end = time.monotonic() + 60 * minutes
    dataset = open_dataset(data)
    output.mkdir(parents=True, exist_ok=True)
    names = only or tuple(NETS)
    height, width = (int(side) for side in crop.split("x"))
    config = TrainConfig(crop=(height, width), batch_size=batch, **RECIPE)  # type: ignore[arg-type]
    failed = []
    for index, name in enumerate(names):
        budget = (end - time.monotonic()) / (len(names) - index)
        started = time.monotonic()
        try:
            rates, images = measure(NETS[name], dataset, config, device, seconds)
        except EdgeUNetError as error:
            click.echo(f"{name}: {error}", err=True)
            failed.append(name)
            continue
        left = budget - (time.monotonic() - started)
        count = epochs or max(1, int(left * _BETWEEN * rates.fed / images))
        line = {
            "net": name,
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
            "torch": torch.__version__,
            "batch": batch,
            "random": float(f"{rates.random:.4g}"),
            "fed": float(f"{rates.fed:.4g}"),
            "share": round(rates.fed / rates.random, 3),
            "epochs": count,
        }
        told = (
            f"{line['random']} crops/s of random tensors, {line['fed']} fed ({line['share']:.0%})"
        )
        click.echo(f"{name}: {told}; {count} epochs")
        command = command_of(
            NETS[name], count, data, output / name, device, batch, crop, encoder_weights
        )
        started = time.monotonic()
        with (output / f"{name}.log").open("w", encoding="utf-8") as log:
            root = Path(__file__).parents[1]
            code = subprocess.run(command, cwd=root, stdout=log, stderr=log, check=False).returncode
        passed = time.monotonic() - started
        line |= {
            "minutes": round(passed / 60, 2),
            "sustained": float(f"{count * images / passed:.4g}"),
            "exit": code,
        }
        with (output / "rates.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        if code:
            failed.append(name)
        click.echo(
            f"{name}: {passed / 60:.1f} minutes, {line['sustained']} crops/s with start and end"
            + (f"; failed, see {output / name}.log" if code else "")
        )
    if failed:
        raise click.ClickException(f"not trained: {', '.join(failed)}")


def measure(
    net: Net, dataset: Dataset, config: TrainConfig, device: str, seconds: float
) -> tuple[Rates, int]:
    """The rates of a net, and the images of an epoch."""
    spec = input_of(net.model, dataset, reading=Reading())
    teacher = (
        None if net.teacher is None else open_teacher(net.teacher, dataset, spec, device=device)
    )
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            net.model,
            dataset,
            Path(folder),
            spec=spec,
            config=config,
            device=device,
            teacher=teacher,
            **net.arguments,
        )
        feed = open_feed(trainer.plan, trainer.device)
        crops = (step for steps in feed.epochs(range(1 << 20)) for step in steps)
        first = next(crops)
        images, *truth = first.batch
        same = first._replace(batch=[torch.randn_like(images), *truth])
        rates = [_rate(trainer, steps, seconds) for steps in (repeat(same), crops)]
    return Rates(*rates), len(trainer.crops)


def _rate(trainer: Trainer, steps: Iterable[Step], seconds: float) -> float:
    """Crops a second that a net learns from, after some steps to warm up."""
    trainer.net.train()
    given: Iterator[Step] = iter(steps)

    def learn(until: float) -> int:
        done = 0
        while not done or time.monotonic() < until:
            loss = trainer.learn(next(given))
            done += 1
            if done % 8 == 0:
                loss.item()  # or the host would be far ahead of the clock
        loss.item()
        return done

    learn(time.monotonic() + seconds / 4)
    started = time.monotonic()
    done = learn(started + seconds)
    return done * trainer.plan.size / (time.monotonic() - started)


def command_of(
    net: Net,
    epochs: int,
    data: Path,
    output: Path,
    device: str,
    batch: int,
    crop: str,
    encoder_weights: str | None,
) -> list[str]:
    """How `edgeunet train` is called."""
    start = net.start
    if net.model == "eff_unet" and encoder_weights is not None:
        start = ("--encoder-weights", str(Path(encoder_weights).absolute()), "--encoder-lr", "0.5")
    teacher = () if net.teacher is None else ("--teacher", net.teacher)
    return [
        *(sys.executable, "-m", "edgeunet", "train", "--model", net.model, *start, *teacher),
        *("--data", str(data.absolute()), "-o", str(output.absolute()), "--device", device),
        *("--epochs", str(epochs), "--batch", str(batch), "--crop", crop),
        *(text for name, value in net.arguments.items() for text in (f"--{name}", value)),
        *(text for name, value in RECIPE.items() for text in _flag(name, value)),
    ]


def _flag(name: str, value: Any) -> list[str]:
    values = [] if value is True else list(value) if isinstance(value, tuple) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]


if __name__ == "__main__":
    main()
