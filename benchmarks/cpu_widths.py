"""INT8 against FP32 on ONNX Runtime at a net's own width; the package's weights are narrower.

    python benchmarks/cpu_widths.py [--threads 2]

Weights are random, so this says nothing of masks: speed alone, 352x480, batch 1, medians of calls
in turns.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import onnxruntime
import torch

from edgeunet import create_model
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.doctor import environment
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from edgeunet.latency import median_latencies
from edgeunet.runtime.backends.preprocess import Preprocessor

SPEC = InputSpec(352, 480)
NETS = {"resunet": 32, "eff_unet": 32}


@click.command()
@click.option("--threads", default=2, show_default=True)
def main(threads: int) -> None:
    """Make, time, print."""
    machine = environment()
    click.echo(f"{machine['processor']}, {threads} threads, onnxruntime {machine['onnxruntime']}")
    for model, width in NETS.items():
        with TemporaryDirectory(prefix="edgeunet-widths-") as folder:
            fp32, int8 = _latencies(model, width, Path(folder), threads)
        click.echo(f"{model}, width {width}: {fp32:.1f} -> {int8:.1f} ms, {fp32 / int8:.2f}x")


def _latencies(model: str, width: int, folder: Path, threads: int) -> tuple[float, float]:
    frames = [frame.image for frame in snapshots(2, height=SPEC.height, width=SPEC.width, seed=1)]
    images = Preprocessor(SPEC)(frames[:1])
    torch.manual_seed(0)
    net = create_model(model, num_classes=3, width=width).train()
    with torch.no_grad():
        for _ in range(3):  # so that the normalisations have seen an image
            net.run(torch.from_numpy(images))
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", "int8")}
    trace(net.eval(), paths["fp32"], height=SPEC.height, width=SPEC.width, channels=SPEC.channels)
    observation = observe(paths["fp32"], frames, SPEC)
    table = make_table(paths["fp32"], observation, "percentile", model=model, source="procedural")
    quantize_for_cpu(paths["fp32"], paths["int8"], table)
    sessions = {name: _session(path, threads) for name, path in paths.items()}
    outputs = {
        name: session.run(["logits"], {"image": images})[0] for name, session in sessions.items()
    }
    correlation = np.corrcoef(outputs["fp32"].ravel(), outputs["int8"].ravel())[0, 1]
    assert correlation > 0.9, f"{model}: INT8 and FP32 correlate by {correlation:.3f}"
    medians = median_latencies(
        {
            name: lambda session=session: session.run(["logits"], {"image": images})
            for name, session in sessions.items()
        },
        rounds=4,
    )
    return medians["fp32"], medians["int8"]


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
