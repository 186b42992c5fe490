"""OpenVINO beside the bundle: `pip install openvino nncf`, for this comparison only."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Net = Callable[[Logits], Logits]

NEEDED = ("openvino", "nncf")


def openvino_nets(graph: Path, images: Sequence[Logits], *, threads: int) -> dict[str, Net]:
    """The FP32 graph, and the same quantized by NNCF's defaults on `images` (1, C, H, W).

    Empty where OpenVINO or NNCF is not installed. FP32 is asked for by name: on processors with
    BF16 OpenVINO would else compute in that.
    """
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        return {}
    import nncf

    from edgeunet.runtime.backends.openvino_library import openvino_core

    logging.getLogger("nncf").setLevel(logging.ERROR)
    core = openvino_core()
    model = core.read_model(graph)
    model.reshape({"image": images[0].shape})
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    quantized = nncf.quantize(model, nncf.Dataset(list(images)), subset_size=len(images))
    return {
        "OpenVINO FP32": _net(
            core.compile_model(model, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
        ),
        "OpenVINO INT8 (NNCF)": _net(core.compile_model(quantized, "CPU", settings)),
    }


def _net(compiled: Callable[[Logits], Sequence[Logits]]) -> Net:
    return lambda image: compiled(image)[0]
