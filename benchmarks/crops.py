"""Milliseconds of a training crop on the CPU: one by one, and in batches as a GPU makes them.

    python benchmarks/crops.py [--data ../shared/data/camvid]

Crops of 224x288 for a net of 352x480, `--photometry camera`, eight at a time, in this process. The
first way reads image and mask from their files, the second one has them in memory. `drawing` is the
part of the second way that stays on the CPU if a GPU makes the crops.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import click
import torch
from torch.utils.data import default_collate

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import open_dataset
from edgeunet.latency import median_latencies
from edgeunet.training.augment import Augmentation
from edgeunet.training.crops import Crops, Focus
from edgeunet.training.device import Drawings, load, pack
from edgeunet.training.photometry import PHOTOMETRY

IMAGES, BATCH = 48, 8


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--rounds", default=6)
def main(data: Path, rounds: int) -> None:
    """Time the ways in turns, and print a line for each."""
    dataset = open_dataset(data)
    crops = Crops(
        dataset.samples("train")[:IMAGES],
        InputSpec(352, 480),
        num_classes=len(dataset.classes),
        augment=Augmentation((224, 288), scale=(0.6, 1.8)),
        focus=Focus(0, ()),
        photometry=PHOTOMETRY["camera"],
    )
    held = load(crops, None, torch.device("cpu"), room=1 << 40)
    assert held is not None
    batches = [range(start, start + BATCH) for start in range(0, len(crops) - BATCH + 1, BATCH)]

    def drawn(indices: range) -> Drawings:
        return pack([crops.draw(0, index, held.labels) for index in indices], held.depth)

    apart, together, drawing = (cycle(batches) for _ in range(3))
    found = median_latencies(
        {
            "one by one": lambda: default_collate([crops[index] for index in next(apart)]),
            "in batches": lambda: held.make(drawn(next(together)), BATCH),
            "drawing": lambda: drawn(next(drawing)),
        },
        rounds=rounds,
    )
    for name, milliseconds in found.items():
        click.echo(f"{name}: {milliseconds / BATCH:.2f} ms a crop")


if __name__ == "__main__":
    main()
