"""The reference: PyTorch on float-resized images, judged at the image's own resolution.

Written without the runtime's pre- and post-processing, so that `edgeunet parity` can hold those
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..manifest import InputSpec
from ..metrics import (
    Mask,
    Matrix,
    Scores,
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    mean_iou,
)
from ..models import SegmentationNet
from .data import Dataset, Image, read_image, read_mask


def to_input(image: Image, spec: InputSpec) -> Tensor:
    """RGB or grayscale image (H, W, C) -> net input (1, C, height, width), FP32."""
    pixels = torch.from_numpy(image).movedim(-1, 0)[None].float()
    if spec.color == "gray" and pixels.shape[1] == 3:
        # ITU-R BT.601, rounded as an image file in grayscale would be.
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        pixels = (pixels * luma).sum(1, keepdim=True).round()
    if spec.color == "bgr":
        pixels = pixels.flip(1)
    mean = torch.tensor(spec.mean).view(1, -1, 1, 1)
    std = torch.tensor(spec.std).view(1, -1, 1, 1)
    height, width = spec.fitted_size(*image.shape[:2])
    resized = functional.interpolate(
        pixels, size=(height, width), mode="bilinear", align_corners=False
    )
    normalised = (resized / 255 - mean) / std
    return functional.pad(normalised, (0, spec.width - width, 0, spec.height - height))


def to_logits(head: Tensor, spec: InputSpec, height: int, width: int) -> Tensor:
    """Head (1, C, h, w) -> logits (1, C, height, width) at the image's resolution."""
    fitted = spec.fitted_size(height, width)
    rows = head.shape[2] * fitted[0] // spec.height
    columns = head.shape[3] * fitted[1] // spec.width
    return functional.interpolate(
        head[:, :, :rows, :columns], size=(height, width), mode="bilinear", align_corners=False
    )


def to_mask(
    head: Tensor,
    presence: Tensor | None,
    spec: InputSpec,
    size: tuple[int, int],
    *,
    thresholds: Sequence[float] | None,
) -> Mask:
    """Head (1, C, h, w), presence (1, C) -> class ids at `size`, classes below threshold closed."""
    logits = to_logits(head.float(), spec, *size)
    if presence is not None and thresholds is not None:
        closed = presence[0] < torch.tensor(thresholds)
        if bool(closed.all()):
            closed[0] = False
        logits[:, closed] = -torch.inf
    mask: Mask = logits.argmax(1)[0].byte().numpy()
    return mask


def confusion_on(
    predict: Callable[[Image], Mask], dataset: Dataset, split: str, *, channels: int
) -> Matrix:
    """Confusion matrix of `predict` over a split, at the images' own resolution."""
    num_classes = len(dataset.classes)
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64).numpy()
    for sample in dataset.samples(split):
        truth = read_mask(sample.mask, num_classes=num_classes)
        predicted = predict(read_image(sample.image, channels=channels))
        total += confusion_matrix(truth, predicted, num_classes=num_classes)
    return total


@torch.inference_mode()
def reference_mask(net: SegmentationNet, image: Image, spec: InputSpec) -> Mask:
    """Class ids (H, W) of one image, without the gate."""
    logits, _ = net.predict(to_input(image, spec))
    return to_mask(logits, None, spec, (image.shape[0], image.shape[1]), thresholds=None)


def validate(net: SegmentationNet, dataset: Dataset, *, spec: InputSpec) -> dict[str, Any]:
    """`miou`, and `iou` and `dice` by class, in percent, on the validation split, without the gate.

    What a card holds as metrics; None for a class that does not appear.
    """
    confusion = confusion_on(
        lambda image: reference_mask(net, image, spec), dataset, "val", channels=spec.channels
    )
    return {
        "miou": round(100 * mean_iou(confusion), 3),
        "iou": _percent(iou_per_class(confusion)),
        "dice": _percent(dice_per_class(confusion)),
    }


def _percent(scores: Scores) -> list[float | None]:
    return [None if np.isnan(score) else round(100 * float(score), 2) for score in scores]
