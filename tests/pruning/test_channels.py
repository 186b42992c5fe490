"""Channel pruning: every variant stays consistent, and dead channels leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch_pruning as tp
from torch import nn

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE, write_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.errors import UsageError
from edgeunet.exporting.graphs.trace import trace
from edgeunet.models import SegmentationNet, create_model, list_models
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.structure import structure_of
from edgeunet.pruning.channels import coupled_channels, prune_channels, remaining, remove

SPEC = InputSpec(64, 64)
WIDTH = {"eff_unet": 8, "mobile_unet": 8}
VARIANTS = [(model, {"cgm": cgm}) for model in list_models() for cgm in (False, True)]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("unet3p", {"deep_supervision": False}),
    ("unetpp", {"deep_supervision": False}),
    ("unetpp", {"ensemble": True}),
    ("unetpp", {"depth": 2, "cgm": True}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("prune") / "data"
    write_dataset(path, train=2, val=1, height=64, width=64, seed=3)
    return open_dataset(path)


def make_net(model: str, **arguments: Any) -> SegmentationNet:
    """A tiny net in which every channel has its own weights, biases and statistics."""
    torch.manual_seed(0)
    net = create_model(model, num_classes=3, width=WIDTH.get(model, 4), **arguments)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn_like(module.weight)
            module.running_var = torch.rand_like(module.weight) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def outputs(net: SegmentationNet, image: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        heads, scores = net.run_whole(image)
    return [*heads] if scores is None else [*heads, scores]


@pytest.mark.parametrize(("model", "arguments"), VARIANTS)
def test_pruned_net_is_smaller_can_be_reloaded_and_exported(
    model: str, arguments: dict[str, Any], data: Dataset, tmp_path: Path
) -> None:
    net = make_net(model, **arguments)
    before, image = structure_of(net), torch.rand(2, 3, 64, 64)
    pruned = prune_channels(net, data, ratio=0.5, spec=SPEC)
    after = structure_of(pruned)
    assert structure_of(net) == before
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            says = name.split(".")[0] in ("head", "heads", "cgm")  # the classes
            assert after[name][1] == (3 if says else remaining(before[name][1], ratio=0.5)), name
    card = Card(
        model=model,
        arguments={"num_classes": 3, "width": WIDTH.get(model, 4), **arguments},
        classes=CLASSES,
        palette=PALETTE,
        input=SPEC,
        data="cells",
        structure=after,
    )
    save_checkpoint(tmp_path / "net.safetensors", pruned, card)
    loaded = Checkpoint.open(tmp_path / "net.safetensors").net
    for found, wanted in zip(outputs(loaded, image), outputs(pruned, image), strict=True):
        assert torch.equal(found, wanted)
    check_graph(pruned, image, tmp_path / "net.onnx")


def check_graph(net: SegmentationNet, image: torch.Tensor, path: Path) -> None:
    """The exported graph returns the same as PyTorch."""
    trace(net, path, height=64, width=64, channels=3)
    found = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})
    with torch.inference_mode():
        logits, presence = net.predict(image)
    for answer, wanted in zip(
        found, [logits] if presence is None else [logits, presence], strict=True
    ):
        np.testing.assert_allclose(answer, wanted.numpy(), atol=2e-5)


@pytest.mark.parametrize(("model", "arguments"), [*VARIANTS, *OTHERS])
def test_removing_dead_channels_changes_no_output(model: str, arguments: dict[str, Any]) -> None:
    check_group_consistency(make_net(model, **arguments), torch.rand(1, 3, 64, 64))


def test_removing_dead_channels_changes_no_output_with_cropped_skips() -> None:
    check_group_consistency(make_net("unet", padding="valid"), torch.rand(1, 3, 112, 128))


def check_group_consistency(net: SegmentationNet, image: torch.Tensor) -> None:
    """Zero random channels in the layers that produce them; removing them must change no output.

    The layers that read them keep their weights: if a reader lost another channel, or the wrong
    one of a concatenation, its sum would change. The check runs in FP64, so that rounding is far
    below the effect of a lost channel.
    """
    net, image = net.double(), image.double()
    untouched = outputs(net, image)
    groups = coupled_channels(net, image)
    generator = torch.Generator().manual_seed(2)
    chosen = []
    for group in groups:
        size = len(group[0].idxs)
        order = torch.randperm(size, generator=generator)
        chosen.append(order[: size - remaining(size, ratio=0.5)].tolist())
        silence(group, chosen[-1])
    expected = outputs(net, image)
    assert not torch.allclose(untouched[0], expected[0], atol=1e-3), "the channels had an effect"
    assert any(chosen)
    remove(groups, chosen)
    for found, wanted in zip(outputs(net, image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def silence(group: tp.Group, channels: list[int]) -> None:
    """Make the layers that produce the group's channels output zero."""
    for position, (dependency, indices) in enumerate(group):
        layer = dependency.target.module
        reads = dependency.handler == tp.prune_conv_in_channels
        if reads or not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            continue
        roots = group[position].root_idxs
        gone = [index for index, root in zip(indices, roots, strict=True) if root in channels]
        weight = layer.weight.data
        (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight)[gone] = 0
        if layer.bias is not None:
            layer.bias.data[gone] = 0


def test_channels_that_do_not_affect_the_loss_are_removed_first(data: Dataset) -> None:
    net = make_net("unet")
    first = net.get_submodule("encoder.0.0")
    assert isinstance(first, nn.Sequential)
    norm = first[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.bias.fill_(1)
        norm.weight[[0, 2]] = 0  # constant channels below zero, which the activation removes
        norm.bias[[0, 2]] = -1
    kept = norm.weight[[1, 3]].clone()
    pruned = prune_channels(net, data, ratio=0.5, spec=SPEC)
    assert torch.equal(pruned.get_parameter("encoder.0.0.1.weight"), kept)
    assert all(parameter.grad is None for parameter in pruned.parameters())


def test_importance_is_reproducible(data: Dataset) -> None:
    nets = [prune_channels(make_net("unetpp"), data, ratio=0.5, spec=SPEC) for _ in range(2)]
    one, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_prunes_on_grayscale_padded_images(data: Dataset) -> None:
    spec = InputSpec(64, 32, channels=("gray",), resize="pad", mean=(0.5,), std=(0.2,))
    net = make_net("unet", in_channels=1, cgm=True)
    pruned = prune_channels(net, data, ratio=0.5, spec=spec)
    assert structure_of(pruned)["encoder.0.0.0"] == (1, 2)


@pytest.mark.parametrize(
    ("channels", "ratio", "wanted"),
    [
        (64, 0.5, 32),
        (96, 0.3, 64),  # 67.2
        (24, 0.5, 16),  # 12 is in the middle; the wider one
        (20, 0.5, 8),
        (12, 0.1, 8),
        (9, 0.01, 8),
        (16, 0.1, 16),
        (8, 0.5, 4),
        (5, 0.5, 2),
        (3, 0.99, 1),
    ],
)
def test_remaining_channels_are_a_multiple_of_8_if_there_are_8(
    channels: int, ratio: float, wanted: int
) -> None:
    assert remaining(channels, ratio=ratio) == wanted


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_refuses_ratios_out_of_range(ratio: float, data: Dataset) -> None:
    with pytest.raises(UsageError, match=r"ratio is .* between 0 and 1, such as 0\.5"):
        prune_channels(make_net("unet"), data, ratio=ratio, spec=SPEC)


def test_refuses_a_ratio_that_removes_nothing(data: Dataset) -> None:
    with pytest.raises(UsageError, match=r"ratio 0\.05 removes nothing.*larger ratio"):
        prune_channels(make_net("unet"), data, ratio=0.05, spec=SPEC)
