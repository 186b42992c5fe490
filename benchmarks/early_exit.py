"""What a closed gate spares: frames a second of a gated bundle, with and without early exit.

    python benchmarks/early_exit.py --data DIR [--weights mobile_unet.magnetic_tile]

DIR is the data set that the weights know, or a view of it with its classes. The validation frames,
at the net's input size, go through pre-processing, net and post-processing in batches, in turns
with early exit and with everything computed and gated afterwards; the figures are of this run, and
the masks are asserted to be equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import cv2
import numpy as np
import numpy.typing as npt

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.doctor import environment
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch

Frame = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint8]

BATCHES = (1, 4)
FLAVOURS: tuple[Flavour, ...] = ("fp32", "int8.cpu")
ROUNDS = 3


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--weights", default="mobile_unet.magnetic_tile", show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(data: Path, weights: str, threads: int) -> None:
    """Export, time, check, print."""
    model, tag = weights.split(".")
    machine = environment()
    with TemporaryDirectory(prefix="edgeunet-early-exit-") as folder:
        options = ExportOptions(model, tag, "int8", calib=data)
        export_bundle(Path(folder) / "bundle", options)
        bundle = open_bundle(Path(folder) / "bundle")
        spec = bundle.manifest.input
        samples = open_dataset(data).samples("val")
        fit, size = Fit(spec), (spec.width, spec.height)
        frames = [cv2.resize(fit.read(sample.image), size) for sample in samples]
        click.echo(
            f"{weights}, {len(frames)} frames, {threads} threads, {machine['processor']}, "
            f"onnxruntime {machine['onnxruntime']}\n"
            f"{'':<10}{'batch':>6}{'everything':>12}{'early exit':>12}   (frames/s)"
        )
        for flavour in FLAVOURS:
            with open_flavour(bundle, flavour, threads=threads) as backend:
                for batch in BATCHES:
                    whole, early = _rates(backend, frames, batch)
                    click.echo(
                        f"{flavour:<10}{batch:>6}{whole:>12.1f}{early:>12.1f}{early / whole:>8.2f}x"
                    )


def _rates(backend: NetBackend, frames: Sequence[Frame], batch: int) -> tuple[float, float]:
    """Frames a second without and with early exit, each the best of a few rounds in turns."""
    best = [0.0, 0.0]
    groups = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    for _ in range(ROUNDS):
        masks = []
        for index, segment in enumerate((_everything(backend), _early(backend))):
            started = time.perf_counter()
            masks.append(np.concatenate([segment(group) for group in groups]))
            best[index] = max(best[index], len(frames) / (time.perf_counter() - started))
        np.testing.assert_array_equal(*masks)
    return best[0], best[1]


def _everything(backend: NetBackend) -> Callable[[Sequence[Frame]], Masks]:
    def segment(frames: Sequence[Frame]) -> Masks:
        outputs = backend.net.infer(backend.preprocess(frames))
        return backend.postprocess(*outputs, frames[0].shape[:2])

    return segment


def _early(backend: NetBackend) -> Callable[[Sequence[Frame]], Masks]:
    return lambda frames: backend.segment(Batch.of(frames)).masks


if __name__ == "__main__":
    main()
