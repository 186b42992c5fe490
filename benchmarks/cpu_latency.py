"""INT8 on the CPU against PyTorch, ONNX Runtime FP32 and OpenVINO, and variant by variant.

    python benchmarks/cpu_latency.py [--data ../shared/data/camvid] [--threads 2] [--json]

With CamVid the `camvid` weights of mobile_unet are timed at 352x480 and its val.mp4 is segmented;
without it the `cells` weights on procedural frames of the same size. OpenVINO takes part where it
is installed (`pip install openvino nncf`). Then FP32 and INT8 of every variant, with the `cells`
weights at the same size. The candidates take turns in blocks of a few calls, so that what else the
machine does hits all of them; figures are medians, and ratios are of this run. Masks are checked
beside the timings. The share of the peak says how far INT8 is from what a big INT8 matrix product
reaches in the same run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from int8_graphs import make_graphs
from int8_peak import peak, product

from edgeunet import ExportOptions, export_bundle
from edgeunet.benchmark.entries import peer_called
from edgeunet.benchmark.tools import Made, open_openvino
from edgeunet.bundle.bundle import CHECKPOINT_NAME, Bundle, open_bundle
from edgeunet.data.cells import Scene, time_lapse
from edgeunet.doctor import environment
from edgeunet.latency import median_latencies
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.summary import count
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.run import run
from edgeunet.runtime.sinks import VideoWriter

SIZE = (352, 480)
# Share of pixels whose class must be PyTorch eager's, or FP32's. OpenVINO's are shown as they are.
AGREEMENT = {"torch.compile": 0.9999, "ONNX Runtime FP32": 0.9999, "INT8 bundle": 0.98}
VARIANTS: dict[str, tuple[str, int | None]] = {
    "unet": ("unet", None),
    **{f"unetpp, depth {depth}": ("unetpp", depth) for depth in (1, 2, 3, 4)},
    "unet3p": ("unet3p", None),
    "resunet": ("resunet", None),
    "mobile_unet": ("mobile_unet", None),
    "eff_unet": ("eff_unet", None),
}

Logits = npt.NDArray[np.float32]
Net = Callable[[Logits], Logits]


@dataclass(frozen=True)
class Variant:
    """One variant; latencies of the net alone, and the share of the INT8 peak that it reaches."""

    name: str
    width: str
    gmacs: float
    fp32_ms: float
    int8_ms: float
    agreement: float
    peak_share: float


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=8, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(data: Path, threads: int, rounds: int, as_json: bool) -> None:
    """Time, check, print."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="edgeunet-latency-") as folder:
        bundle, video = _prepare(data, Path(folder))
        images = Preprocessor(bundle.manifest.input)(list(bundle.golden().frames))
        medians, agreement = _compare(bundle, images, Path(folder), threads=threads, rounds=rounds)
        finishing = medians.pop("post-processing")
        peak_rate = peak(medians.pop("peak"))
        net = Checkpoint.open(bundle.root / CHECKPOINT_NAME).net
        gmacs = count(net, height=SIZE[0], width=SIZE[1]).gflops / 2
        rates = {
            label: _video_rate(bundle, video, output, threads)
            for label, output in (("masks", "-"), ("PNG masks", str(Path(folder) / "masks")))
        }
        variants = _variants(Path(folder), threads=threads, rounds=rounds)
    report = {
        "weights": bundle.manifest.weights,
        "input": "x".join(map(str, SIZE)),
        "threads": threads,
        "median_ms": medians,
        "agreement": agreement,
        "peak_gmacs_per_s": peak_rate,
        "peak_share": gmacs / medians["INT8 bundle"] * 1e3 / peak_rate,
        "post_processing_ms": finishing,
        "video_frames_per_s": rates,
        "variants": [asdict(variant) for variant in variants],
        "environment": environment(),
    }
    click.echo(json.dumps(report, indent=1) if as_json else _text(report, variants))
    for name, wanted in AGREEMENT.items():
        assert agreement[name] >= wanted, f"{name}: {agreement[name]:.3%} of the pixels agree"
    for variant in variants:
        assert variant.agreement >= AGREEMENT["INT8 bundle"], variant


def _prepare(data: Path, folder: Path) -> tuple[Bundle, Path]:
    """The INT8 bundle to time, and a video for it."""
    if data.is_dir():
        options = ExportOptions("mobile_unet", "camvid", "int8", calib=data, size=SIZE)
        video = data / "val.mp4"
    else:
        options = ExportOptions("mobile_unet", "cells", "int8", size=SIZE)
        video = folder / "cells.mp4"
        with VideoWriter(video, rate=Fraction(15)) as writer:
            for frame in time_lapse(Scene(height=SIZE[0], width=SIZE[1], cells=40), 100):
                writer.write(frame.image)
    export_bundle(folder / "bundle", options)
    return open_bundle(folder / "bundle"), video


def _compare(
    bundle: Bundle, images: Logits, folder: Path, *, threads: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds, and share of pixels that agree with PyTorch eager, by candidate."""
    with (
        open_flavour(bundle, "fp32", threads=threads) as fp32,
        open_flavour(bundle, "int8.cpu", threads=threads) as int8,
        torch.inference_mode(),
    ):
        net = Checkpoint.open(bundle.root / CHECKPOINT_NAME).net
        compiled = torch.compile(net)
        foreign = _openvino_nets(bundle.model_path("fp32"), images, folder, threads=threads)
        nets: dict[str, Net] = {
            "PyTorch eager": lambda image: net(torch.from_numpy(image)).numpy(),
            "torch.compile": lambda image: compiled(torch.from_numpy(image)).numpy(),
            "ONNX Runtime FP32": lambda image: fp32.net.infer(image).logits,
            **foreign,
            "INT8 bundle": lambda image: int8.net.infer(image).logits,
        }
        outputs = int8.net.infer(images[:1])
        size = bundle.golden().frames[0].shape[:2]
        calls = {name: _on_each(run_net, images) for name, run_net in nets.items()}
        calls["post-processing"] = lambda: int8.postprocess(*outputs, size)
        calls["peak"] = product(threads)
        medians = median_latencies(calls, rounds=rounds)
        classes = {
            name: np.concatenate([run_net(image[None]).argmax(1) for image in images])
            for name, run_net in nets.items()
        }
    reference = classes["PyTorch eager"]
    return medians, {name: float(np.mean(found == reference)) for name, found in classes.items()}


def _openvino_nets(graph: Path, images: Logits, folder: Path, *, threads: int) -> dict[str, Net]:
    """The FP32 graph, and the same quantized by NNCF on `images`; empty if either is missing.

    FP32 is asked for by name: processors with BF16 would else compute in that.
    """
    nncf = peer_called("NNCF on OpenVINO")
    if nncf.missing is not None:
        return {}
    shape = (1, images.shape[1], images.shape[2], images.shape[3])
    quantized = Made(nncf.make(graph, images, folder / "nncf"), shape)
    runs = {
        "OpenVINO FP32": open_openvino(Made(graph, shape), threads, INFERENCE_PRECISION_HINT="f32"),
        "OpenVINO INT8 (NNCF)": open_openvino(quantized, threads),
    }
    return {name: (lambda image, run=run: run(image)[0]) for name, run in runs.items()}


def _on_each(run_net: Net, images: Logits) -> Callable[[], object]:
    """A call of the net on the next of the images."""
    turns = cycle(images)
    return lambda: run_net(next(turns)[None])


def _video_rate(bundle: Bundle, video: Path, output: str, threads: int) -> float:
    """Frames per second from a video file to masks; the better of two, the first also warms up."""
    return max(
        run(
            bundle.root,
            video,
            output,
            backend="onnxruntime",
            options=LoadOptions(threads=threads),
            force=True,
        ).rate
        for _ in range(2)
    )


def _variants(folder: Path, *, threads: int, rounds: int) -> list[Variant]:
    graphs = {
        name: make_graphs(model, folder, size=SIZE, depth=depth)
        for name, (model, depth) in VARIANTS.items()
    }
    nets = {
        (name, precision): _session(path, threads)
        for name, made in graphs.items()
        for precision, path in (("fp32", made.fp32), ("int8", made.int8))
    }
    calls = {" ".join(key): _on_each(net, graphs[key[0]].images) for key, net in nets.items()}
    medians = median_latencies({**calls, "peak": product(threads)}, rounds=rounds)
    variants = []
    for name, made in graphs.items():
        fp32, int8 = (
            np.stack([nets[name, precision](image[None]).argmax(1) for image in made.images])
            for precision in ("fp32", "int8")
        )
        int8_ms = medians[f"{name} int8"]
        rate = made.gmacs / int8_ms * 1e3
        variants.append(
            Variant(
                name=name,
                width=made.width,
                gmacs=made.gmacs,
                fp32_ms=medians[f"{name} fp32"],
                int8_ms=int8_ms,
                agreement=float(np.mean(fp32 == int8)),
                peak_share=rate / peak(medians["peak"]),
            )
        )
    return variants


def _session(path: Path, threads: int) -> Net:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["logits"], {"image": image})[0]


def _text(report: dict[str, object], variants: list[Variant]) -> str:
    medians: dict[str, float] = report["median_ms"]  # type: ignore[assignment]
    agreement: dict[str, float] = report["agreement"]  # type: ignore[assignment]
    rates: dict[str, float] = report["video_frames_per_s"]  # type: ignore[assignment]
    machine: dict[str, str] = report["environment"]  # type: ignore[assignment]
    finishing: float = report["post_processing_ms"]  # type: ignore[assignment]
    int8 = medians["INT8 bundle"]
    lines = [
        f"mobile_unet {report['weights']}, {report['input']}, {report['threads']} threads, "
        f"{machine['processor']}, onnxruntime {machine['onnxruntime']}, torch {machine['torch']}",
        f"{'':<22}{'median ms':>10}{'bundle is':>12}{'pixels agree':>14}",
    ]
    for name, median in medians.items():
        lines.append(f"{name:<22}{median:>10.1f}{median / int8:>11.2f}x{agreement[name]:>14.3%}")
    lines.append(
        f"INT8 peak {report['peak_gmacs_per_s']:.0f} GMAC/s, of which the bundle reaches "
        f"{report['peak_share']:.0%}; post-processing {finishing:.1f} ms, "
        f"{finishing / int8:.0%} of the net"
    )
    for label, rate in rates.items():
        lines.append(
            f"video file to {label}: {rate:.1f} frames/s, {rate * int8 / 1000:.0%} of the bare net"
        )
    lines += ["", "weights cells, the same size and threads, ONNX Runtime:"]
    columns = ("width", "GMACs", "FP32 ms", "INT8 ms", "faster", "of peak", "agree")
    lines.append(f"{'':<18}" + "".join(f"{column:>10}" for column in columns))
    for row in variants:
        lines.append(
            f"{row.name:<18}{row.width:>10}{row.gmacs:>10.2f}{row.fp32_ms:>10.1f}"
            f"{row.int8_ms:>10.1f}{row.fp32_ms / row.int8_ms:>9.2f}x{row.peak_share:>10.0%}"
            f"{row.agreement:>10.2%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
