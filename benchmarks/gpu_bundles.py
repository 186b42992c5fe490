"""The bundles that `gpu.py` times, made where PyTorch is; carry the folder to the GPU.

    python benchmarks/gpu_bundles.py -o DIR [--data ../shared/data]

mobile_unet, U-Net++ of depth 1 to 4 and, with the data sets, U-Net 3+ with its gate, each INT8 and
for batches up to 16. Without data the `cells` weights alone, on procedural frames.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click
import cv2
import numpy as np
from accuracy import source_of

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit

SIZE = (352, 480)
MAX_BATCH = 16
FRAMES = 96


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"))
def main(output: Path, data: Path) -> None:
    """Export what is not there yet."""
    mobile_tag = "camvid" if (data / "camvid").is_dir() else "cells"
    _export(output / "mobile_unet", "mobile_unet", mobile_tag, data, size=SIZE)
    for depth in (1, 2, 3, 4):
        _export(output / f"unetpp-depth{depth}", "unetpp", "cells", data, size=SIZE, depth=depth)
    if (data / "magnetic_tile").is_dir():
        _export(output / "unet3p-gated", "unet3p", "magnetic_tile", data)


def _export(
    output: Path,
    model: str,
    tag: str,
    data: Path,
    *,
    size: tuple[int, int] | None = None,
    depth: int | None = None,
) -> None:
    if output.exists():
        return
    click.echo(output)
    with TemporaryDirectory(prefix="edgeunet-gpu-") as folder:
        source = None if tag == "cells" else source_of(tag, data, Path(folder))
        options = ExportOptions(
            model, tag, "int8", calib=source, size=size, depth=depth, max_batch=MAX_BATCH
        )
        export_bundle(output, options)
        bundle = open_bundle(output)
        if bundle.manifest.gate is not None and source is not None:
            _write_frames(output.with_suffix(".npz"), source, bundle.manifest.input)


def _write_frames(path: Path, data: Path, spec: InputSpec) -> None:
    """Validation frames, spread over the split, for what early exit gains on real ones."""
    samples = open_dataset(data).samples("val")
    chosen = np.linspace(0, len(samples) - 1, min(FRAMES, len(samples))).astype(int)
    fit, size = Fit(spec), (spec.width, spec.height)
    frames = [cv2.resize(fit.read(samples[i].image), size) for i in chosen]
    np.savez_compressed(path, frames=np.stack(frames))


if __name__ == "__main__":
    main()
