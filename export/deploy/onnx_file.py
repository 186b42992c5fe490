"""Target `onnx`: one ONNX file from frames to masks, for any program that has ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from edgeunet.bundle.manifest import Flavour
from edgeunet.parity.pixels import MasksOf
from edgeunet.runtime.backends.ort import OrtNet

from .base import Deployment, Target

NAME = "model.onnx"


def write(deployment: Deployment) -> None:
    """Write the graph, and a page that says how to call it."""
    deployment.write_pixels(NAME, deployment.flavour)
    deployment.write_page("onnx/README.md", name=NAME)


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    net = OrtNet(folder / NAME, flavour=flavour)
    return lambda frames: net.run(frames)[0]


TARGET = Target(
    name="onnx",
    makes="one ONNX file from frames to masks",
    needs="ONNX Runtime, or another program that reads ONNX (opset 17 and com.microsoft for INT8)",
    flavours=("int8.cpu", "fp32", *(f for f in get_args(Flavour) if f not in ("int8.cpu", "fp32"))),
    write=write,
    options=("pixels", "confidence"),
    runner=_runner,
)
