"""Class mixing: crops that get the pixels of some classes of another crop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..metrics import IGNORE


def mix_classes(batch: list[Tensor], share: float, rng: np.random.Generator) -> list[Tensor]:
    """Paste half the classes of its neighbour in the batch into a share of the crops.

    Olsson et al., "ClassMix" (WACV 2021, arXiv 2007.07936), here between labelled crops. A thing
    is seen in front of what it never stood before. The image is not mixed beyond the labels: a
    margin of context around them stays that of the crop itself.

    Args:
        batch: images (B, C, H, W), class ids (B, h, w), and what else there is of each pixel, such
            as weights (B, h, w). Images may be larger by an equal margin on every side.
        share: of the crops, 0..1.

    Returns:
        New tensors, or the same ones if no crop is mixed.
    """
    images, labels, *others = batch
    chosen = [index for index in range(len(labels)) if rng.random() < share]
    if not chosen or len(labels) < 2:
        return batch
    margin = (images.shape[-1] - labels.shape[-1]) // 2
    within = images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
    pasted = torch.zeros_like(labels, dtype=torch.bool)
    for index in chosen:
        theirs = labels[index - 1]
        classes = np.unique(theirs.cpu().numpy())
        classes = classes[classes != IGNORE]
        half = rng.permutation(classes)[: len(classes) // 2]
        pasted[index] = torch.isin(theirs, torch.from_numpy(half).to(theirs.device))
    mixed = images.clone()
    inner = mixed[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
    inner.copy_(torch.where(pasted[:, None], within.roll(1, 0), within))
    return [mixed, *(torch.where(pasted, each.roll(1, 0), each) for each in (labels, *others))]
