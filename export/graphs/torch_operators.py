"""Operators of ONNX by PyTorch's: what `TorchGraph` computes with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers quantized_decomposed
from torch.nn import functional

from .passes.graph import constant, operand
from .torch_maps import (
    Call,
    NotTakenError,
    conv,
    conv_transpose,
    depth_to_space,
    pad,
    pool,
    resize,
    space_to_depth,
)

Operator = Callable[[Call], Tensor | Sequence[Tensor]]


def _elementwise(function: Callable[..., Tensor]) -> Operator:
    return lambda call: function(*call.all())


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """One after the other, of any number of inputs."""

    def fold(call: Call) -> Tensor:
        first, *rest = call.all()
        for each in rest:
            first = function(first, each)
        return first

    return fold


def _split(call: Call) -> Sequence[Tensor]:
    axis, count = call.attribute("axis", 0), len(call.node.outputs)
    sizes = call.numbers(1)
    if sizes is None:
        length = -(-call[0].shape[axis] // count)
        return torch.split(call[0], length, axis)
    return torch.split(call[0], [int(size) for size in sizes], axis)


def _slice(call: Call) -> Tensor:
    x, starts, ends = call[0], call.numbers(1) or [], call.numbers(2) or []
    axes = call.numbers(3) or list(range(len(starts)))
    steps = call.numbers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise NotTakenError(f"a step of {step}")
        first, last, _ = slice(start, end).indices(x.shape[axis])
        kept = slice(first, max(first, last), step)
        x = x[(slice(None),) * (axis % x.ndim) + (kept,)]
    return x


def _gather(call: Call) -> Tensor:
    x, axis = call[0], call.attribute("axis", 0) % call[0].ndim
    indices = constant(call.node.inputs[1])
    if indices is None:
        raise NotTakenError("indices that are computed")
    positive = torch.from_numpy(np.where(indices < 0, indices + x.shape[axis], indices))
    found = x.index_select(axis, positive.reshape(-1).long())
    return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _reshape(call: Call) -> Tensor:
    x, target = call[0], [int(size) for size in call.numbers(1) or []]
    if not call.attribute("allowzero", 0):
        target = [x.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    return x.reshape(target)


def _expand(call: Call) -> Tensor:
    target = [int(size) for size in call.numbers(1) or []]
    return call[0].expand(np.broadcast_shapes(call[0].shape, tuple(target)))


def _flatten(call: Call) -> Tensor:
    axis = call.attribute("axis", 1) % (call[0].ndim + 1)
    return call[0].reshape(math.prod(call[0].shape[:axis]), -1)


def _squeeze(call: Call) -> Tensor:
    axes = call.axes()
    return call[0].squeeze() if axes is None else call[0].squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call[0], call.axes() or []
    for axis in sorted(each % (x.ndim + len(axes)) for each in axes):
        x = x.unsqueeze(axis)
    return x


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(call: Call) -> Tensor:
        axes = call.axes()
        if axes is None:
            axes = list(range(call[0].ndim))
        return function(call[0], axes, keepdim=bool(call.attribute("keepdims", 1)))

    return reduce


def _arg_max(call: Call) -> Tensor:
    kept = bool(call.attribute("keepdims", 1))
    return torch.argmax(call[0], call.attribute("axis", 0), keepdim=kept)


_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float32,  # see `TorchGraph`
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
}


def _cast(call: Call) -> Tensor:
    kind = _TYPES.get(ir.DataType(call.attribute("to", 0)))
    if kind is None:
        raise NotTakenError(f"type {call.attribute('to', 0)}")
    return call[0].to(kind)


def _clip(call: Call) -> Tensor:
    low, high = call.numbers(1), call.numbers(2)
    if low and high and call[0].is_floating_point():  # fuses with the convolution before it
        return functional.hardtanh(call[0], low[0], high[0])
    return torch.clamp(call[0], low[0] if low else None, high[0] if high else None)


def _gemm(call: Call) -> Tensor:
    if call.attribute("alpha", 1.0) != 1 or call.attribute("beta", 1.0) != 1:
        raise NotTakenError("alpha or beta")
    left = call[0].t() if call.attribute("transA", 0) else call[0]
    weight = call[1] if call.attribute("transB", 0) else call[1].t()
    return functional.linear(left, weight, call.get(2))


def _batch_norm(call: Call) -> Tensor:
    x, scale, bias, mean, variance = call.all()
    epsilon = call.attribute("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _instance_norm(call: Call) -> Tensor:
    x, scale, bias = call.all()
    return functional.instance_norm(x, weight=scale, bias=bias, eps=call.attribute("epsilon", 1e-5))


def _layer_norm(call: Call) -> Tensor:
    shape = call[0].shape[call.attribute("axis", -1) :]
    epsilon = call.attribute("epsilon", 1e-5)
    return functional.layer_norm(call[0], shape, call[1], call.get(2), epsilon)


def _prelu(call: Call) -> Tensor:
    return torch.where(call[0] < 0, call[0] * call[1], call[0])


def _hard_sigmoid(call: Call) -> Tensor:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return torch.clamp(call[0] * alpha + beta, 0.0, 1.0)


def _quantized(call: Call) -> Tensor:
    """QuantizeLinear of activations, DequantizeLinear of those and of weights."""
    scale, zeros = constant(call.node.inputs[1]), constant(operand(call.node, 2))
    if scale is None or zeros is None or zeros.dtype not in (np.int8, np.uint8):
        raise NotTakenError("scales that are computed, or integers of another kind")
    limits = np.iinfo(zeros.dtype)
    ends = (limits.min, limits.max, torch.int8 if zeros.dtype == np.int8 else torch.uint8)
    verb = "quantize" if call.node.op_type == "QuantizeLinear" else "dequantize"
    known = torch.ops.quantized_decomposed
    found: Tensor
    if scale.size > 1:
        axis = call.attribute("axis", 1) % call[0].ndim
        function = getattr(known, f"{verb}_per_channel")
        found = function(call[0], call[1], call[2], axis, *ends)
    else:
        function = getattr(known, f"{verb}_per_tensor")
        found = function(call[0], float(scale.item()), int(zeros.item()), *ends)
    return found


OPERATORS: Mapping[str, Operator] = {
    "Abs": _elementwise(torch.abs),
    "Add": _elementwise(torch.add),
    "And": _elementwise(torch.logical_and),
    "ArgMax": _arg_max,
    "AveragePool": pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _elementwise(torch.ceil),
    "Clip": _clip,
    "Concat": lambda call: torch.cat(call.all(), call.attribute("axis", 0)),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": _quantized,
    "Div": _elementwise(torch.div),
    "Elu": lambda call: functional.elu(call[0], call.attribute("alpha", 1.0)),
    "Equal": _elementwise(torch.eq),
    "Erf": _elementwise(torch.erf),
    "Exp": _elementwise(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _elementwise(torch.floor),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda call: call[0].mean(list(range(2, call[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda call: call[0].amax(list(range(2, call[0].ndim)), keepdim=True),
    "Greater": _elementwise(torch.gt),
    "GreaterOrEqual": _elementwise(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda call: functional.hardswish(call[0]),
    "Identity": lambda call: call[0],
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda call: functional.leaky_relu(call[0], call.attribute("alpha", 0.01)),
    "Less": _elementwise(torch.lt),
    "LessOrEqual": _elementwise(torch.le),
    "Log": _elementwise(torch.log),
    "MatMul": _elementwise(torch.matmul),
    "Max": _folded(torch.maximum),
    "MaxPool": pool,
    "Min": _folded(torch.minimum),
    "Mul": _elementwise(torch.mul),
    "Neg": _elementwise(torch.neg),
    "Not": _elementwise(torch.logical_not),
    "Or": _elementwise(torch.logical_or),
    "PRelu": _prelu,
    "Pad": pad,
    "Pow": _elementwise(torch.pow),
    "QuantizeLinear": _quantized,
    "Reciprocal": _elementwise(torch.reciprocal),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _elementwise(torch.relu),
    "Reshape": _reshape,
    "Resize": resize,
    "Round": _elementwise(torch.round),
    "Sigmoid": _elementwise(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda call: torch.softmax(call[0], call.attribute("axis", -1)),
    "Softplus": lambda call: functional.softplus(call[0]),
    "SpaceToDepth": space_to_depth,
    "Split": _split,
    "Sqrt": _elementwise(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(torch.sub),
    "Tanh": _elementwise(torch.tanh),
    "Transpose": lambda call: call[0].permute(call.attribute("perm", ())),
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(torch.where),
}
