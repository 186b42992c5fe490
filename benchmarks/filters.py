"""What each filter costs and gives if frames are larger than the net's input.

    python benchmarks/filters.py [--data ../shared/data/camvid] [--time]

The PyTorch net of the `mobile_unet` camvid weights, whose input is 352x480, on the validation
frames. The labels have 360x480 pixels, and masks are compared at that size. CamVid comes at half
its original size here, so larger frames are made: enlarged by Pillow's LANCZOS, which adds no
detail, so that nothing can alias but noise. The cases:

- 720x960, enlarged;
- 2160x2880, enlarged, with Gaussian noise of 20 levels in each pixel, as of a camera in the dark;
- 360x480 as stored, into a net of 160x224. These frames are as sharp as their pixels allow, but the
  net sees less than half of what it was trained on, so only differences between filters count.

`--time` prints the milliseconds of pre-processing instead, for one frame on one thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.fit import Fit
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


@dataclass(frozen=True)
class Case:
    """How frames are changed first, and the net's size; None for that of the weights."""

    title: str
    factor: int = 1
    noise: float = 0.0
    size: tuple[int, int] | None = None

    def frame(self, image: Array) -> Array:
        """The frame to segment."""
        if self.factor > 1:
            size = (self.factor * image.shape[1], self.factor * image.shape[0])
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        if not self.noise:
            return image
        noise = cv2.randn(np.empty(image.shape, np.int16), (0.0,) * 3, (self.noise,) * 3)
        return np.clip(image + noise, 0, 255).astype(np.uint8)


CASES = (
    Case("720x960, enlarged", factor=2),
    Case("2160x2880, enlarged, noise", factor=6, noise=20.0),
    Case("360x480 into 160x224", size=(160, 224)),
)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--every", default=1, help="Only every n-th frame.")
@click.option("--time", "timed", is_flag=True)
def main(data: Path, every: int, timed: bool) -> None:
    """Measure, print Markdown."""
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    checkpoint = Checkpoint.open(TAG, MODEL)
    if timed:
        return _print_times(checkpoint.card.input)
    dataset = open_dataset(data)
    samples = dataset.samples("val")[::every]
    classes = len(dataset.classes)
    found = {
        (case, how): np.zeros((classes, classes), np.int64) for case in CASES for how in FILTERS
    }
    fit = Fit(checkpoint.card.input)
    for sample in samples:
        image, truth = fit.read(sample.image), read_labels(sample, num_classes=classes)
        for case in CASES:
            frame = case.frame(image)
            for how in FILTERS:
                spec = replace(checkpoint.card.input, filter=how)
                if case.size is not None:
                    spec = replace(spec, height=case.size[0], width=case.size[1])
                mask = _mask(checkpoint.net, frame, spec, truth.shape)
                found[case, how] += confusion_matrix(truth, mask, num_classes=classes)
    click.echo(f"{len(samples)} frames, mIoU in percent\n")
    click.echo(
        f"| filter | {' | '.join(case.title for case in CASES)} |\n|---{'|---' * len(CASES)}|"
    )
    for how in FILTERS:
        scores = [f"{100 * mean_iou(found[case, how]):.2f}" for case in CASES]
        click.echo(f"| `{how}` | {' | '.join(scores)} |")


@torch.inference_mode()
def _mask(net: SegmentationNet, frame: Array, spec: InputSpec, size: tuple[int, ...]) -> Array:
    """Class ids (H, W) at `size` of a frame that is pre-processed as `run` does."""
    logits, _ = net.predict(torch.from_numpy(Preprocessor(spec)([frame])))
    return to_mask(logits, None, spec, (size[0], size[1]), thresholds=None)


def _print_times(spec: InputSpec) -> None:
    """Milliseconds a frame of each size, in turns."""
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
