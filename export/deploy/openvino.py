"""Target `openvino`: a model of OpenVINO from frames to masks, proved on its own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import ExportError, OutputError
from edgeunet.parity.pixels import MasksOf
from edgeunet.runtime.backends.openvino_library import load_openvino, reason

from .base import Deployment, Target

NAME = "model.xml"


def write(deployment: Deployment) -> None:
    """Convert the graph from frames to masks, run it, and write a page about it."""
    openvino = load_openvino()
    flavour = deployment.flavour
    graph = deployment.write_pixels("model.onnx", flavour)
    path = deployment.folder / NAME
    try:
        model = openvino.Core().read_model(graph)
        _keep_metadata(model, graph)
        _save(model, path)
        run = _runner(deployment.folder, flavour)
    except RuntimeError as error:  # whatever OpenVINO finds wrong
        raise ExportError(
            f"OpenVINO {openvino.__version__} does not take the graph {flavour}: "
            f"{reason(error)} Deploy another flavour, such as fp32."
        ) from None
    graph.unlink()
    deployment.prove(NAME, run, flavour)
    deployment.write_page("openvino/README.md", name=NAME)


def _save(model: Any, path: Path) -> None:
    openvino = load_openvino()
    try:
        # Weights stay as they are: in a graph of FP16 they have 16 bits already.
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # of a full disk it says "iostream error"
        raise OutputError(
            f"OpenVINO cannot write {path.name}: {reason(error)} See whether the disk is full, "
            "or choose another output."
        ) from None


def _keep_metadata(model: Any, graph: Path) -> None:
    """Give the model what the graph's metadata say, in the places where OpenVINO's tools look."""
    for prop in onnx.load(graph).metadata_props:
        group, _, key = prop.key.partition(" ")
        if key:  # `model_info labels`, of the Model API
            model.set_rt_info(prop.value, [group, key])
        elif group.startswith("edgeunet_"):
            model.set_rt_info(prop.value, ["edgeunet", group.removeprefix("edgeunet_")])


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    """The model on the CPU, in FP32: newer processors compute in BF16 unless that is asked for."""
    openvino = load_openvino()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(folder / NAME, "CPU", settings)

    def run(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        masks: npt.NDArray[np.uint8] = compiled({"frames": frames})["masks"]
        return masks

    return run


TARGET = Target(
    name="openvino",
    makes="a model of OpenVINO from frames to masks",
    needs="OpenVINO (`pip install openvino`), also to deploy",
    flavours=("int8.openvino", "fp32", "fp16", "int8.cpu"),
    write=write,
    options=("pixels", "confidence"),
    runner=_runner,
)
