"""Milliseconds of another library's net on ONNX Runtime: FP32, its own INT8, and this package's.

    python benchmarks/foreign_int8.py [--arch Unet] [--encoder mobilenet_v2] [--size 352x480]
                                      [--classes 11] [--threads 2] [--rounds 8]

The weights are random: they decide about accuracy, not about time. The graphs take turns in blocks
of calls, so that what else the machine does hits all alike. ONNX Runtime's own INT8 is
`quantize_static` with Q/DQ, UINT8 activations and INT8 weights per channel, of the graph that
`quant_pre_process` makes. Its graph runs again as "exact", with session.x64quantprecision: without
VNNI, the defaults add pairs of products in 16 bits, which saturates. This package's weights do not
let them.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import segmentation_models_pytorch as smp
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.exporting.graphs.passes import Prepare
from edgeunet.exporting.graphs.passes.graph import load, save
from edgeunet.exporting.graphs.trace import OPSET
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from edgeunet.latency import median_latencies
from edgeunet.runtime.backends.preprocess import Preprocessor

FRAMES = 4
"""Frames that both INT8 graphs are calibrated on."""

Images = npt.NDArray[np.float32]


class _Frames(CalibrationDataReader):
    def __init__(self, images: Images) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def trace(net: torch.nn.Module, path: Path, height: int, width: int) -> None:
    """Write the net as its users would."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, 3, height, width),),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def session(path: Path, threads: int, *, exact: bool = False) -> onnxruntime.InferenceSession:
    """A session with ONNX Runtime's defaults, or with sums that do not saturate."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Make the graphs, time them in turns, and print medians and quotients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="Unet")
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--size", default="352x480")
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    torch.manual_seed(0)
    net = getattr(smp, args.arch)(args.encoder, encoder_weights=None, classes=args.classes)
    spec = InputSpec(height, width)
    frames = [f.image for f in snapshots(FRAMES, height=height, width=width, seed=1)]
    images = Preprocessor(spec)(frames)
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        fp32, ours, plain, theirs = (
            Path(folder) / f"{name}.onnx" for name in ("fp32", "ours", "plain", "theirs")
        )
        raw = Path(folder) / "raw.onnx"
        trace(net, raw, height, width)
        model = load(raw)
        Prepare()(model)
        save(model, fp32)
        table = make_table(
            fp32, observe(fp32, frames, spec), "percentile", model=args.arch, source="cells"
        )
        quantize_for_cpu(fp32, ours, table)
        quant_pre_process(str(raw), str(plain))
        quantize_static(
            str(plain),
            str(theirs),
            _Frames(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        sessions = {
            "ONNX Runtime FP32": session(raw, args.threads),
            "quantize_static U8S8": session(theirs, args.threads),
            "quantize_static U8S8, exact": session(theirs, args.threads, exact=True),
            "edgeunet INT8": session(ours, args.threads),
        }
        first = {"image": images[:1]}
        wanted = sessions["ONNX Runtime FP32"].run(None, first)[0]
        turns = cycle(images)
        calls = {
            name: (lambda run=run: run.run(None, {"image": next(turns)[None]}))
            for name, run in sessions.items()
        }
        medians = median_latencies(calls, rounds=args.rounds)
        for name, run in sessions.items():
            gain = medians["ONNX Runtime FP32"] / medians[name]
            noise = float(np.square(run.run(None, first)[0] - wanted).mean())
            ratio = f"{10 * np.log10(np.square(wanted).mean() / noise):.1f} dB" if noise else "same"
            print(f"{name:28} {medians[name]:7.1f} ms, {gain:.2f} times FP32, {ratio}")


if __name__ == "__main__":
    main()
