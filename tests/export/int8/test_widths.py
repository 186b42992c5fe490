"""Which nodes take 16 bits in a graph without floats."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from edgeunet.bundle.manifest import flavour_file
from edgeunet.exporting.graphs.passes.graph import is_head, load, producer
from edgeunet.exporting.int8.placement import int8_nodes
from edgeunet.exporting.int8.widths import NARROW, WIDE, wide_nodes, width_overrides


@pytest.fixture(scope="module")
def model(gated_bundle: Path) -> ir.Model:
    return load(gated_bundle / flavour_file("fp32"))


def test_heads_and_gate_alone_are_wide(model: ir.Model) -> None:
    wide = wide_nodes(model, None)
    presence = producer(model.graph.outputs[1])
    assert presence in wide
    assert any(is_head(node) for node in wide)
    narrow = [node for node in model.graph if node not in wide]
    assert len([node for node in narrow if node.op_type == "Conv"]) > 10
    assert wide == wide_nodes(model, int8_nodes(model))


def test_what_a_returned_node_reads_is_put_out_in_16_bits(model: ir.Model) -> None:
    possible = int8_nodes(model)
    usual = wide_nodes(model, None)
    for name in possible:
        wide = wide_nodes(model, [each for each in possible if each != name])
        returned = next(node for node in model.graph if node.name == name)
        before = {producer(value) for value in returned.inputs} - {None}
        assert {returned, *before} <= wide
        assert len(wide - usual) <= 2 * (1 + len(before)), "and no more than their clamps"


def test_a_clamp_is_as_wide_as_its_convolution(model: ir.Model) -> None:
    possible = int8_nodes(model)
    for chosen in (possible[::2], possible[1::2], possible[::3]):
        wide = wide_nodes(model, chosen)
        for node in model.graph:
            if node.op_type == "Clip":
                assert (producer(node.inputs[0]) in wide) == (node in wide)


def test_each_tensor_is_read_in_the_width_of_its_reader(model: ir.Model) -> None:
    wide = wide_nodes(model, int8_nodes(model)[::2])
    values = [value for node in model.graph for value in node.outputs]
    told = width_overrides(model, wide, [str(value.name) for value in values])
    for value in values:
        (how,) = told.get(str(value.name), [{"quant_type": NARROW}])
        assert how["quant_type"] == (WIDE if producer(value) in wide else NARROW)
        change = how.get("convert", {"quant_type": None, "recv_nodes": set()})
        for reader in value.consumers():
            read = change if str(reader.name) in change["recv_nodes"] else how
            assert read["quant_type"] == (WIDE if reader in wide else NARROW)
