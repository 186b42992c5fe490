"""The nets of BioImage.IO's packages: ONNX files, and state dicts of libraries that are known."""

from __future__ import annotations

import importlib
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import CheckpointError, ExportError, UsageError, did_you_mean

from ..options import ExportOptions
from .base import Origin
from .bioimageio_package import File, Package, quoted
from .bioimageio_rdf import Description
from .bioimageio_steps import Clip, Head, Values
from .onnx_file import OnnxOrigin, open_session
from .onnx_head import find_head
from .onnx_reading import image_input, open_graph

if TYPE_CHECKING:
    from torch import nn

_MONAI = re.compile(r"monai\.networks\.nets(\.\w+)?")
_SMP = re.compile(r"segmentation_models_pytorch(\.\w+)*")


class PackagedNet(ABC):
    """A net of a package, as it came.

    weights: name of the format. dtype: of its input.
    """

    weights: str
    dtype: str = "float32"

    @abstractmethod
    def answer(self, image: Values) -> Values:
        """The net's input, in the axes of the description -> its output, in those of its own."""

    @abstractmethod
    def origin(self, names: tuple[str, ...]) -> Origin:
        """What becomes a bundle, with what clips the input and what decides on the output.

        Args:
            names: of the classes, as `named_classes` takes them.
        """


def open_net(
    package: Package,
    description: Description,
    number: int,
    spec: InputSpec,
    clip: Clip | None,
    head: Head,
    options: ExportOptions,
) -> PackagedNet:
    """The net of a package: its ONNX weights, else a state dict.

    Args:
        number: of the output. spec: how frames become its input.

    Raises:
        CheckpointError: other weights only, or such that do not fit.
    """
    weights, axes = description.weights, description.input.axes
    if "onnx" in weights:
        if len(axes) != 4:
            raise CheckpointError(
                f"the net takes the axes {quoted(axes)}; expected bcyx or byxc in ONNX."
            )
        return _Onnx(package, weights["onnx"], number, spec, clip, head)
    if "pytorch_state_dict" in weights:
        if axes != "bcyx":
            raise CheckpointError(f"the net takes the axes {quoted(axes)}; expected bcyx.")
        entry = weights["pytorch_state_dict"]
        return _StateDict(package, entry, number, spec, clip, head, options)
    remedy = "Export the net to ONNX where you trust its code"
    if "torchscript" in weights:
        remedy = "TorchScript holds code, which is never run. " + remedy
    raise CheckpointError(
        f"its weights are {', '.join(map(quoted, weights)) or 'missing'}; expected onnx or "
        f"pytorch_state_dict. {remedy}, or add it: bioimageio add-weights PACKAGE OUTPUT "
        "--target-format onnx."
    )


class _Onnx(PackagedNet):
    """ONNX weights, with what the description says around them."""

    weights = "onnx"

    def __init__(
        self,
        package: Package,
        entry: Mapping[str, Any],
        number: int,
        spec: InputSpec,
        clip: Clip | None,
        head: Head,
    ) -> None:
        path = package.file(File.of(dict(entry)))
        if entry.get("external_data") is not None:
            package.file(File.of(entry["external_data"]))
        file = open_graph(path)
        proto = file.original
        image_input(file.model)
        if number >= len(proto.graph.output):
            raise CheckpointError(
                f"{path} has {len(proto.graph.output)} outputs; the description has more."
            )
        _, inside = find_head(file.model.graph.outputs[number])
        if inside.activation == "sigmoid" and head.channel is None and head.channels > 1:
            raise CheckpointError(
                f"{path.name} has a sigmoid over {head.channels} channels, so that they may "
                "overlap; a bundle has one class for each pixel. Choose one: --arch channel=N."
            )
        output = proto.graph.output[number]
        self._spec, self._name = spec, path.name
        self._around = onnx.ModelProto()
        self._around.CopyFrom(proto)
        self._answer = _wrap(self._around, number, clip, head)
        inputs = {each.name: each for each in proto.graph.input}
        weights = {each.name for each in proto.graph.initializer}
        types = [each.type.tensor_type.elem_type for name, each in inputs.items()
                 if name not in weights]  # fmt: skip
        self.dtype = str(helper.tensor_dtype_to_np_dtype(types[0])) if types else "float32"
        self._net = open_session(proto, [output.name], path)

    def answer(self, image: Values) -> Values:
        """See `PackagedNet`."""
        return np.asarray(self._net.run(image)[0])

    def origin(self, names: tuple[str, ...]) -> Origin:
        """See `PackagedNet`."""
        spec = self._spec
        with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
            path = Path(folder) / self._name
            onnx.save(self._around, path)
            try:
                size = (spec.height, spec.width)
                origin = OnnxOrigin(path, size=size, output=self._answer, classes=names, spec=spec)
            except (UsageError, ExportError) as error:
                raise type(error)(str(error).replace(f"{folder}/", "")) from None
        origin.path = Path(self._name)
        return origin


def _wrap(proto: onnx.ModelProto, number: int, clip: Clip | None, head: Head) -> str:
    """Put a Clip in front of a graph, and what decides behind it; the new name of the output."""
    graph = proto.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}

    def new(name: str) -> str:
        while name in used:
            name += "_"
        used.add(name)
        return name

    def constant(name: str, values: Any) -> str:
        chosen = new(name)
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), chosen))
        return chosen

    if clip is not None:
        weights = {each.name for each in graph.initializer}
        (image,) = (each for each in graph.input if each.name not in weights)
        dtype = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
        limits = [
            constant(f"clip_{each}", np.array(value, dtype)) if np.isfinite(value) else ""
            for each, value in (("low", clip.low), ("high", clip.high))
        ]
        clipped = new("image_clipped")
        for node in graph.node:
            for place, name in enumerate(node.input):
                if name == image.name:
                    node.input[place] = clipped
        graph.node.insert(0, helper.make_node("Clip", [image.name, *limits], [clipped]))
    output = graph.output[number]
    inside = False  # whether a sigmoid of the graph moves behind the channel
    value, kind = str(output.name), output.type.tensor_type.elem_type
    if head.channel is not None:
        last = next((node for node in graph.node if value in node.output), None)
        inside = last is not None and last.op_type == "Sigmoid"
        bounds = [
            constant(f"channel_{name}", np.array([each], np.int64))
            for name, each in (
                ("start", head.channel),
                ("end", head.channel + 1),
                ("axis", head.axis),
            )
        ]
        value = last.input[0] if last is not None and inside else value
        value = _append(graph, "Slice", [value, *bounds], new("channel"))
    if inside or (head.sigmoid and (head.channels == 1 or head.channel is not None)):
        value = _append(graph, "Sigmoid", [value], new("probability"))
    if head.threshold is not None:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        limit = constant("threshold", np.array(head.threshold, dtype))
        value, kind = _append(graph, "Greater", [value, limit], new("decided")), TensorProto.BOOL
    if value != output.name:
        output.name = value
        output.type.tensor_type.elem_type = kind
        sides = output.type.tensor_type.shape.dim
        if head.channel is not None and len(sides) > head.axis:
            sides[head.axis].dim_value = 1
    return value


def _append(graph: onnx.GraphProto, op: str, inputs: list[str], output: str) -> str:
    graph.node.append(helper.make_node(op, inputs, [output]))
    return output


class _StateDict(PackagedNet):
    """A state dict of a net that a known library builds."""

    weights = "pytorch_state_dict"

    def __init__(
        self,
        package: Package,
        entry: Mapping[str, Any],
        number: int,
        spec: InputSpec,
        clip: Clip | None,
        head: Head,
        options: ExportOptions,
    ) -> None:
        self._module = importlib.import_module(".bioimageio_modules", __package__)
        module, name, arguments = _architecture(entry)
        path = package.file(File.of(dict(entry)))
        self._spec, self._clip, self._head, self._number = spec, clip, head, number
        self._name = f"{module}:{name}"
        self._net: nn.Module = self._module.build(module, name, arguments, path, options, spec)

    def answer(self, image: Values) -> Values:
        """See `PackagedNet`."""
        return np.asarray(self._module.answer(self._net, image, self._number))

    def origin(self, names: tuple[str, ...]) -> Origin:
        """See `PackagedNet`."""
        origin: Origin = self._module.origin(
            self._net, self._name, self._spec, self._clip, self._head, self._number, names
        )
        return origin


def _architecture(entry: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Prefix of the library, class and arguments of a net.

    Raises:
        CheckpointError: code in the package, or of another library.
    """
    told = entry.get("architecture")
    if isinstance(told, Mapping):
        source, kwargs = told.get("source"), told.get("kwargs")
        module, name = str(told.get("import_from") or source), str(told.get("callable"))
    else:
        separator = ":" if ":" in str(told) else "."
        module, _, name = str(told).rpartition(separator)
        source, kwargs = (module if separator == ":" else None), entry.get("kwargs")
    for prefix, known in (("monai", _MONAI), ("smp", _SMP)):
        if source is None and known.fullmatch(module):
            nets = importlib.import_module(f".{prefix}", __package__).NETS
            if name not in nets:
                raise CheckpointError(
                    f"its net is {quoted(module)}.{quoted(name)}, which cannot be built."
                    f"{did_you_mean(name, nets)} Known: {', '.join(sorted(nets))}."
                )
            if not isinstance(kwargs or {}, Mapping):
                raise CheckpointError(f"its net has the kwargs {quoted(kwargs)}; expected names.")
            return prefix, name, {str(key): value for key, value in (kwargs or {}).items()}
    raise CheckpointError(
        f"its net is {quoted(name)} of {quoted(module)}; expected one of "
        "monai.networks.nets or segmentation_models_pytorch. Code in a package is never run: "
        "export the net to ONNX where you trust it, or add it: bioimageio add-weights PACKAGE "
        "OUTPUT --target-format onnx."
    )
