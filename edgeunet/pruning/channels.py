"""Channel pruning of any variant: removes whole groups of coupled channels, least important first.

Skips, concatenations, residual additions, depthwise convolutions and squeeze-excitation couple the
channels of several layers. Torch-Pruning finds these groups from the net's own graph: Fang et al.,
"DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv 2301.12900).

The loss decides which channels are removed: Molchanov et al., "Importance Estimation for Neural
Network Pruning", CVPR 2019 (arXiv 1906.10771). The size of the weights would say little, because
batch normalisation rescales them. Points of mIoU that mobile_unet loses before any fine-tuning, by
this Taylor criterion and by the group's L2 norm, on 24 and 17 held-out frames:

    cells    a tenth of the channels   1.0  10.9
             a fifth                   2.8  31.6
    camvid   a tenth                   5.3   3.8
             a fifth                  48.5  44.4

Taylor is far better on cells. It is slightly worse on camvid, which needs fine-tuning either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ..bundle.card import Card
from ..bundle.manifest import InputSpec
from ..data.datasets import Dataset, read_labels
from ..data.fit import Fit, Frame
from ..errors import CheckpointError, UsageError
from ..metrics import Mask
from ..models import SegmentationNet
from ..models.depth import pruned_training
from ..models.reference import to_input, to_logits
from ..models.structure import structure_of
from ..training.losses import Target, cross_entropy_dice, gate_loss

IMPORTANCE_IMAGES = 32
"""Training images that the importance is measured on, evenly spaced."""

ROUND_TO = 8
"""The remaining channels are a multiple of this, which vector and tensor core kernels need."""


def prune_channels(
    net: SegmentationNet, dataset: Dataset, *, ratio: float, spec: InputSpec
) -> SegmentationNet:
    """A copy of the net with fewer channels; `structure_of` returns the channels of its layers.

    The channels of the image, of the logits and of the presence stay.

    Args:
        dataset: its training images decide which channels matter.
        ratio: share of the channels to remove from every group of coupled channels, between 0 and
            1. `remaining` rounds what is left. Parameters and arithmetic fall faster, to about
            (1 - ratio)^2.
        spec: the net's input.

    Raises:
        UsageError: the ratio is out of range, or too small to remove anything from this net.
    """
    if not 0 < ratio < 1:
        raise UsageError(
            f"ratio is {ratio:g}; expected the share of the channels to remove, between 0 and 1, "
            "such as 0.5."
        )
    pruned = deepcopy(net).eval()
    groups = coupled_channels(pruned, blank(spec))
    chosen = [
        least_important(importance, ratio=ratio)
        for importance in importances(pruned, groups, dataset, spec)
    ]
    if not any(chosen):
        raise UsageError(
            f"ratio {ratio:g} removes nothing: channels are kept in multiples of {ROUND_TO}, and "
            "this net is too narrow for so small a share. Pass a larger ratio."
        )
    remove(groups, chosen)
    return pruned


def remaining(channels: int, *, ratio: float) -> int:
    """Channels left in a group: the nearest multiple of 8, or any number below 8."""
    wanted = channels * (1 - ratio)
    if wanted < ROUND_TO:
        return max(1, round(wanted))
    return min(channels, int(wanted + ROUND_TO / 2) // ROUND_TO * ROUND_TO)


def blank(spec: InputSpec) -> Tensor:
    """An image of zeros for a net, (1, C, H, W)."""
    return torch.zeros(1, len(spec.channels), spec.height, spec.width)


def coupled_channels(net: SegmentationNet, image: Tensor) -> list[tp.Group]:
    """Groups of channels that can only be removed together, except those of the net's outputs.

    Nets of the same layers have the same groups, in the same order.

    Args:
        image: (1, C, H, W) of a size that the net takes; its values do not matter.
    """
    with torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(net, image, forward_fn=_outputs)
    groups = graph.get_all_groups(root_module_types=(nn.Conv2d, nn.ConvTranspose2d))
    return [
        group
        for group in groups
        if not any(dependency.target.type == tp.ops.OPTYPE.OUTPUT for dependency, _ in group)
    ]


def names_of(net: SegmentationNet, groups: Sequence[tp.Group]) -> list[str]:
    """The first layer of each group, by its name in the net."""
    names = {id(module): name for name, module in net.named_modules()}
    return [names[id(group[0].dep.target.module)] for group in groups]


def resolutions(
    net: SegmentationNet, groups: Sequence[tp.Group], image: Tensor
) -> list[tuple[int, int]]:
    """(height, width) of what the first layer of each group puts out."""
    found: dict[int, tuple[int, int]] = {}

    def note(layer: nn.Module, inputs: object, output: Tensor) -> None:
        found[id(layer)] = (output.shape[2], output.shape[3])

    layers = [group[0].dep.target.module for group in groups]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.inference_mode():
        net.run_whole(image)
    for hook in hooks:
        hook.remove()
    return [found[id(layer)] for layer in layers]


def importances(
    net: SegmentationNet, groups: Sequence[tp.Group], dataset: Dataset, spec: InputSpec
) -> list[Tensor]:
    """What the loss on training images says of the channels of each group's first layer.

    Comparable between groups: not normalised, and a dead group has 0.
    """
    _loss_gradients(net, dataset, spec)
    found = [tp.importance.GroupTaylorImportance(normalizer=None)(group) for group in groups]
    net.zero_grad(set_to_none=True)
    return found


def least_important(importance: Tensor, *, ratio: float) -> list[int]:
    """Channels of a group to remove."""
    surplus = len(importance) - remaining(len(importance), ratio=ratio)
    return [int(index) for index in torch.argsort(importance)[:surplus]]


def remove(groups: Sequence[tp.Group], chosen: Sequence[Sequence[int]]) -> None:
    """Remove the chosen channels of each group from all layers that they pass through."""
    for group, channels in zip(groups, chosen, strict=True):
        if channels:
            group.prune(list(channels))


def without(
    net: SegmentationNet, chosen: Sequence[Sequence[int]], spec: InputSpec
) -> SegmentationNet:
    """A copy of the net without the chosen channels of each group of `coupled_channels`."""
    copy = deepcopy(net).eval()
    remove(coupled_channels(copy, blank(spec)), chosen)
    return copy


def pruned_card(card: Card, net: SegmentationNet, record: dict[str, Any]) -> Card:
    """The card of a net with fewer channels, without what was measured on the net before.

    Args:
        record: of the pruning.
    """
    return replace(
        card,
        metrics={},
        training=pruned_training(card, record),
        structure=structure_of(net),
        gate=None,
    )


def check_same_pruning(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """CheckpointError, with what differs, for a directory that another pruning left."""
    other = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
    if other:
        raise CheckpointError(
            f"{folder} belongs to another pruning, which was not finished, with other "
            f"{' and '.join(other)}. Remove it, or pass another output."
        )


def _outputs(net: SegmentationNet, image: Tensor) -> list[Tensor]:
    """All heads, including those for training only, and the gate's scores."""
    heads, scores = net.run_whole(image)
    outputs = [*heads] if scores is None else [*heads, scores]
    # Cloned, because the graph does not mark a layer's own result as an output.
    return [output.clone() for output in outputs]


def _loss_gradients(net: SegmentationNet, dataset: Dataset, spec: InputSpec) -> None:
    """Sum the gradients of the training loss over whole images, with fixed batch statistics."""
    samples, fit = dataset.samples("train"), Fit(spec)
    for sample in samples[:: max(1, len(samples) // IMPORTANCE_IMAGES)]:
        image = fit.read(sample.image)
        mask = read_labels(sample, num_classes=len(dataset.classes))
        with torch.enable_grad():
            _loss(net, image, mask, spec).backward()  # type: ignore[no-untyped-call]


def _loss(net: SegmentationNet, image: Frame, mask: Mask, spec: InputSpec) -> Tensor:
    heads, scores = net.run_whole(to_input(image, spec))
    target = Target(torch.from_numpy(mask).long()[None])  # (1, H, W)
    logits = [to_logits(head, spec, mask.shape[0], mask.shape[1]) for head in heads]
    loss = torch.stack([cross_entropy_dice(head, target) for head in logits]).mean()
    return loss if scores is None else loss + gate_loss(scores, target)
