"""TensorRT engines on the GPU at hand: right, how fast, and against what the card can do.

    python benchmarks/gpu.py BUNDLES [-o DIR] [--torch PYTHON] [--minutes 8]

BUNDLES is what `gpu_bundles.py` wrote. Needs TensorRT 8.6 or newer, PyCUDA and nvcc, no network and
no PyTorch; with `--torch` the interpreter that has it times the same nets there. Each engine is
built, checked against its bundle's golden frames, and only then timed: the engine alone with CUDA
events, the whole way from host frames to host masks with the wall clock, the kernels against a copy
on the device in the same run. `gpu.json` and `gpu.md` hold what was measured, and what there was no
time for by name.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from gpu_early_exit import EarlyExit, time_early_exit
from gpu_engine import EngineTimes, time_engine
from gpu_kernels import KernelTimes, time_kernels
from gpu_report import markdown

from edgeunet.doctor import environment
from edgeunet.errors import EdgeUNetError
from edgeunet.manifest import Precision
from edgeunet.runtime.bundle import Bundle, open_bundle
from edgeunet.runtime.cuda import CudaDevice
from edgeunet.runtime.engine import load_toolkit

KERNEL_SIZE = (352, 480)


@click.command()
@click.argument("bundles", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path())
@click.option("--torch", "torch_python", help="Python interpreter that has PyTorch.")
@click.option("--minutes", default=8.0, show_default=True, help="Begin nothing new afterwards.")
def main(bundles: Path, output: Path, torch_python: str | None, minutes: float) -> None:
    """Build, check, time, write."""
    end = time.monotonic() + 60 * minutes
    opened = {path.parent.name: path.parent for path in sorted(bundles.glob("*/manifest.json"))}
    if not opened:
        raise click.UsageError(f"{bundles} holds no bundle; gpu_bundles.py makes them.")
    report: dict[str, Any] = {"machine": _machine(), "engines": [], "left_out": []}

    def write() -> None:  # after each step: a run that is cut short leaves what it measured
        output.mkdir(parents=True, exist_ok=True)
        (output / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (output / "gpu.md").write_text(markdown(report))

    report["kernels"] = [asdict(row) for row in _kernels()]
    write()
    if torch_python is not None:
        report["torch"] = _torch(torch_python, bundles)
        write()
    for precision in ("fp16", "fp32", "int8"):
        for name, path in opened.items():
            if time.monotonic() > end:
                report["left_out"].append(f"{name} {precision}")
                continue
            report["engines"].append(_row(name, open_bundle(path), precision))
            click.echo(report["engines"][-1], err=True)
            write()
    for name, path in opened.items():
        frames = path.with_suffix(".npz")
        if frames.is_file() and time.monotonic() < end:
            report["early_exit"] = asdict(_early_exit(open_bundle(path), frames))
        elif frames.is_file():
            report["left_out"].append(f"{name} early exit")
    write()
    click.echo(markdown(report))


def _machine() -> dict[str, str]:
    with CudaDevice() as device:
        found = {"gpu": device.name, "capability": device.capability, "cuda": device.driver}
    return {**found, "tensorrt": load_toolkit("tensorrt").version, **environment()}


def _row(name: str, bundle: Bundle, precision: Precision) -> dict[str, Any]:
    """Times of one engine, or what kept it from giving any."""
    assert precision in get_args(Precision)
    row: dict[str, Any] = {"bundle": name, "precision": precision}
    try:
        times: EngineTimes = time_engine(bundle.at(precision))
    except EdgeUNetError as error:
        return {**row, "problem": str(error)}
    return {**row, **asdict(times)}


def _kernels() -> Iterator[KernelTimes]:
    for precision in ("fp16", "fp32"):
        for classes in (2, 11):
            yield time_kernels(precision, classes=classes, batch=8, size=KERNEL_SIZE)


def _early_exit(bundle: Bundle, frames: Path) -> EarlyExit:
    with np.load(frames, allow_pickle=False) as data:
        return time_early_exit(bundle.at("fp16"), list(data["frames"]))


def _torch(python: str, bundles: Path) -> Any:
    """What PyTorch does with the same nets, in a process of its own."""
    script = Path(__file__).with_name("gpu_torch.py")
    done = subprocess.run([python, script, bundles], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"problem": done.stderr[-2000:]}
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
