"""A Q/DQ graph as a module whose weights can be trained, with the rounding of INT8 in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from ..graphs.fp16 import SMALLEST
from ..graphs.passes.graph import Array, constant, load, names, operand, producer, save
from ..graphs.torch_maps import Call
from ..graphs.torch_module import TorchGraph
from ..graphs.torch_operators import OPERATORS
from .qdq import STEPS
from .quantize import PRECISE
from .shared_ranges import Range

REMEDY = "Leave --qat-epochs out: calibration and layers in float take any graph."

_TRAINED: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "BatchNormalization": (1, 2),
        "Conv": (1, 2),
        "ConvTranspose": (1, 2),
        "Gemm": (1, 2),
        "MatMul": (1,),
    }
)
"""Inputs that are weights, by operator. Statistics of a normalisation stay."""

_ROUNDING = 1e-5
"""Share by which a scale in a graph may differ from that of its range."""


class FakeQuantized(TorchGraph):
    """The module that computes a signed Q/DQ graph, for batches of one size, with its gradients.

    The pairs are those of the graph, so the placement is the emitter's by construction. The scales
    of weights follow the weights, as `quantize_for_tensorrt` will compute them. Those of
    activations are learned, as factors: one for all activations that share a range. Esser et al.,
    "Learned Step Size Quantization" (ICLR 2020, arXiv 1902.08153), section 2.1, give the gradient.
    If `unsigned` is set, activations have the 256 levels of the graphs for ONNX Runtime and
    OpenVINO instead, from the lowest value to the highest.

    A rounded value has the gradient of the value, 0 beyond the range: the straight-through
    estimator of Bengio et al. (arXiv 1308.3432), as Jacob et al. (CVPR 2018, arXiv 1712.05877,
    section 3) train with it.

    Args:
        model: of `quantize_for_tensorrt`. batch: images in each batch. ranges: for `unsigned`, by
            activation.

    Raises:
        ExportError: see `TorchGraph`.

    Example:
        >>> import torch
        >>> from edgeunet.exporting.int8.fake_quantized import FakeQuantized
        >>> net = FakeQuantized(onnx.load(f"{bundle}/model.fp32.onnx"), batch=2)  # has no pairs
        >>> net(torch.zeros(2, 3, 64, 96))["logits"].shape
        torch.Size([2, 3, 32, 48])
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        batch: int,
        ranges: Mapping[str, Range] = MappingProxyType({}),
    ) -> None:
        rounding = {"QuantizeLinear": self._rounded, "DequantizeLinear": lambda call: call[0]}
        operators = {**OPERATORS, **rounding}
        super().__init__(model, rounded=False, batch=batch, operators=operators, remedy=REMEDY)
        self.unsigned = False
        self._ranges = ranges
        self._factors = {  # natural logarithms, by the scale that they change
            float(scale): nn.Parameter(torch.zeros(()))
            for node in self._nodes
            if node.op_type == "QuantizeLinear"
            and constant(node.inputs[0]) is None
            and (scale := constant(node.inputs[1])) is not None
        }
        self.factors = nn.ParameterList(self._factors.values())
        self._trained: dict[str, str] = {}
        for value in _weights(self._nodes):
            name = self._buffer_names[value]
            if str(value.name) not in self._trained:
                held = getattr(self, name)
                delattr(self, name)
                self.register_parameter(name, nn.Parameter(held))
                self._trained[str(value.name)] = name

    def weights(self) -> dict[str, Array]:
        """The trained weights by the names of their initializers."""
        held = {of: getattr(self, name) for of, name in self._trained.items()}
        return {of: tensor.detach().cpu().numpy() for of, tensor in held.items()}

    def _rounded(self, call: Call) -> Tensor:
        """QuantizeLinear and the DequantizeLinear behind it."""
        scale = constant(call.node.inputs[1])
        assert scale is not None
        if scale.ndim:
            axis = call.attribute("axis", 1) % call[0].ndim
            scales = _scales(call[0].detach(), axis)
            zeros = torch.zeros_like(scales, dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(call[0], scales, zeros, axis, -128, 127)
        if constant(call.node.inputs[0]) is not None:
            return torch.fake_quantize_per_tensor_affine(call[0], float(scale), 0, -128, 127)
        factor = self._factors[float(scale)].exp()
        limits = self._ranges.get(names(call.node.inputs)[0]) if self.unsigned else None
        if limits is None:
            return _levels(call[0], float(scale) * factor, 0, (-128, 127))
        low, high = min(limits[0], 0.0), max(limits[1], 0.0)  # as all emitters have it
        step = (high - low) / 255
        return _levels(call[0], step * factor, round(-low / step), (0, 255))

    @torch.no_grad()
    def bound_ranges(self) -> None:
        """Take back what would make a range wider than it was.

        A range that ends beyond its Clip would keep ONNX Runtime from dropping that.
        """
        for factor in self.factors:
            factor.clamp_(max=0.0)

    def learned(self, ranges: Mapping[str, Range], shared: Mapping[str, Range]) -> dict[str, Range]:
        """The ranges of a table, each as much narrower as was learned.

        Args:
            shared: the same as the graph has them, see `share_ranges`.
        """
        found = dict(ranges)
        for name, (low, high) in shared.items():
            scale = 2 * max(-low, high) / STEPS
            known = min(self._factors, key=lambda each: abs(each - scale), default=0.0)
            if abs(known - scale) <= _ROUNDING * scale:
                by = float(self._factors[known].detach().exp())
                found[name] = (ranges[name][0] * by, ranges[name][1] * by)
        return found


def _levels(x: Tensor, step: Tensor, zero: int, ends: tuple[int, int]) -> Tensor:
    """The nearest level."""
    level = (x / step + zero).clamp(*ends)
    rounded = level + (level.round() - level).detach()
    return (rounded - zero) * step


def write_weights(source: Path, path: Path, weights: Mapping[str, Array]) -> None:
    """Write a graph with other weights, given by the names of its initializers."""
    model = load(source)
    for name, held in weights.items():
        model.graph.initializers[name].const_value = ir.tensor(held, name=name)
    save(model, path)


def _weights(nodes: list[ir.Node]) -> Iterator[ir.Value]:
    """Initializers that are weights, also those behind a Q/DQ pair."""
    for node in nodes:
        for index in _TRAINED.get(node.op_type, ()):
            value = operand(node, index)
            while (pair := producer(value, "DequantizeLinear", "QuantizeLinear")) is not None:
                value = pair.inputs[0]
            held = constant(value)
            if value is not None and held is not None and held.dtype == np.float32:
                yield value


def _scales(weight: Tensor, axis: int) -> Tensor:
    """Of each channel, see `channel_scales` and `_round_small_scales` in `quantize.py`."""
    largest = weight.abs().amax([other for other in range(weight.ndim) if other != axis])
    exact = 2 * largest / STEPS
    exact = torch.where(exact < torch.finfo(torch.float32).tiny, 1.0, exact)
    coarse = (torch.ceil(exact / SMALLEST) * SMALLEST).clamp_min(SMALLEST)
    return torch.where(exact < PRECISE, coarse, exact)
