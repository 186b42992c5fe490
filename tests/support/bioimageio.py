"""Packages of BioImage.IO with a small net of random weights, valid for bioimageio.spec."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from edgeunet.exporting.options import ExportOptions
from edgeunet.exporting.origins import open_origin
from edgeunet.exporting.origins.base import Origin

Array = npt.NDArray[Any]
SIZE = (32, 48)


def image(channels: int = 1, *, depth: str = "uint8", size: tuple[int, int] = SIZE) -> Array:
    """A test image (1, C, H, W) of blobs and noise."""
    random = np.random.default_rng(3)
    blocks = random.integers(20, 200, (1, channels, size[0] // 8, size[1] // 8))
    large = blocks.repeat(8, 2).repeat(8, 3) + random.integers(-19, 20, (1, channels, *size))
    scale = {"uint8": 1, "uint16": 16, "float32": 1 / 255}[depth]
    return (large * scale).astype(depth)


def net(inputs: int = 1, outputs: int = 1, *ends: str, apart: float = 0.4) -> onnx.ModelProto:
    """Two convolutions of any size, with these operators behind them.

    apart: largest bias of a class; where classes are close, rounding decides.
    """
    random = np.random.default_rng(0)
    first = random.normal(0, 0.4, (6, inputs, 3, 3)).astype(np.float32)
    second = random.normal(0, 0.4, (outputs, 6, 3, 3)).astype(np.float32)
    names = ["logits", *(f"end_{number}" for number in range(len(ends)))]
    nodes = [
        helper.make_node("Conv", ["raw", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1", "bias"], ["logits"], pads=[1] * 4),
        *(
            helper.make_node(op, [before], [after])
            for op, before, after in zip(ends, names, names[1:], strict=False)
        ),
    ]
    sides = ["n", "height", "width"]
    shapes = [[sides[0], count, *sides[1:]] for count in (inputs, outputs)]
    bias = np.linspace(-apart, apart, outputs) if outputs > 1 else np.full(1, -0.5)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shapes[1])],
        [
            numpy_helper.from_array(first, "w0"),
            numpy_helper.from_array(second, "w1"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model: onnx.ModelProto, values: Array) -> Array:
    """What the net answers to its input, by ONNX's own evaluator."""
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(model).run(None, {"raw": values.astype(np.float32)})
    return np.asarray(found)


def opened(folder: Path, **options: Any) -> Origin:
    """The origin of a package, as the command line opens it."""
    return open_origin(ExportOptions(f"bioimageio:{folder}", **options))


def sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))))


def package(
    folder: Path,
    version: str = "0.5",
    *,
    shown: Array | None = None,
    before: Callable[[Array], Array] = lambda values: values,
    after: Callable[[Array], Array] = lambda values: values,
    pre: Sequence[dict[str, Any]] = (),
    post: Sequence[dict[str, Any]] = (),
    model: onnx.ModelProto | None = None,
    channels: Sequence[str] = ("gray",),
    classes: Sequence[str] = ("cell",),
    halo: int = 0,
    dtype: str = "float32",
    **changes: Any,
) -> Path:
    """Write a package. before, after: what `pre` and `post` compute, for the test output.

    Args:
        changes: top-level keys of the description.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = image(len(channels)) if shown is None else shown
    model = net(len(channels), len(classes)) if model is None else model
    onnx.save(model, folder / "weights.onnx")
    np.save(folder / "input.npy", shown)
    wanted = after(answer(model, before(shown.astype(np.float64)))).astype(np.float32)
    np.save(folder / "output.npy", wanted)
    (folder / "README.md").write_text("# Documentation\n\n## Validation\n\nnone\n")
    content = _common(folder) | (_older if version == "0.4" else _newer)(
        folder, list(pre), list(post), list(channels), list(classes), halo, dtype
    )
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """The files of a folder in a ZIP file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def _common(folder: Path) -> dict[str, Any]:
    return {
        "type": "model",
        "name": "a small net of random weights",
        "description": "for tests",
        "authors": [{"name": "nobody"}],
        "cite": [{"text": "nothing", "url": "https://example.org"}],
        "license": "MIT",
        "documentation": "README.md",
        "tags": ["test"],
    }


def _file(folder: Path, name: str) -> dict[str, Any]:
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return {"source": name, "sha256": digest}


def _newer(
    folder: Path,
    pre: list[Any],
    post: list[Any],
    channels: list[str],
    classes: list[str],
    halo: int,
    dtype: str,
) -> dict[str, Any]:
    def axes(names: list[str], tensor: str | None) -> list[dict[str, Any]]:
        sides = [
            {
                "type": "space",
                "id": axis,
                "size": {"min": 16, "step": 8} if tensor is None else
                {"tensor_id": tensor, "axis_id": axis},
                **({"halo": halo} if halo and tensor else {}),
            }
            for axis in "yx"
        ]  # fmt: skip
        return [{"type": "batch"}, {"type": "channel", "channel_names": names}, *sides]

    return {
        "format_version": "0.5.3",
        "inputs": [
            {
                "id": "raw",
                "axes": axes(channels, None),
                "data": {"type": dtype},
                "preprocessing": pre,
                "test_tensor": _file(folder, "input.npy"),
            }
        ],
        "outputs": [
            {
                "id": "map",
                "axes": axes(classes, "raw"),
                "postprocessing": post,
                "test_tensor": _file(folder, "output.npy"),
            }
        ],
        "weights": {"onnx": {**_file(folder, "weights.onnx"), "opset_version": 17}},
    }


def _older(
    folder: Path,
    pre: list[Any],
    post: list[Any],
    channels: list[str],
    classes: list[str],
    halo: int,
    dtype: str,
) -> dict[str, Any]:
    return {
        "format_version": "0.4.10",
        "timestamp": "2024-01-01T00:00:00",
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": dtype,
                "shape": {"min": [1, len(channels), 16, 16], "step": [0, 0, 8, 8]},
                "preprocessing": pre,
            }
        ],
        "outputs": [
            {
                "name": "map",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {
                    "reference_tensor": "raw",
                    "scale": [1, 0, 1, 1] if len(classes) > 1 else [1, 1, 1, 1],
                    "offset": [0, len(classes) / 2 if len(classes) > 1 else 0, 0, 0],
                },
                "halo": [0, 0, halo, halo],
                "postprocessing": post,
            }
        ],
        "test_inputs": ["input.npy"],
        "test_outputs": ["output.npy"],
        "weights": {"onnx": {**_file(folder, "weights.onnx"), "opset_version": 17}},
    }
