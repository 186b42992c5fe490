"""One step of `zoo.py` on one net, in a process of its own; the last line of its output is JSON.

python benchmarks/zoo_job.py sweep | train | prove | time NAME FOLDER
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from zoo_nets import ZOO, Architecture, Logits
from zoo_train import (
    GRAPHS,
    TRAINED_GRAPHS,
    file_stem,
    kept_graphs,
    load_trained,
    open_cells,
    recipe_of,
    settle,
    train,
)

import edgeunet
from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Flavour, Precision, flavour_file
from edgeunet.data.cells import CLASSES, snapshots
from edgeunet.doctor import environment
from edgeunet.errors import EdgeUNetError, MissingDependencyError
from edgeunet.latency import median_latencies
from edgeunet.parity import ParityReport
from edgeunet.runtime.backends.ort import OrtNet, open_flavour
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.gpu.engine import build_bundle_engine

Line = dict[str, Any]

COMPARED: dict[str, Flavour] = {
    "FP32": "fp32",
    "FP16": "fp16",
    "INT8 CPU": "int8.cpu",
    "INT8 TensorRT": "int8",
    "INT8 over FP16": "int8.fp16",
}
TIMED: tuple[Flavour, ...] = ("fp32", "int8.cpu")
SWEEP_TRAIN, SWEEP_VAL = 12, 4
"""Frames that random nets are calibrated and compared on."""
FRAMES = 4
"""Frames that SNR and times are measured on."""
_STEPS = ("trace", "FP16", "calibration", "INT8", "lint", "golden frames", "parity")
_ANY_LOSS = 100.0  # points of mIoU: what a net with random weights loses says nothing


class Steps:
    """Follows the steps of an export, so that one that fails can be named."""

    def __init__(self) -> None:
        self.last = _STEPS[0]  # opening the net checks and traces it

    def __call__(self, text: str) -> None:
        """Note a message of the export; not each is a step."""
        self.last = next((step for step in _STEPS if text.startswith(step)), self.last)


def sweep(architecture: Architecture, folder: Path) -> Line:
    """Export a net with random weights, compare all graphs with PyTorch, and build for RTX."""
    data = open_cells(folder / "few cells", train=SWEEP_TRAIN, val=SWEEP_VAL)
    net = architecture.make()
    settle(net, architecture.spec, data)
    found: Line = {"parameters": sum(p.numel() for p in net.parameters())}
    with TemporaryDirectory() as scratch:
        bundle, steps = Path(scratch) / "bundle", Steps()
        try:
            report = _export(
                net,
                bundle,
                architecture,
                data.root,
                steps,
                calib_method="percentile",
                max_iou_drop=_ANY_LOSS,
            )
        except EdgeUNetError as error:
            return {**found, "refused": {"step": steps.last, "reason": str(error)}}
        found["agreement"] = _agreements(report)
        found["snr"] = _snr(net, open_bundle(bundle), architecture)
        found["rtx"] = _build_for_rtx(bundle)
        _keep_graphs(bundle, folder / GRAPHS / file_stem(architecture.name))
    return found


def train_net(architecture: Architecture, folder: Path) -> Line:
    """Train from where an earlier run stopped."""
    miou = train(
        architecture,
        folder / "cells",
        folder / "weights",
        recipe_of(architecture),
        report=lambda text: print(text, file=sys.stderr, flush=True),
    )
    return {"miou": miou}


def prove(architecture: Architecture, folder: Path) -> Line:
    """Export a trained net with the budget that a user has, and compare all graphs with PyTorch."""
    net, miou = load_trained(architecture, folder / "weights")
    data = open_cells(folder / "cells")
    with TemporaryDirectory() as scratch:
        bundle, steps = Path(scratch) / "bundle", Steps()
        try:
            report = _export(net, bundle, architecture, data.root, steps)
        except EdgeUNetError as error:
            return {"miou": miou, "refused": {"step": steps.last, "reason": str(error)}}
        opened = open_bundle(bundle)
        found = {
            "miou": report.reference_miou,
            "agreement": _agreements(report),
            "drop": {name: stage.drop for name, stage in _stages(report).items()},
            "snr": _snr(net, opened, architecture),
            "floats": [fallback.layer for fallback in report.fallbacks],
        }
        _keep_graphs(bundle, folder / TRAINED_GRAPHS / file_stem(architecture.name))
    return found


def time_graphs(architecture: Architecture, folder: Path, *, rounds: int = 8) -> Line:
    """Median milliseconds of the graphs that were kept, those of the trained net if there are."""
    kept = kept_graphs(folder, architecture)
    assert kept is not None, "no graphs to time"
    threads = torch.get_num_threads()
    turns = cycle(_images(architecture))
    nets = {f: OrtNet(kept / flavour_file(f), flavour=f, threads=threads) for f in TIMED}
    calls: dict[str, Callable[[], object]] = {
        flavour: (lambda net=net: net.infer(next(turns))) for flavour, net in nets.items()
    }
    load = os.getloadavg()[0]
    medians = median_latencies(calls, rounds=rounds)
    return {
        "ms": medians,
        "threads": threads,
        "load": load,
        "trained": kept.parent.name == TRAINED_GRAPHS,
    }


def machine() -> dict[str, str]:
    """Processor, the instructions that INT8 lives on, and versions."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.exists() else set()
    return {
        **environment(),
        "vnni": "yes" if flags & {"avx512_vnni", "avx_vnni"} else "no",
        "amx": "yes" if "amx_int8" in flags else "no",
        "architecture": platform.machine(),
    }


def _export(
    net: nn.Module,
    bundle: Path,
    architecture: Architecture,
    cells: Path,
    steps: Steps,
    **options: Any,
) -> ParityReport:
    """Write a bundle of all graphs, calibrated and measured on a data set of cells."""
    return edgeunet.export(
        net,
        bundle,
        size=architecture.size,
        classes=CLASSES,
        precision="int8",
        calib=cells,
        data=cells,
        report=steps,
        **options,
    )


def _stages(report: ParityReport) -> dict[str, Any]:
    by_name = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8 CPU", "trt int8": "INT8 TensorRT"}
    by_name["trt int8.fp16"] = "INT8 over FP16"
    return {by_name[stage.name]: stage for stage in report.stages if stage.name in by_name}


def _agreements(report: ParityReport) -> dict[str, float]:
    return {name: stage.agreement for name, stage in _stages(report).items()}


@torch.inference_mode()
def _snr(net: nn.Module, bundle: Bundle, architecture: Architecture) -> dict[str, float]:
    """Signal to noise of the logits of each graph against PyTorch, dB.

    The signal is what the logits of a class deviate from their mean: a constant carries nothing.
    """
    images = _images(architecture)
    logits = Logits(net).eval()
    wanted = np.concatenate([logits(torch.from_numpy(image)).numpy() for image in images])
    signal = float(np.square(wanted - wanted.mean((0, 2, 3), keepdims=True)).sum())
    found = {}
    for name, flavour in COMPARED.items():
        with open_flavour(bundle, flavour) as backend:
            got = np.concatenate([backend.net.infer(image).logits for image in images])
        noise = float(np.square(got - wanted).sum())
        found[name] = round(10 * float(np.log10(signal / max(noise, 1e-30))), 1)
    return found


def _images(architecture: Architecture) -> list[npt.NDArray[np.float32]]:
    """Inputs (1, C, H, W) of frames that no data set here holds."""
    height, width = architecture.size
    prepare = Preprocessor(architecture.spec)
    return [prepare([f.image]) for f in snapshots(FRAMES, height=height, width=width, seed=9)]


def _build_for_rtx(bundle: Path) -> dict[str, str]:
    """By precision "built", or why not."""
    found = {}
    for precision in ("fp16", "int8"):
        try:
            build_bundle_engine(bundle, runtime="rtx", precision=cast(Precision, precision))
            found[precision] = "built"
        except MissingDependencyError:
            return {}
        except EdgeUNetError as error:
            found[precision] = str(error).replace(f"{bundle}/", "")
    return found


def _keep_graphs(bundle: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for flavour in TIMED:
        shutil.copy2(bundle / flavour_file(flavour), folder / flavour_file(flavour))


JOBS: dict[str, Callable[[Architecture, Path], Line]] = {
    "sweep": sweep,
    "train": train_net,
    "prove": prove,
    "time": time_graphs,
}


def run_job(job: str, name: str, folder: Path) -> Line:
    """The result of a job; {"fault": …} for an error that nobody raised on purpose."""
    try:
        found = JOBS[job](ZOO[name], folder)
    except Exception:
        found = {"fault": traceback.format_exc(limit=-6)}
    return {"job": job, "name": name, **found, "machine": machine()}


if __name__ == "__main__":
    print(json.dumps(run_job(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
