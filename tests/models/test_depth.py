"""Depth pruning of U-Net++: the same head, bit for bit, from a smaller net and a smaller graph."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import CheckpointError, UsageError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.models import SegmentationNet, create_model
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.structure import resize, structure_of
from support.nested_nets import IMAGE, whole

depths = pytest.mark.parametrize("depth", [1, 2, 3, 4])


def head_at(net: SegmentationNet, depth: int) -> torch.Tensor:
    heads = net.run(IMAGE).heads  # the deepest first
    return heads[len(heads) - depth]


@depths
@torch.inference_mode()
def test_the_pruned_net_is_that_head_of_the_whole_net(depth: int) -> None:
    net, card = whole()
    pruned, _ = prune_depth(net, card, depth=depth)
    assert torch.equal(pruned(IMAGE), head_at(net, depth))
    (only,) = pruned.run(IMAGE).heads
    assert torch.equal(only, pruned(IMAGE))
    assert not pruned.training


@depths
@torch.inference_mode()
def test_the_card_rebuilds_the_pruned_net_and_keeps_no_foreign_number(
    depth: int, tmp_path: Path
) -> None:
    net, card = whole(ensemble=True)
    pruned, new = prune_depth(net, card, depth=depth)
    assert new.arguments["depth"] == depth
    assert new.metrics == {}
    assert new.training == {"epochs": 3, "pruned": [{"depth": depth, "of": 4}]}
    save_checkpoint(tmp_path / "net.safetensors", pruned, new)
    opened = Checkpoint.open(tmp_path / "net.safetensors")
    loaded, read = opened.net, opened.card
    assert read == new
    assert torch.equal(loaded(IMAGE), head_at(net, depth))


@torch.inference_mode()
def test_a_net_pruned_in_channels_can_be_pruned_in_depth() -> None:
    net, card = whole()
    narrow, _ = whole(width=3)
    resize(net, structure_of(narrow), source="test")
    net.load_state_dict(narrow.state_dict())
    pruned, new = prune_depth(net, replace(card, structure=structure_of(net)), depth=2)
    assert new.structure == structure_of(pruned)
    assert torch.equal(pruned(IMAGE), head_at(narrow, 2))


@torch.inference_mode()
def test_a_pruned_net_can_be_pruned_no_further() -> None:
    net, card = prune_depth(*whole(), depth=3)
    again, new = prune_depth(net, card, depth=3)
    assert torch.equal(again(IMAGE), net(IMAGE))
    assert [record["of"] for record in new.training["pruned"]] == [4, 3]
    with pytest.raises(CheckpointError, match=r"no head at depth 2, only at 3: .*deep supervision"):
        prune_depth(net, card, depth=2)


@torch.inference_mode()
def test_the_gate_is_lost_with_the_deepest_feature_and_said_so() -> None:
    said: list[str] = []
    net, card = whole(cgm=True)
    pruned, new = prune_depth(net, card, depth=2, report=said.append)
    assert pruned.cgm is None
    assert new.arguments["cgm"] is False
    assert new.gate is None
    assert new.training["pruned"] == [{"depth": 2, "of": 4, "gate": "lost"}]
    (message,) = said
    assert "the gate is lost" in message
    assert torch.equal(pruned(IMAGE), head_at(net, 2))


@torch.inference_mode()
def test_the_gate_stays_at_full_depth() -> None:
    said: list[str] = []
    net, card = whole(cgm=True)
    pruned, new = prune_depth(net, card, depth=4, report=said.append)
    for expected, found in zip(net(IMAGE), pruned(IMAGE), strict=True):
        assert torch.equal(expected, found)
    assert new.gate == card.gate
    assert said == []


@pytest.mark.parametrize("depth", [0, 5])
def test_depths_out_of_range_are_refused(depth: int) -> None:
    with pytest.raises(UsageError, match=f"depth is {depth}; this unetpp has depths 1 to 4"):
        prune_depth(*whole(), depth=depth)


def test_a_net_without_deep_supervision_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no head at depth 3, only at 4: .*Train it with"):
        prune_depth(*whole(deep_supervision=False), depth=3)


def test_other_variants_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unet has no depth to prune; unetpp has\..*--ratio"):
        prune_depth(*whole("unet"), depth=3)


def folded_parameters(depth: int) -> int:
    """Of the sub-net: each kernel, and one bias a channel, which takes the normalisation in."""
    net = create_model("unetpp", num_classes=3, width=4, depth=depth, deep_supervision=False)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    return sum(conv.weight.numel() + conv.out_channels for conv in convolutions)


@depths
def test_the_exported_graph_has_exactly_the_parameters_of_the_sub_net(
    depth: int, tmp_path: Path
) -> None:
    net, card = whole()
    save_checkpoint(tmp_path / "net.safetensors", net, card)
    weights = str(tmp_path / "net.safetensors")
    options = ExportOptions("unetpp", weights, depth=depth, max_iou_drop=100.0)
    export_bundle(tmp_path / "bundle", options)
    model = onnx.load(tmp_path / "bundle" / "model.fp32.onnx")
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    found = sum(sizes[name] for node in convolutions for name in node.input[1:])
    assert found == folded_parameters(depth)
    assert open_bundle(tmp_path / "bundle").manifest.arguments["depth"] == depth
