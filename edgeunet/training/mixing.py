"""Class mixing: crops that get the pixels of some classes of another crop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import UsageError
from ..metrics import IGNORE
from .transfer import on_device

Ids = npt.NDArray[np.int64]


def mix_classes(
    batch: list[Tensor],
    share: float,
    rng: np.random.Generator,
    classes: Callable[[int], Ids] | None = None,
) -> list[Tensor]:
    """Paste half the classes of its neighbour in the batch into a share of the crops.

    Olsson et al., "ClassMix" (WACV 2021, arXiv 2007.07936), here between labelled crops. A thing
    is seen in front of what it never stood before. The image is not mixed beyond the labels: a
    margin of context around them stays that of the crop itself.

    Args:
        batch: images (B, C, H, W), class ids (B, h, w), and what else there is of each pixel, such
            as weights (B, h, w). Images may be larger by an equal margin on every side.
        share: of the crops, 0..1.
        classes: the ids in a crop, ascending, `IGNORE` too. None looks for them, and waits for a
            device where the batch is.

    Returns:
        New tensors, or the same ones if no crop is mixed.
    """
    images, labels, *others = batch
    chosen = [index for index in range(len(labels)) if rng.random() < share]
    if not chosen or len(labels) < 2:
        return batch
    taken = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool)  # classes of the neighbour
    if classes is None:
        classes = partial(_classes_in, labels)
    for index in chosen:
        found = classes(index - 1)
        found = found[found != IGNORE]
        taken[index, rng.permutation(found)[: len(found) // 2]] = True
    theirs = labels.roll(1, 0)
    pasted = on_device(taken, labels.device).gather(1, theirs.flatten(1)).view_as(labels)
    margin = (images.shape[-1] - labels.shape[-1]) // 2
    within = images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
    mixed = images.clone()
    inner = mixed[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
    inner.copy_(torch.where(pasted[:, None], within.roll(1, 0), within))
    return [mixed, *(torch.where(pasted, each.roll(1, 0), each) for each in (labels, *others))]


def check_mixing(crops: int) -> None:
    """UsageError unless a step has another crop to mix one with. crops: labelled, of a device."""
    if crops < 2:
        raise UsageError(
            f"got --mix, but a step has {crops} labelled crop on each device; expected at least 2, "
            "of which one gets classes of the other. Pass a larger --batch, or leave --mix out."
        )


def _classes_in(labels: Tensor, index: int) -> Ids:
    return np.unique(labels[index].cpu().numpy())
