"""The bundles that `gpu.py` times, made where PyTorch is; carry the folder to the GPU.

    python benchmarks/gpu_bundles.py -o DIR [--data ../shared/data] [--only NAME] [--slim]

mobile_unet, U-Net++ of depth 1 to 4 and, with the data sets, U-Net 3+ with its gate, each INT8 and
for batches up to 16. Without data mobile_unet has the `cells` weights, calibrated on procedural
frames, as U-Net++ always has. `--slim` leaves out what no step on a GPU reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import cv2
import numpy as np
import onnx
from accuracy import source_of

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import MANIFEST_NAME, REPORT_NAMES, open_bundle
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.manifest import PARTS, Flavour, InputSpec, flavour_file, part_file
from edgeunet.bundle.schema import encode
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.files import sha256, write_json

SIZE = (352, 480)
MAX_BATCH = 16
FRAMES = 96
_FOR_THE_CPU: Flavour = "int8.cpu"


@dataclass(frozen=True)
class Recipe:
    """A bundle: model, tag of its weights, input size (None: the weights' own), depth."""

    model: str
    tag: str
    size: tuple[int, int] | None = SIZE
    depth: int | None = None


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"))
@click.option("--only", multiple=True, help="Name of a bundle; may be repeated.")
@click.option("--slim", "slimmed", is_flag=True, help="Only what a GPU's steps read.")
def main(output: Path, data: Path, only: tuple[str, ...], slimmed: bool) -> None:
    """Export what is not there yet."""
    known = recipes(data)
    if unknown := [name for name in only if name not in known]:
        raise click.UsageError(
            f"there is no {unknown[0]}; with the data sets in {data} there are {', '.join(known)}."
        )
    for name in only or known:
        if not (output / name).exists():
            click.echo(f"{output / name}")
            _export(output / name, known[name], data)
        if slimmed:
            slim(output / name)
        files = [*(output / name).glob("*"), *output.glob(f"{name}.npz")]
        size = sum(path.stat().st_size for path in files if path.is_file())
        click.echo(f"{output / name}: {size / 1e6:.0f} MB")


def recipes(data: Path) -> dict[str, Recipe]:
    """By name, what can be made with the data sets in a folder."""
    tag = "camvid" if (data / "camvid").is_dir() else "cells"
    found = {"mobile_unet": Recipe("mobile_unet", tag)}
    for depth in (1, 2, 3, 4):
        found[f"unetpp-depth{depth}"] = Recipe("unetpp", "cells", depth=depth)
    if (data / "magnetic_tile").is_dir():
        found["unet3p-gated"] = Recipe("unet3p", "magnetic_tile", size=None)
    return found


def _export(output: Path, recipe: Recipe, data: Path) -> None:
    with TemporaryDirectory(prefix="edgeunet-gpu-") as folder:
        source = None if recipe.tag == "cells" else source_of(recipe.tag, data, Path(folder))
        options = ExportOptions(
            recipe.model,
            recipe.tag,
            "int8",
            calib=source,
            size=recipe.size,
            depth=recipe.depth,
            max_batch=MAX_BATCH,
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


def slim(root: Path) -> None:
    """Drop what a GPU does not need from a bundle: it still opens, and `self_check` still judges.

    The parity report goes. The golden logits become zeros, which pack into nothing; only `edgeunet
    parity` reads them. The CPU's INT8 graphs become graphs without nodes: ONNX Runtime refuses
    them.
    """
    bundle = open_bundle(root)
    manifest, golden = bundle.manifest, bundle.golden()
    for name in REPORT_NAMES:
        (root / name).unlink(missing_ok=True)
    logits = np.zeros_like(golden.logits)
    np.savez_compressed(root / GOLDEN_NAME, frames=golden.frames, masks=golden.masks, logits=logits)
    graphs = {flavour_file(_FOR_THE_CPU), *(part_file(_FOR_THE_CPU, part) for part in PARTS)}
    dropped = graphs & set(manifest.files)
    for name in dropped:
        onnx.save(
            onnx.helper.make_model(onnx.helper.make_graph([], "left out", [], [])), root / name
        )
    changed = {name: sha256(root / name) for name in (GOLDEN_NAME, *dropped)}
    sealed = replace(manifest, files={**manifest.files, **changed})
    (root / MANIFEST_NAME).unlink()
    write_json(root / MANIFEST_NAME, encode(sealed))
    open_bundle(root)


if __name__ == "__main__":
    main()
