"""PyTorch as the engine inside the stand-in for TensorRT.

    trt = fake_tensorrt.make("10.16.1")
    trt.compute = TorchEngine("cuda").compute  # a plan's graph, at the addresses it is given
    trt.enqueue = on_stream                    # on the stream it is given

So a GPU without TensorRT runs all that is around the engine: streams, CUDA graphs, kernels, slots
and the gate. A graph computes in its own precision, INT8 as its Q/DQ pairs say, node by node. Only
the operators of edgeunet's own nets are known.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from edgeunet.runtime.backends.base import Net
from edgeunet.runtime.frames import NetOutputs

from .fake_tensorrt.context import Bound
from .fake_tensorrt.plan import Plan
from .fake_tensorrt.values import NUMPY

Attributes = dict[str, Any]
Host = Sequence[np.ndarray[Any, Any] | None]
"""Inputs that are constants, on the host: reading them from the GPU would end a capture."""
_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
}


class TorchGraph:
    """An ONNX graph on a device. What depends on constants alone is computed once.

    Args:
        wide: compute what is FP16 in FP32, with the constants that FP16 has.

    Attributes:
        types: of the inputs, by name.
    """

    @torch.inference_mode()
    def __init__(self, content: bytes, device: str, *, wide: bool = False) -> None:
        graph = onnx.load_from_string(content).graph
        if wide:
            _widen(graph)
        self.types = {each.name: _TYPES[each.type.tensor_type.elem_type] for each in graph.input}
        self._outputs = [each.name for each in graph.output]
        host = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._constants = {
            name: torch.from_numpy(np.array(array)).to(device) for name, array in host.items()
        }
        self._steps: list[tuple[str, list[str], Callable[..., Tensor]]] = []
        for node in graph.node:
            if node.op_type not in _OPERATORS:
                raise NotImplementedError(f"{node.name or node.output[0]}: no {node.op_type} here")
            attributes = {
                each.name: onnx.helper.get_attribute_value(each) for each in node.attribute
            }
            given = [host.get(name) for name in node.input]
            run = partial(_OPERATORS[node.op_type], attributes, given)
            if all(name in self._constants for name in node.input):
                inputs = [self._constants[name] for name in node.input]
                self._constants[node.output[0]] = run(*inputs)
            else:
                self._steps.append((node.output[0], list(node.input), run))
        if device == "cuda":
            torch.cuda.synchronize()  # other streams read the constants

    @torch.inference_mode()
    def __call__(self, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name."""
        values = {**self._constants, **feeds}
        for name, inputs, run in self._steps:
            values[name] = run(*(values[each] if each else None for each in inputs))
        return {name: values[name] for name in self._outputs}


class TorchEngine:
    """Runs plans on "cuda", or on "cpu" at addresses of the host."""

    def __init__(self, device: str) -> None:
        # Else a convolution's result depends on the batch, or has the 10 bits of TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        self._device = device
        self._graphs: dict[bytes, TorchGraph] = {}
        # Kept, so that a capture makes none: making one asks CUDA about the address.
        self._places: dict[Bound, Tensor] = {}

    @torch.inference_mode()
    def compute(self, plan: Plan, bound: Sequence[Bound]) -> None:
        """Run a plan's graph on its tensors, on torch's current stream."""
        graph = self._graphs.get(plan.onnx)
        if graph is None:
            graph = self._graphs[plan.onnx] = TorchGraph(plan.onnx, self._device)
        feeds = {
            each.tensor.name: self._at(each).to(graph.types[each.tensor.name])
            for each in bound
            if each.tensor.is_input
        }
        found = graph(feeds)
        for each in bound:
            if not each.tensor.is_input:
                self._at(each).copy_(found[each.tensor.name])

    def _at(self, bound: Bound) -> Tensor:
        """The tensor in its place, not copied."""
        if bound not in self._places:
            self._places[bound] = self._placed(bound)
        return self._places[bound]

    def _placed(self, bound: Bound) -> Tensor:
        kind = np.dtype(NUMPY[bound.tensor.dtype])
        if self._device == "cuda":
            return torch.as_tensor(_Place(bound.address, bound.shape, kind), device="cuda")
        nbytes = math.prod(bound.shape) * kind.itemsize
        buffer = (ctypes.c_char * nbytes).from_address(bound.address)
        return torch.from_numpy(np.frombuffer(buffer, kind).reshape(bound.shape))


class TorchNet(Net):
    """A bundle's graph on the CPU, on host arrays: what an engine is compared with.

    FP16 is computed in FP32, since most CPUs take twenty times as long for it.
    """

    def __init__(self, content: bytes) -> None:
        self._graph = TorchGraph(content, "cpu", wide=True)

    def infer(self, images: np.ndarray[Any, Any]) -> NetOutputs:
        """See `Net`."""
        found = self._graph({"image": torch.from_numpy(images).to(self._graph.types["image"])})
        presence = found.get("presence")
        return NetOutputs(
            found["logits"].float().numpy(),
            None if presence is None else presence.float().numpy(),
        )

    def close(self) -> None:
        """See `Net`."""


def _widen(graph: Any) -> None:
    """Turn FP16 into FP32, in place."""
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for each in graph.initializer:
        if each.data_type == half:
            array = numpy_helper.to_array(each).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(array, each.name))
    for each in graph.input:
        if each.type.tensor_type.elem_type == half:
            each.type.tensor_type.elem_type = single
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single


class _Place:
    """Memory of the GPU at an address, as torch takes it."""

    def __init__(self, address: int, shape: Sequence[int], kind: np.dtype[Any]) -> None:
        self.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "typestr": kind.str,
            "data": (address, False),
            "version": 3,
        }


# Operators: of attributes, constants on the host, and the inputs.


def _convolution(a: Attributes, host: Host, data: Tensor, *rest: Tensor) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        data, padding = functional.pad(data, (left, right, top, bottom)), (0, 0)
    return functional.conv2d(
        data,
        *rest,
        stride=a.get("strides", (1, 1)),
        padding=padding,
        dilation=a.get("dilations", (1, 1)),
        groups=a.get("group", 1),
    )


def _max_pool(a: Attributes, host: Host, data: Tensor) -> Tensor:
    if a.get("ceil_mode") or any(a.get("pads", ())) or set(a.get("dilations", ())) > {1}:
        raise NotImplementedError(f"no MaxPool with {a} here")
    return functional.max_pool2d(data, a["kernel_shape"], a["strides"])


def _clip(a: Attributes, host: Host, data: Tensor, *_: Tensor) -> Tensor:
    low, high = (None if value is None else float(value) for value in host[1:3])
    return data.clamp(low, high)


def _batch_norm(a: Attributes, host: Host, data: Tensor, *rest: Tensor) -> Tensor:
    gain, shift, mean, variance = rest
    return functional.batch_norm(data, mean, variance, gain, shift, eps=a.get("epsilon", 1e-5))


def _depth_to_space(a: Attributes, host: Host, data: Tensor) -> Tensor:
    block = a["blocksize"]
    if a.get("mode") == b"CRD":
        return functional.pixel_shuffle(data, block)
    count, channels, height, width = data.shape
    left = channels // block**2
    blocks = data.reshape(count, block, block, left, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(count, left, height * block, width * block)


def _resize(a: Attributes, host: Host, data: Tensor, *_: Tensor) -> Tensor:
    kind = (a.get("mode", b"nearest"), a.get("coordinate_transformation_mode", b"half_pixel"))
    if kind != (b"linear", b"half_pixel"):
        raise NotImplementedError(f"no Resize with {kind} here")
    scales, sizes = [*host, None, None][2:4]
    if sizes is None:
        sizes = [math.floor(side * scale) for side, scale in zip(data.shape, scales, strict=True)]
    return functional.interpolate(data, tuple(map(int, sizes[2:])), mode="bilinear")


def _quantize(a: Attributes, host: Host, data: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    info = torch.iinfo(zero.dtype)
    step, start = _along(a, scale.float(), data), _along(a, zero.float(), data)
    return ((data.float() / step).round() + start).clamp(info.min, info.max).to(zero.dtype)


def _dequantize(
    a: Attributes, host: Host, data: Tensor, scale: Tensor, zero: Tensor | None = None
) -> Tensor:
    whole = data.float() if zero is None else data.float() - _along(a, zero.float(), data)
    return (whole * _along(a, scale.float(), data)).to(scale.dtype)


def _along(a: Attributes, values: Tensor, data: Tensor) -> Tensor:
    """Scales or zero points, one for all or one a channel of the axis."""
    if values.ndim == 0:
        return values
    axis = a.get("axis", 1) % data.ndim
    return values.reshape([-1 if index == axis else 1 for index in range(data.ndim)])


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda a, host, x, y: x + y,
    "BatchNormalization": _batch_norm,
    "Cast": lambda a, host, x: x.to(_TYPES[a["to"]]),
    "Clip": _clip,
    "Concat": lambda a, host, *parts: torch.cat(parts, a["axis"]),
    "Conv": _convolution,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Flatten": lambda a, host, x: x.flatten(a.get("axis", 1)),
    "GlobalAveragePool": lambda a, host, x: x.mean((2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "Mul": lambda a, host, x, y: x * y,
    "QuantizeLinear": _quantize,
    "Relu": lambda a, host, x: x.relu(),
    "Resize": _resize,
    "Sigmoid": lambda a, host, x: x.sigmoid(),
}
