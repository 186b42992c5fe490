"""Target `onnx`: one ONNX file from frames to masks, for any program that has ONNX Runtime."""

from __future__ import annotations

from typing import get_args

from edgeunet.bundle.manifest import Flavour

from .base import Deployment, Target

NAME = "model.onnx"


def write(deployment: Deployment) -> None:
    """Write the graph, and a page that says how to call it."""
    manifest, form = deployment.bundle.manifest, deployment.options.form
    deployment.write_pixels(NAME, deployment.flavour)
    spec = manifest.input
    deployment.write_template(
        "onnx/README.md",
        "README.md",
        name=NAME,
        model=manifest.model,
        flavour=deployment.flavour,
        size="any size, one in each batch" if form.any_size else f"{spec.height}x{spec.width}",
        height=spec.height,
        width=spec.width,
        depth=spec.depth,
        channels=spec.frame_channels,
        classes=manifest.classes,
        gated=manifest.gate is not None,
        confidence=form.confidence,
    )


TARGET = Target(
    name="onnx",
    makes="one ONNX file from frames to masks",
    needs="ONNX Runtime, or another program that reads ONNX (opset 17 and com.microsoft for INT8)",
    flavours=("int8.cpu", "fp32", *(f for f in get_args(Flavour) if f not in ("int8.cpu", "fp32"))),
    write=write,
    options=("pixels", "confidence"),
)
