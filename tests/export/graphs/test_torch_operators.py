"""Every operator gives what ONNX Runtime gives; those on maps are in `test_torch_maps`."""

from __future__ import annotations

import pytest

from edgeunet.exporting.graphs import torch_maps
from edgeunet.exporting.graphs.torch_operators import OPERATORS
from support.torch_cases import CASES, assert_operator

OTHERS = [name for name in CASES if OPERATORS[name].__module__ != torch_maps.__name__]


def test_every_operator_has_a_case() -> None:
    """But for those of quantized graphs, which the test of the module runs."""
    assert set(OPERATORS) - {"QuantizeLinear", "DequantizeLinear"} == {k for k in CASES if CASES[k]}


@pytest.mark.parametrize("op", OTHERS)
def test_operator_gives_what_onnx_runtime_gives(op: str) -> None:
    assert_operator(op)
