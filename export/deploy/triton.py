"""Target `triton`: model repositories for NVIDIA's Triton Inference Server.

`onnx/` holds a graph from frames to masks for the server's ONNX Runtime backend, `python/` the
bundle and a program for its Python backend, which runs edgeunet's own runtime. Both take and give
the same. A TensorRT plan is not among them: a bundle's engines take planes and give logits.

Layout and keys: Triton's user guide, "Model Repository" and "Model Configuration"
(`model_config.proto`), and the README of its `onnxruntime_backend`.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import Final

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import UsageError, printable

from ..graphs.pixels import check_form
from .base import TEMPLATES, Deployment, Target

# By the graphs that the target takes, the best one first. int8 is for TensorRT, which needs a GPU.
_INSTANCES: Final[dict[Flavour, str]] = {
    "int8.cpu": "KIND_CPU",
    "fp16": "KIND_GPU",
    "fp32": "KIND_AUTO",
    "int8": "KIND_GPU",
}
_TYPES = {
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "int16": "TYPE_INT16",
    "float32": "TYPE_FP32",
}


def write(deployment: Deployment) -> None:
    """Write both repositories; that of a graph only if one can prepare the net's frames."""
    bundle, flavour = deployment.bundle, deployment.flavour
    name = _model_name(bundle.manifest.model)
    no_graph = ""
    try:
        check_form(bundle.manifest.input, deployment.options.form)
    except UsageError as error:
        no_graph = str(error)
        deployment.report(f"without onnx: {no_graph}")
    else:
        deployment.write_pixels(f"onnx/{name}/1/model.onnx", flavour)
        _configure(
            deployment,
            f"onnx/{name}",
            backend="onnxruntime",
            instances=_INSTANCES[flavour],
            tensorrt=flavour == "int8",
            warms_up=True,
            parameters={},
        )
    _write_python(deployment, f"python/{name}_python")
    manifest = bundle.manifest
    deployment.write_template(
        "triton/README.md",
        "README.md",
        model=manifest.model,
        name=name,
        flavour=flavour,
        no_graph=no_graph,
        **_interface(deployment),
        size=_size_in_words(deployment),
        max_batch=manifest.max_batch,
        classes=manifest.classes,
    )


def _write_python(deployment: Deployment, folder: str) -> None:
    """A copy of the bundle, which must give the masks that it promises, and what runs it."""
    place = deployment.folder / folder / "1"
    precision = deployment.flavour.partition(".")[0]
    deployment.copy_bundle(f"{folder}/1/bundle", deployment.flavour)
    shutil.copyfile(TEMPLATES / "triton" / "model.py", place / "model.py")
    _configure(
        deployment,
        folder,
        backend="python",
        instances="KIND_AUTO",
        tensorrt=False,
        warms_up=False,
        parameters={"backend": "auto", "precision": precision},
    )


def _configure(
    deployment: Deployment,
    folder: str,
    *,
    backend: str,
    instances: str,
    tensorrt: bool,
    warms_up: bool,
    parameters: dict[str, str],
) -> None:
    """Write a model's configuration, and its labels if an output has one value for each class.

    Args:
        instances: on which processors the server starts the model. tensorrt: whether ONNX Runtime
            is to use it. warms_up: whether the server is to run the model once before clients do.
    """
    manifest = deployment.bundle.manifest
    interface = _interface(deployment)
    known = {"classes": json.dumps(manifest.classes), "palette": json.dumps(manifest.palette)}
    deployment.write_template(
        "triton/config.pbtxt",
        f"{folder}/config.pbtxt",
        backend=backend,
        instances=instances,
        tensorrt=tensorrt,
        warms_up=warms_up,
        parameters={**known, **parameters},
        max_batch=manifest.max_batch,
        classes=len(manifest.classes),
        kind=_TYPES[manifest.input.depth],
        **interface,
    )
    if interface["gated"]:
        names = [printable(" ".join(name.split())) or "_" for name in manifest.classes]
        path = deployment.folder / folder / "labels.txt"
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _interface(deployment: Deployment) -> dict[str, object]:
    """What both repositories take and give, for the templates. A side of -1 may have any size."""
    manifest, form = deployment.bundle.manifest, deployment.options.form
    spec = manifest.input
    return {
        "sides": (-1, -1) if _takes_any_size(deployment) else (spec.height, spec.width),
        "height": spec.height,
        "width": spec.width,
        "channels": spec.frame_channels,
        "depth": spec.depth,
        "gated": manifest.gate is not None,
        "confidence": form.confidence,
    }


def _takes_any_size(deployment: Deployment) -> bool:
    """A net with a window sees frames of their own size."""
    return deployment.options.form.any_size or deployment.bundle.manifest.input.window is not None


def _size_in_words(deployment: Deployment) -> str:
    spec = deployment.bundle.manifest.input
    if _takes_any_size(deployment):
        return "any size, one in each request"
    return f"{spec.height}x{spec.width}"


def _model_name(model: str) -> str:
    """A folder's name, which is part of addresses too."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", model)[:64].strip("_") or "model"


TARGET = Target(
    name="triton",
    makes="two model repositories: a graph from frames to masks, and the bundle with a program",
    needs="Triton Inference Server with its ONNX Runtime backend, or with its Python backend and "
    "edgeunet with [cpu] beside it",
    flavours=tuple(_INSTANCES),
    write=write,
    options=("pixels", "confidence"),
)
