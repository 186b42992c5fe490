"""Products of INT8 weights that every processor sums exactly."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.doctor import lacks_vnni
from edgeunet.exporting.graphs.passes.graph import save
from edgeunet.exporting.int8 import quantize
from edgeunet.exporting.int8.pair_sums import LIMIT, largest_pair, project, round_pairs
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from support.graphs import Array

WIDE = "session.x64quantprecision"
"""Option of ONNX Runtime: products in 32 bits, whatever the weights."""

SIDE = 12

CONVOLUTIONS = [  # inputs, outputs, kernel, stride, groups
    (16, 16, 1, 1, 1),  # kernels without a copy of the map
    (16, 16, 3, 2, 1),
    (7, 5, 3, 1, 1),  # pairs reach into the next column
    (7, 32, 5, 2, 1),
    (9, 24, 1, 1, 1),
    (12, 8, 3, 1, 4),  # three channels a group
    (8, 16, 3, 1, 8),  # one channel a group, but two outputs
    (16, 16, 3, 1, 16),  # depthwise
    (5, 5, 5, 1, 5),
    (16, 16, SIDE, 1, 1),  # one pixel: a vector instead of a matrix
]


def net(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, *, fixed: bool
) -> onnx.ModelProto:
    """A float stem, a convolution of large weights, and a head of large ones without an output.

    fixed: whether the sides are known, so that the passes may rewrite it.
    """
    rng = np.random.default_rng(inputs * outputs + kernel)
    shape = (outputs, inputs // groups, kernel, kernel)
    weights = rng.uniform(0.9, 1.0, shape) * rng.choice([-1, 1], (outputs, 1, 1, 1))
    weights[::3] = rng.normal(0.3, 0.4, weights[::3].shape)
    tensors = {
        "stem": np.ones((inputs, 1, 1, 1)),
        "weights": weights,
        "bias": rng.normal(size=outputs),
        "head": rng.uniform(0.8, 1.0, (3, outputs, 1, 1)),
    }
    middle = {"strides": [stride] * 2, "group": groups, "name": "middle"}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], name="stem"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "weights", "bias"], ["c"], **middle),
        helper.make_node("Conv", ["c", "head"], ["logits"], name="head"),
    ]
    sides = [SIDE, SIDE] if fixed else ["h", "w"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, *sides])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, None, None])
    held = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in tensors.items()]
    graph = helper.make_graph(nodes, "net", [image], [logits], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def table_for(model: onnx.ModelProto) -> CalibrationTable:
    """Activations reach 255 where the image is 1; outputs of the convolution do not clip."""
    (weights,) = (t for t in model.graph.initializer if t.name == "weights")
    most = float(np.abs(numpy_helper.to_array(weights)).sum(axis=(1, 2, 3)).max()) + 3
    ranges = {"image": (0.0, 1.0), "a": (0.0, 1.0), "b": (0.0, 1.0)}
    ranges |= {"c": (-most, most), "logits": (-most, most)}
    return CalibrationTable("net", "0" * 64, "minmax", "test", 1, ranges)


def outputs(path: Path, image: Array, *, wide: bool, last: bool) -> Array:
    """Logits. last: whether ONNX Runtime may turn the graph to channels last."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if last else levels.ORT_ENABLE_EXTENDED
    if wide:
        options.add_session_config_entry(WIDE, "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": image})
    return logits


def images() -> Array:
    """One that is 1 throughout, and one of all levels."""
    drawn = np.random.default_rng(0).uniform(0, 1.3, (1, 1, SIDE, SIDE))
    return np.concatenate([np.ones_like(drawn), drawn]).astype(np.float32)


@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
def test_sums_are_exact_without_wider_products(
    shape: tuple[int, int, int, int, int], tmp_path: Path
) -> None:
    for fixed, last in product([True, False], repeat=2):
        model, int8 = net(*shape, fixed=fixed), tmp_path / "int8.onnx"
        save(ir.from_proto(model), tmp_path / "net.onnx")
        quantize_for_cpu(tmp_path / "net.onnx", int8, table_for(model))
        found, wanted = (outputs(int8, images(), wide=w, last=last) for w in (False, True))
        np.testing.assert_array_equal(found, wanted)
        assert np.ptp(wanted[0]) > 0


@pytest.mark.skipif(not lacks_vnni(), reason="needs an x86 processor without VNNI to saturate on")
def test_without_the_limit_they_saturate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "limit_pairs", lambda model, nodes: {})
    for shape, fixed in product(CONVOLUTIONS, [True, False]):
        model, int8 = net(*shape, fixed=fixed), tmp_path / "int8.onnx"
        save(ir.from_proto(model), tmp_path / "net.onnx")
        quantize_for_cpu(tmp_path / "net.onnx", int8, table_for(model))
        found, wanted = (outputs(int8, images(), wide=w, last=True) for w in (False, True))
        # Without known sides the head stays a convolution, with float sums.
        exact = not fixed and shape[0] == shape[1] == shape[4]  # depthwise
        assert np.array_equal(found, wanted) is exact, shape


NUMBERS = st.floats(-127, 127, width=32)


@given(st.tuples(NUMBERS, NUMBERS))
def test_projection_is_the_nearest_allowed_point(pair: tuple[float, float]) -> None:
    scaled = np.float32([pair])
    (found,) = project(scaled)
    grid = np.mgrid[-127:128, -127:128].reshape(2, -1).T
    allowed = grid[np.abs(grid.sum(axis=1)) <= LIMIT]
    assert np.abs(found).max() <= 127 and abs(found.sum()) <= LIMIT
    least = np.square(allowed - scaled.astype(np.float64)).sum(axis=1).min()
    assert np.square(found - scaled).sum() == pytest.approx(least, rel=1e-4, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.3, 4), st.floats(-30, 25))
def test_rounding_loses_no_more_than_7_bits_would(
    seed: int, count: int, tail: float, magnitude: float
) -> None:
    """Whatever the distribution, the number of terms and their size."""
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(6, count)) * np.abs(rng.normal(size=(6, count))) ** tail
    terms[0], terms[1] = 0, np.abs(terms[1])
    terms = (terms * 10.0**magnitude).astype(np.float32)
    integers, scales = round_pairs(terms)
    assert (
        integers.shape == terms.shape and integers.dtype == np.int8 and scales.dtype == np.float32
    )
    assert largest_pair(integers) <= LIMIT and integers.min() >= -127
    assert (scales > 0).all() and np.isfinite(scales).all() and not integers[0].any()

    def error(values: Array, steps: Array) -> Array:
        return np.square((values * steps[:, None] - terms) / 10.0**magnitude).sum(axis=1)

    half = np.maximum(np.abs(terms).max(axis=1) / 63.5, np.finfo(np.float32).tiny)
    plain = np.rint(terms / half[:, None])
    assert (error(integers.astype(np.float64), scales) <= 1.001 * error(plain, half) + 1e-12).all()
