"""PyTorch eager, torch.compile, ONNX Runtime FP32 and the INT8 bundle, on the same frames.

    python benchmarks/cpu_latency.py [--data ../shared/data/camvid] [--threads 2] [--json]

With CamVid the `camvid` weights are timed at 352x480 and its val.mp4 is segmented; without it the
`cells` weights on procedural frames of the same size. The candidates take turns in blocks of a few
calls, so that what else the machine does hits all of them; figures are medians, and ratios are of
this run. Masks are checked beside the timings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch

from edgeunet import ExportOptions, export_bundle, load
from edgeunet.doctor import environment
from edgeunet.latency import median_latencies
from edgeunet.models.checkpoints import load_checkpoint
from edgeunet.runtime.bundle import CHECKPOINT_NAME, Bundle, open_bundle
from edgeunet.runtime.preprocess import Preprocessor
from edgeunet.runtime.run import run
from edgeunet.runtime.video import VideoWriter
from edgeunet.training.cells import Scene, time_lapse

SIZE = (352, 480)
# Share of pixels whose class must be PyTorch eager's.
AGREEMENT = {"torch.compile": 0.9999, "ONNX Runtime FP32": 0.9999, "INT8 bundle": 0.98}

Logits = npt.NDArray[np.float32]
Net = Callable[[Logits], Logits]


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
        medians, agreement = _compare(bundle, images, threads=threads, rounds=rounds)
        rates = {
            label: _video_rate(bundle, video, output, threads)
            for label, output in (("masks", "-"), ("PNG masks", str(Path(folder) / "masks")))
        }
    report = {
        "weights": bundle.manifest.weights,
        "input": "x".join(map(str, SIZE)),
        "threads": threads,
        "median_ms": medians,
        "agreement": agreement,
        "video_frames_per_s": rates,
        "environment": environment(),
    }
    click.echo(json.dumps(report, indent=1) if as_json else _text(report))
    for name, wanted in AGREEMENT.items():
        assert agreement[name] >= wanted, f"{name}: {agreement[name]:.3%} of the pixels agree"


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
    bundle: Bundle, images: Logits, *, threads: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds, and share of pixels that agree with PyTorch eager, by candidate."""
    with (
        load(bundle.root, flavour="fp32", threads=threads) as fp32,
        load(bundle.root, threads=threads) as int8,
        torch.inference_mode(),
    ):
        net, _ = load_checkpoint(bundle.root / CHECKPOINT_NAME)
        compiled = torch.compile(net)
        nets: dict[str, Net] = {
            "PyTorch eager": lambda image: net(torch.from_numpy(image)).numpy(),
            "torch.compile": lambda image: compiled(torch.from_numpy(image)).numpy(),
            "ONNX Runtime FP32": lambda image: fp32.backend.infer(image).logits,
            "INT8 bundle": lambda image: int8.backend.infer(image).logits,
        }
        calls = {name: _on_each(run_net, images) for name, run_net in nets.items()}
        medians = median_latencies(calls, rounds=rounds)
        classes = {
            name: np.concatenate([run_net(image[None]).argmax(1) for image in images])
            for name, run_net in nets.items()
        }
    reference = classes["PyTorch eager"]
    return medians, {name: float(np.mean(found == reference)) for name, found in classes.items()}


def _on_each(run_net: Net, images: Logits) -> Callable[[], object]:
    """A call of the net on the next of the images."""
    turns = cycle(images)
    return lambda: run_net(next(turns)[None])


def _video_rate(bundle: Bundle, video: Path, output: str, threads: int) -> float:
    """Frames per second from a video file to masks; the better of two, the first also warms up."""
    return max(run(bundle.root, video, output, force=True, threads=threads).rate for _ in range(2))


def _text(report: dict[str, object]) -> str:
    medians: dict[str, float] = report["median_ms"]  # type: ignore[assignment]
    agreement: dict[str, float] = report["agreement"]  # type: ignore[assignment]
    rates: dict[str, float] = report["video_frames_per_s"]  # type: ignore[assignment]
    machine: dict[str, str] = report["environment"]  # type: ignore[assignment]
    int8 = medians["INT8 bundle"]
    lines = [
        f"mobile_unet {report['weights']}, {report['input']}, {report['threads']} threads, "
        f"{machine['processor']}, onnxruntime {machine['onnxruntime']}, torch {machine['torch']}",
        f"{'':<20}{'median ms':>10}{'bundle is':>12}{'pixels agree':>14}",
    ]
    for name, median in medians.items():
        lines.append(f"{name:<20}{median:>10.1f}{median / int8:>11.2f}x{agreement[name]:>14.3%}")
    for label, rate in rates.items():
        lines.append(
            f"video file to {label}: {rate:.1f} frames/s, {rate * int8 / 1000:.0%} of the bare net"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
