"""One step of `gpu.py`, which runs each in a process of its own; the last line is the result.

python benchmarks/gpu_job.py machine | kernels | engine BUNDLE PRECISION | early-exit BUNDLE NPZ
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
from gpu_engine import time_early_exit, time_engine
from gpu_kernels import time_kernels

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Precision
from edgeunet.doctor import environment
from edgeunet.errors import EdgeUNetError
from edgeunet.runtime.gpu.cuda import CudaDevice
from edgeunet.runtime.gpu.engine import load_toolkit


def job(arguments: Sequence[str]) -> Any:
    """The result of a step, JSON-ready; {"problem": …} where there is none."""
    step, *rest = arguments
    try:
        with CudaDevice() as device:  # held, so that the GPU's context lives from first to last
            if step == "machine":
                return _machine(device)
            if step == "kernels":
                return [asdict(time_kernels(*case)) for case in KERNEL_CASES]
            bundle = open_bundle(rest[0])
            if step == "engine":
                return asdict(time_engine(bundle.at(cast(Precision, rest[1]))))
            with np.load(rest[1], allow_pickle=False) as data:
                return asdict(time_early_exit(bundle.at("fp16"), list(data["frames"])))
    except EdgeUNetError as error:
        return {"problem": str(error)}
    except Exception:
        return {"problem": traceback.format_exc()}


KERNEL_CASES: tuple[tuple[Precision, int, tuple[int, int]], ...] = tuple(
    (precision, classes, (352, 480))
    for precision in cast("tuple[Precision, ...]", ("fp16", "fp32"))
    for classes in (2, 11)
)


def _machine(device: CudaDevice) -> dict[str, str | None]:
    """The card and what is installed. Without TensorRT: why, since the kernels need none."""
    found = {"gpu": device.name, "capability": device.capability, "cuda": device.driver}
    try:
        tensorrt = {"tensorrt": load_toolkit("tensorrt").version}
    except EdgeUNetError as error:
        tensorrt = {"tensorrt": None, "without_tensorrt": str(error)}
    return {**environment(), **found, **tensorrt}


if __name__ == "__main__":
    print(json.dumps(job(sys.argv[1:])))
