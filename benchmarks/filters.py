"""What each filter costs and gives if frames are larger than the net's input.

    python benchmarks/filters.py [--data ../shared/data/camvid] [--time]

The PyTorch net of the `mobile_unet` camvid weights, whose input is 352x480, judges the validation
frames at their own size:

- CamVid's frames of 360x480, enlarged to 720x960 by Pillow's LANCZOS (labels by nearest), because
  the data set comes at half its original size. Such frames have no detail of single pixels, so they
  show less aliasing than a camera's.
- The frames as they are, into a net of 176x240. They are as sharp as their pixels allow, but the
  net sees half of what it was trained on, so only the differences between filters count.

`--time` prints the milliseconds of pre-processing instead, for one frame on one thread.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from edgeunet.bundle.manifest import Filter, InputSpec
from edgeunet.data.datasets import open_dataset, read_image, read_labels
from edgeunet.doctor import environment
from edgeunet.latency import median_latencies
from edgeunet.metrics import confusion_matrix, mean_iou
from edgeunet.models import Checkpoint, SegmentationNet
from edgeunet.models.reference import to_mask
from edgeunet.runtime.backends.preprocess import Preprocessor

FILTERS: tuple[Filter, ...] = get_args(Filter)
MODEL, TAG = "mobile_unet", "camvid"
ROUNDS = 9
TIMED = ((720, 960), (1080, 1920), (2160, 3840))
Array = npt.NDArray[Any]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--frames", default=0, help="Only so many frames, spread evenly.")
@click.option("--time", "timed", is_flag=True)
def main(data: Path, frames: int, timed: bool) -> None:
    """Measure, print Markdown."""
    checkpoint = Checkpoint.open(TAG, MODEL)
    if timed:
        return _print_times(checkpoint.card.input)
    dataset = open_dataset(data)
    samples = dataset.samples("val")
    samples = samples[:: max(1, len(samples) // frames)] if frames else samples
    spec = checkpoint.card.input
    half = replace(spec, height=spec.height // 2, width=spec.width // 2)
    classes = len(dataset.classes)
    enlarged = dict.fromkeys(FILTERS, np.zeros((classes, classes), np.int64))
    as_stored = dict(enlarged)
    for sample in samples:
        image, truth = read_image(sample.image), read_labels(sample, num_classes=classes)
        large_size = (2 * image.shape[1], 2 * image.shape[0])
        large = np.asarray(Image.fromarray(image).resize(large_size, Image.Resampling.LANCZOS))
        large_truth = cv2.resize(truth, large_size, interpolation=cv2.INTER_NEAREST)
        for how in FILTERS:
            for found, pixels, labels, size in (
                (enlarged, large, large_truth, spec),
                (as_stored, image, truth, half),
            ):
                mask = _mask(checkpoint.net, pixels, replace(size, filter=how))
                found[how] = found[how] + confusion_matrix(labels, mask, num_classes=classes)
    click.echo(f"{len(samples)} frames, mIoU in percent\n")
    click.echo(f"| filter | 720x960 (enlarged) into {spec.height}x{spec.width} "
               f"| 360x480 into {half.height}x{half.width} |\n|---|---|---|")  # fmt: skip
    for how in FILTERS:
        scores = [f"{100 * mean_iou(found[how]):.2f}" for found in (enlarged, as_stored)]
        click.echo(f"| `{how}` | {' | '.join(scores)} |")


@torch.inference_mode()
def _mask(net: SegmentationNet, image: Array, spec: InputSpec) -> Array:
    """Class ids at the image's size, pre-processed as `run` does."""
    logits, _ = net.predict(torch.from_numpy(Preprocessor(spec)([image])))
    return to_mask(logits, None, spec, (image.shape[0], image.shape[1]), thresholds=None)


def _print_times(spec: InputSpec) -> None:
    """Milliseconds a frame of each size, in turns."""
    cv2.setNumThreads(1)
    machine = environment()
    sizes = " | ".join(f"{height}x{width}" for height, width in TIMED)
    click.echo(f"{machine['processor']}, into {spec.height}x{spec.width}, ms a frame\n")
    click.echo(f"| filter | {sizes} |\n|---{'|---' * len(TIMED)}|")
    rng = np.random.default_rng(0)
    frames = {size: rng.integers(0, 256, (*size, 3), np.uint8) for size in TIMED}
    prepare = {how: Preprocessor(replace(spec, filter=how)) for how in FILTERS}
    times = {
        size: median_latencies(
            {how: partial(prepare[how], [frame]) for how in FILTERS}, rounds=ROUNDS
        )
        for size, frame in frames.items()
    }
    for how in FILTERS:
        click.echo(f"| `{how}` | {' | '.join(f'{times[size][how]:.1f}' for size in TIMED)} |")


if __name__ == "__main__":
    main()
