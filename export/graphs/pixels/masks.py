"""Logits -> class ids at the frame's size: gate, bilinear upsampling and argmax in the graph.

They give what `Postprocessor` gives. The forms differ in speed. On ONNX Runtime with one thread,
for 352x480 pixels of logits half that size, they took 0.3 ms for the sign, 1.1 ms for the largest
of 3 planes one after the other, and 4.3 ms with channels last for 11 classes; 1.3, 1.7 and 5.0 ms
if all logits are enlarged before an ArgMax over the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeunet.bundle.manifest import Flavour, Manifest

from .geometry import Geometry, Nodes, resized

_CLOSED = np.float32(-1e30)
"""Logit of a class that the gate closes: below all others, and finite, as 0 * -inf is NaN."""

_ON_CPU: tuple[Flavour, ...] = ("fp32", "int8.cpu", "int8.openvino")
_FEW = 5
"""Classes up to which planes one after the other are faster than channels last."""


def gated(
    nodes: Nodes, logits: ir.Value, presence: ir.Value, thresholds: Sequence[float]
) -> ir.Value:
    """Logits that leave a class that the gate closes out of the argmax.

    If the gate closes all classes of a frame, the first one stays, the background.
    """
    count = len(thresholds)
    opened = nodes("GreaterOrEqual", presence, np.array(thresholds, np.float32))
    ones = np.ones((count, 1), np.float32)
    number_open = nodes("MatMul", nodes("Cast", opened, to=ir.DataType.FLOAT), ones)
    background = np.arange(count)[None] == 0
    rest = nodes("And", nodes("Less", number_open, np.float32(0.5)), background)
    kept = nodes("Unsqueeze", nodes("Or", opened, rest), np.array([2, 3]))
    return nodes("Where", kept, logits, _CLOSED)


def decide(
    nodes: Nodes, logits: ir.Value, manifest: Manifest, geometry: Geometry, flavour: Flavour
) -> ir.Value:
    """Masks (N, H, W) uint8 from logits (N, C, h, w). If logits are equal, the lower id wins."""
    count = len(manifest.classes)
    decision = _Decision(nodes, geometry, manifest.logits_size, flavour)
    if count == 2:
        return decision.by_sign(logits)
    if flavour in _ON_CPU and 2 < count <= _FEW:
        return decision.one_by_one(logits, count)
    return decision.by_argmax(logits, count)


def confidence(
    nodes: Nodes, logits: ir.Value, manifest: Manifest, geometry: Geometry, flavour: Flavour
) -> ir.Value:
    """Softmax of each pixel's class (N, H, W) uint8, 255 for 1, from logits (N, C, h, w)."""
    decision = _Decision(nodes, geometry, manifest.logits_size, flavour)
    enlarged = decision.enlarged(logits, len(manifest.classes))
    likely = nodes.reduced("ReduceMax", nodes("Softmax", enlarged, axis=1), keepdims=0)
    scaled = nodes("Round", nodes("Mul", likely, np.float32(255)))
    return nodes("Cast", scaled, to=ir.DataType.UINT8)


def put_out_probabilities(graph: ir.Graph, nodes: Nodes, manifest: Manifest, name: str) -> None:
    """Put the softmax over the classes (N, C, H, W) in the place of a net's outputs.

    It has the size of the net's input. Classes that the gate closes have the probability 0.

    Args:
        graph: whose outputs are `logits` and, with a gate, `presence`. name: of the new output.
    """
    spec, count = manifest.input, len(manifest.classes)
    logits, *presence = graph.outputs
    if manifest.gate is not None:
        logits = gated(nodes, logits, presence[0], manifest.gate)
    before, after = np.array(manifest.logits_size), np.array((spec.height, spec.width))
    found = nodes("Softmax", resized(nodes, logits, before, after, channels=count), axis=1)
    found.name, found.type = name, ir.TensorType(ir.DataType.FLOAT)
    found.shape = ir.Shape(["batch", count, spec.height, spec.width])
    graph.extend(nodes.take())
    graph.outputs[:] = [found]


def covered_logits(nodes: Nodes, logits: ir.Value, geometry: Geometry) -> ir.Value:
    """The logits that the frame covers, not the padding."""
    if geometry.first is None:
        return logits
    return nodes("Slice", logits, geometry.first, geometry.last, np.array([2, 3]))


class _Decision:
    """Ways from logits to class ids, fast on the CPU or a GPU, as the flavour is meant for.

    TensorRT makes bytes of floats alone, for an output. Only graphs that it never gets compute with
    bytes.
    """

    def __init__(
        self, nodes: Nodes, geometry: Geometry, logits_size: tuple[int, int], flavour: Flavour
    ) -> None:
        self._nodes, self._geometry = nodes, geometry
        self._on_cpu, self._in_bytes = flavour in _ON_CPU, flavour in ("int8.cpu", "int8.openvino")
        self._before: np.ndarray | None = None
        if geometry.first is None:
            self._before = np.array(logits_size)
        elif isinstance(geometry.first, np.ndarray):
            self._before = np.asarray(geometry.last) - geometry.first

    @property
    def _same_size(self) -> bool:
        size = self._geometry.size
        if not isinstance(size, np.ndarray) or self._before is None:
            return False
        return bool(np.array_equal(size, self._before))

    def enlarged(self, logits: ir.Value, channels: int, *, channels_last: bool = False) -> ir.Value:
        """At the frame's size."""
        return resized(
            self._nodes,
            logits,
            self._before,
            self._geometry.size,
            channels=channels,
            channels_last=channels_last,
        )

    def by_sign(self, logits: ir.Value) -> ir.Value:
        """The second class if its logit is larger: one plane to enlarge instead of two."""
        nodes = self._nodes
        first, second = nodes.several("Split", logits, np.array([1, 1]), axis=1, outputs=2)
        difference = self.enlarged(nodes("Sub", second, first), 1)
        larger = nodes("Greater", difference, np.float32(0))
        return self._bytes(nodes("Squeeze", larger, np.array([1])))

    def one_by_one(self, logits: ir.Value, count: int) -> ir.Value:
        """The largest so far and its id, plane after plane."""
        nodes = self._nodes
        enlarged = self.enlarged(logits, count)
        sizes = np.ones(count, np.int64)
        best, *others = nodes.several("Split", enlarged, sizes, axis=1, outputs=count)
        ids: ir.Value | None = None
        kind = np.dtype(np.uint8 if self._in_bytes else np.float32)
        for class_id, plane in enumerate(others, 1):
            better = nodes("Greater", plane, best)
            if ids is None:
                ids = nodes("Cast", better, to=ir.DataType.from_numpy(kind))
            else:
                ids = nodes("Where", better, kind.type(class_id), ids)
            if class_id < count - 1:
                best = nodes("Max", best, plane)
        assert ids is not None
        return self._bytes(nodes("Squeeze", ids, np.array([1])), kind)

    def by_argmax(self, logits: ir.Value, count: int) -> ir.Value:
        """All logits, then an ArgMax, on the CPU over channels that come last."""
        nodes, last = self._nodes, self._on_cpu and not self._same_size
        if last:
            logits = nodes("Transpose", logits, perm=[0, 2, 3, 1])
        enlarged = self.enlarged(logits, count, channels_last=last)
        return self._bytes(nodes("ArgMax", enlarged, axis=3 if last else 1, keepdims=0))

    def _bytes(self, values: ir.Value, kind: np.dtype | None = None) -> ir.Value:
        """Booleans or ids as uint8. kind: their type if they are numbers already."""
        nodes = self._nodes
        if kind == np.uint8:
            return values
        if kind is None and not self._in_bytes:
            values = nodes("Cast", values, to=ir.DataType.FLOAT)
        return nodes("Cast", values, to=ir.DataType.UINT8)
