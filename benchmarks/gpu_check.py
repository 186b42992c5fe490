"""Is the GPU side right? Checked on a GPU without TensorRT: PyTorch is the engine.

    python benchmarks/gpu_check.py BUNDLE… [--frames DIR] [--only CHECK] [--tensorrt 8.6.0]

Needs PyTorch with CUDA, onnx, and what the kernels need. The tests' stand-in replaces TensorRT; all
else is real: backend, slots, streams, page-locked memory, CUDA graphs, kernels, gate.

- kernels: pre- and post-processing against the CPU's.
- engine: golden frames; masks against the CPU's; a stream, a second one and four threads give what
  single calls give; each batch size is captured as a CUDA graph.
- gate, of a gated bundle: early exit skips decoders and changes no mask. The frames are those in
  BUNDLE.npz, which `gpu_bundles.py` writes, or noise from black to white.
- miou, with `--frames DIR`: masks of `DIR/images` against the class ids in `DIR/masks`.

Each check writes a line of JSON, to the screen and to the card's file of `--results`: its figures,
and under `wrong` those that must not be. The exit code is 1 if one is wrong.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu_engine import time_early_exit
from gpu_kernels_check import kernel_differences
from gpu_report import RESULTS, Line, results_file, write_line

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import FLAVOURS
from edgeunet.data.datasets import read_mask
from edgeunet.data.fit import Fit
from edgeunet.data.samples import list_split
from edgeunet.errors import EdgeUNetError
from edgeunet.metrics import confusion_matrix, mean_iou
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.tensorrt import TensorRTBackend
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.gpu.cuda import CudaDevice
from edgeunet.runtime.gpu.engine import load_toolkit
from edgeunet.runtime.segmenter import Segmenter
from support import fake_tensorrt
from support.torch_engine import TorchEngine, TorchNet

CHECKS = ("kernels", "engine", "gate", "miou")
VERSIONS = ("8.6.0", "10.16.1")
"""The first takes precisions by flags, the second from the graph."""
DIFFER = {"fp32": 1e-4, "fp16": 2e-3, "int8": 5e-3}
"""Share of the pixels that may differ from the CPU's, which sums in another order."""
BATCH, FRAMES = 4, 24
SURE = 2  # of 255: as far as confidence may be off where the logits are the same
Found = tuple[dict[str, Any], list[str]]
"""A check's figures, and what is wrong with them."""


@dataclass(frozen=True)
class Machine:
    """PyTorch's device, and what queues a run of the engine into a stream."""

    device: str
    enqueue: Callable[[int, Callable[[], None]], None]


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--frames", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--only", multiple=True, type=click.Choice(CHECKS), help="May be repeated.")
@click.option(
    "--tensorrt",
    "versions",
    multiple=True,
    default=VERSIONS,
    show_default=True,
    type=click.Choice([each for each in fake_tensorrt.recorded_versions() if "rtx" not in each]),
    help="Version that the stand-in has; may be repeated.",
)
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the lines."
)
def main(
    bundles: tuple[Path, ...],
    frames: Path | None,
    only: tuple[str, ...],
    versions: tuple[str, ...],
    results: Path,
) -> None:
    """Check, write."""
    chosen = only or CHECKS
    if not bundles and set(chosen) - {"kernels"}:
        raise click.UsageError("name a bundle, or pass --only kernels, which needs none.")
    if frames is None and "miou" in only:
        raise click.UsageError("--only miou needs --frames DIR, with images and masks.")
    machine = find_machine()
    failed = []
    # Held, so that the GPU's context lives from first to last.
    with CudaDevice() as device, _scratch() as folder:
        path = results_file(results, device.name)
        for name, check in _plan(bundles, folder, frames, chosen, versions, machine, device):
            line = _run(name, check)
            write_line(line, path)
            if line.get("problem") or line.get("wrong"):
                failed.append(" ".join(name.values()))
    if failed:
        click.echo(f"Wrong: {', '.join(failed)}.", err=True)
    sys.exit(bool(failed))


def find_machine() -> Machine:
    """The GPU that PyTorch finds."""
    if not torch.cuda.is_available():
        raise click.UsageError(f"PyTorch {torch.__version__} finds no GPU; see nvidia-smi.")

    def enqueue(stream: int, work: Callable[[], None]) -> None:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            work()

    return Machine("cuda", enqueue)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for copies of the bundles, for caches and for a key.

    TensorRT itself must never find the stand-in's engines and timings.
    """
    with TemporaryDirectory(prefix="edgeunet-gpu-check-") as folder:
        before = dict(os.environ)
        os.environ.update(XDG_CACHE_HOME=folder, XDG_STATE_HOME=folder)
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _plan(
    bundles: Sequence[Path],
    folder: Path,
    frames: Path | None,
    chosen: Sequence[str],
    versions: Sequence[str],
    machine: Machine,
    device: CudaDevice,
) -> Iterator[tuple[dict[str, str], Callable[[], Found]]]:
    """Each check with its name. The stand-in is in place when a check is yielded."""
    if "kernels" in chosen:
        yield {"step": "check-kernels"}, check_kernels
    engine = TorchEngine(machine.device)
    for root in bundles:
        copy = folder / root.name
        if root.is_dir() and not copy.exists():
            shutil.copytree(root, copy, ignore=shutil.ignore_patterns("engines"))
        bundle = open_bundle(copy)
        gated = bundle.manifest.gate is not None
        images = _gate_frames(root, bundle) if gated else []
        for version in versions:
            trt = fake_tensorrt.make(version)
            trt.scenario.card, trt.scenario.capability = device.name, device.capability
            trt.enqueue, trt.compute = machine.enqueue, engine.compute
            sys.modules["tensorrt"] = trt
            for precision in [
                each for each in DIFFER if each in FLAVOURS[bundle.manifest.precision]
            ]:
                at = bundle.at(precision)
                name = {"bundle": root.name, "precision": precision, "tensorrt": version}
                if "engine" in chosen:
                    yield {"step": "check-engine", **name}, partial(check_engine, at)
                if "gate" in chosen and gated:
                    yield {"step": "check-gate", **name}, partial(check_gate, at, images)
                if "miou" in chosen and frames is not None and version == versions[-1]:
                    yield {"step": "check-miou", **name}, partial(check_miou, at, frames)


def _run(name: dict[str, str], check: Callable[[], Found]) -> Line:
    line: Line = {**name, "started": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    started = time.monotonic()
    try:
        line["result"], line["wrong"] = check()
    except EdgeUNetError as error:
        line["problem"] = str(error)
    except Exception:  # the other checks are still worth their time
        line["problem"] = traceback.format_exc()
    return {**line, "seconds": round(time.monotonic() - started, 1)}


def check_kernels() -> Found:
    """See the module."""
    worst = kernel_differences()
    wrong = [f"{what}: {found}" for what, (found, most) in worst.items() if found > most]
    return {what: found for what, (found, _) in worst.items()}, wrong


def check_engine(bundle: Bundle) -> Found:
    """See the module."""
    most = DIFFER[bundle.manifest.precision]
    golden = bundle.golden().frames
    height, width = golden.shape[1:3]
    limit = min(BATCH, bundle.manifest.max_batch)
    frames = [golden[index % len(golden)] for index in range(FRAMES)]
    groups = [frames[at : at + limit] for at in range(0, FRAMES, limit)]
    groups += [frames[:count] for count in range(1, limit)]
    groups.append([frame[: height * 3 // 4, : width * 2 // 3] for frame in frames[:limit]])
    with _uncaptured() as uncaptured, Segmenter(bundle, TensorRTBackend(bundle)) as segmenter:
        backend = segmenter.backend
        assert isinstance(backend, NetBackend)
        figures: dict[str, Any] = {"golden": round(segmenter.self_check(), 6)}
        masks = [backend.segment(Batch.of(group)).masks for group in groups]
        for name in ("stream", "second stream"):
            streamed = [batch.masks for batch in backend.stream(map(Batch.of, groups))]
            figures[name] = _unequal(masks, streamed)
        figures["threads"] = _unequal(masks[:4], _in_threads(backend, groups[:4]))
        sure = backend.segment(Batch.of(groups[0], confidence=True))
        outputs = backend.net.infer(backend.preprocess(groups[0]))
        assert sure.confidence is not None
        own = backend.postprocess(*outputs, (height, width))
        confidence = backend.postprocess.confidence(*outputs, (height, width))
        off = np.abs(sure.confidence.astype(int) - confidence)
    with _reference(bundle) as cpu:
        wanted = [cpu.segment(Batch.of(group)).masks for group in (groups[0], groups[-1])]
        logits = cpu.net.infer(cpu.preprocess(groups[0])).logits
    figures["pixels unlike the CPU's"] = _share(wanted[0] != masks[0])
    figures["pixels unlike the CPU's, cropped"] = _share(wanted[1] != masks[-1])
    figures["pixels unlike its own logits"] = _share(own != masks[0])
    figures["confidence unlike its own logits"] = _share(off > SURE)
    figures["uncaptured"] = sorted(set(uncaptured))
    wrong = [
        f"{name}: {found}" for name, found in figures.items() if "unlike" in name and found > most
    ]
    wrong += [f"{name}: {figures[name]} batches differ" for name in _SAME if figures[name]]
    wrong += [f"no CUDA graph: {reason}" for reason in figures["uncaptured"]]
    figures["largest logit difference"] = float(np.abs(logits - outputs.logits).max())
    return figures, wrong


_SAME = ("stream", "second stream", "threads")


def _in_threads(backend: NetBackend, groups: Sequence[Sequence[Frame]]) -> list[Any]:
    """The masks of each group, computed by as many threads as there are groups."""
    masks: list[Any] = [None] * len(groups)

    def segment(index: int) -> None:
        masks[index] = backend.segment(Batch.of(groups[index])).masks

    threads = [threading.Thread(target=segment, args=(index,)) for index in range(len(groups))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return masks


@contextmanager
def _uncaptured() -> Iterator[list[str]]:
    """Why engines ran without a CUDA graph, by what the runtime logs."""
    reasons: list[str] = []

    class Reasons(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "without a CUDA graph" in record.getMessage():
                reasons.append(record.getMessage())

    logger, handler = logging.getLogger("edgeunet.runtime.gpu.engine.execution"), Reasons()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield reasons
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _reference(bundle: Bundle) -> NetBackend:
    """The engine's own graph on the CPU, with the CPU's pre- and post-processing."""
    flavour = load_toolkit("tensorrt").flavours[bundle.manifest.precision]
    net = TorchNet(bundle.file(bundle.model_path(flavour)).read())
    return NetBackend(bundle, net, name="PyTorch on the CPU")


def _unequal(wanted: Sequence[Any], found: Sequence[Any]) -> int:
    """Batches whose masks are not the same."""
    pairs = zip(wanted, found, strict=True)
    return sum(b is None or not np.array_equal(a, b) for a, b in pairs)


def _share(differing: Any) -> float:
    return float(np.mean(differing))


def _gate_frames(root: Path, bundle: Bundle) -> list[Frame]:
    path = root.with_suffix(".npz")
    if path.is_file():
        with np.load(path, allow_pickle=False) as data:
            return list(data["frames"])
    spec = bundle.manifest.input
    shape = (spec.height, spec.width, len(spec.frame_channels))
    rng = np.random.default_rng(0)
    levels = rng.permutation(np.linspace(-40, 290, FRAMES))
    return [np.clip(rng.integers(-60, 60, shape) + at, 0, 255).astype(np.uint8) for at in levels]


def check_gate(bundle: Bundle, frames: Sequence[Frame]) -> Found:
    """See the module."""
    most = DIFFER[bundle.manifest.precision]
    with _uncaptured() as uncaptured:
        found = time_early_exit(bundle, frames)
    wrong = [f"no CUDA graph: {reason}" for reason in sorted(set(uncaptured))]
    if found.differ > most:
        wrong.append(f"early exit changes {found.differ:.3%} of the pixels")
    if not 0 < found.skipped < found.frames:
        wrong.append(f"{found.skipped} of {found.frames} frames skip the decoder: nothing is shown")
    figures = {"frames": found.frames, "skipped": found.skipped, "differ": found.differ}
    return figures, wrong


def check_miou(bundle: Bundle, folder: Path) -> Found:
    """See the module."""
    classes = len(bundle.manifest.classes)
    samples, fit = list_split(folder).samples, Fit(bundle.manifest.input)
    frames = [fit.read(sample.image) for sample in samples]
    labels = [read_mask(sample.labels.path, num_classes=classes) for sample in samples]
    batch = min(BATCH, bundle.manifest.max_batch)
    masks, mious = [], []
    for open_backend in (TensorRTBackend, _reference):
        with Segmenter(bundle, open_backend(bundle)) as segmenter:
            found = [mask for _, mask in segmenter.stream(frames, batch=batch)]
        matrices = [
            confusion_matrix(truth, mask, num_classes=classes)
            for truth, mask in zip(labels, found, strict=True)
        ]
        mious.append(round(100 * mean_iou(np.sum(matrices, axis=0)), 3))
        masks.append(found)
    differ = float(np.mean([_share(a != b) for a, b in zip(*masks, strict=True)]))
    figures = {"frames": len(frames), "miou": mious[0], "miou on the CPU": mious[1]}
    figures["pixels unlike the CPU's"] = differ
    most = DIFFER[bundle.manifest.precision]
    return figures, [f"pixels unlike the CPU's: {differ}"] if differ > most else []


if __name__ == "__main__":
    main()
