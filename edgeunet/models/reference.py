"""The PyTorch reference: float-resized images, evaluated at the image's own resolution.

It does not use the runtime's pre- and post-processing, so that `edgeunet parity` can test those
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

from ..bundle.manifest import BYTE_FILTERS, RGB, Filter, InputSpec
from ..bundle.steps import ImageStatistics
from ..data.datasets import Dataset, read_labels
from ..data.fit import Fit, Frame
from ..data.windows import Floats, content, mask_of
from ..metrics import (
    IGNORE,
    Mask,
    Matrix,
    boundary_f1,
    check_labels,
    confusion_matrix,
    dice_per_class,
    in_percent,
    iou_per_class,
    mean_iou,
    without_labels,
)
from . import SegmentationNet


def to_input(image: Frame, spec: InputSpec) -> Tensor:
    """Frame (H, W, C), see `InputSpec.frame_channels` -> net input (1, C, height, width), FP32.

    Of a net that runs on windows it is the window in the middle.
    """
    if spec.window is not None:
        whole = to_whole(image, spec)
        top, left = (
            (length - side) // 2
            for length, side in zip(whole.shape[2:], (spec.height, spec.width), strict=True)
        )
        return whole[:, :, top : top + spec.height, left : left + spec.width]
    pixels = _channels(image, spec)
    height, width = spec.fitted_size(*image.shape[:2])
    if spec.statistics is None:
        normalised = _affine(_resized(pixels, (height, width), spec.filter), spec)
    elif spec.filter in BYTE_FILTERS:
        resized = _resized(pixels, (height, width), spec.filter)
        normalised = _affine(_by_itself(resized, pixels, spec.statistics), spec)
    else:
        own = _by_itself(pixels, pixels, spec.statistics)
        normalised = _affine(_resized(own, (height, width), spec.filter), spec)
    top, left = spec.offset(*image.shape[:2])
    net_input = _outside(spec).repeat(1, 1, spec.height, spec.width)
    net_input[:, :, top : top + height, left : left + width] = normalised
    return net_input


def to_whole(image: Frame, spec: InputSpec) -> Tensor:
    """What windows are cut from: the frame at its own size, (1, C, H, W), FP32.

    It is what the windows' `crop` leaves of it, padded to at least the size of a window.
    """
    pixels = _channels(image[content(image, spec)], spec)
    own = pixels if spec.statistics is None else _by_itself(pixels, pixels, spec.statistics)
    sides = [
        (max(length, side), max(side - length, 0) // 2)
        for length, side in zip(pixels.shape[2:], (spec.height, spec.width), strict=True)
    ]
    (height, top), (width, left) = sides
    whole = _outside(spec).repeat(1, 1, height, width)
    whole[:, :, top : top + pixels.shape[2], left : left + pixels.shape[3]] = _affine(own, spec)
    return whole


def _channels(image: Frame, spec: InputSpec) -> Tensor:
    """Raw values of the net's channels, (1, C, H, W), FP32."""
    pixels = torch.from_numpy(image.astype(np.float32)).movedim(-1, 0)[None]
    if spec.channels == ("gray",) and pixels.shape[1] == 3:
        # ITU-R BT.601, rounded as in a grayscale image file.
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (pixels * luma).sum(1, keepdim=True).round()
    if set(spec.channels) <= set(RGB):
        return pixels[:, [RGB.index(name) for name in spec.channels]]
    return pixels


def _by_itself(values: Tensor, measured: Tensor, statistics: ImageStatistics) -> Tensor:
    """Values (1, C, h, w), normalised by what is measured on an image (1, C, H, W)."""
    kept = torch.ones_like(measured, dtype=torch.bool)
    if statistics.pixels == "nonzero":
        kept = measured != 0
    elif statistics.pixels == "content":
        kept = (measured != 0).any(1, keepdim=True).expand_as(measured)
    result, channels = values.double(), list(range(values.shape[1]))
    for group in [[each] for each in channels] if statistics.per_channel else [channels]:
        chosen = measured[:, group][kept[:, group]].double().numpy()
        low, spread = _spread(chosen, statistics) if len(chosen) else (0.0, 0.0)
        result[:, group] = (result[:, group] - low) / statistics.divisor(spread)
    return (torch.where(kept, result, 0.0) if statistics.masks else result).float()


def _spread(values: npt.NDArray[np.float64], statistics: ImageStatistics) -> tuple[float, float]:
    """What is subtracted, and the deviation or the range that is divided by."""
    if statistics.measure == "zscore":
        return float(values.mean()), float(values.std())
    low, high = np.percentile(values, statistics.percentiles)
    return float(low), float(high - low)


def _affine(values: Tensor, spec: InputSpec) -> Tensor:
    """Values (1, C, h, w), raw or normalised by an image's statistics -> those of the net."""
    black, white = spec.levels if spec.statistics is None else (0.0, 1.0)
    mean = torch.tensor(spec.mean).view(1, -1, 1, 1)
    std = torch.tensor(spec.std).view(1, -1, 1, 1)
    return ((values - black) / (white - black) - mean) / std


def _outside(spec: InputSpec) -> Tensor:
    """The net's values (1, C, 1, 1) where there is no frame."""
    empty = torch.zeros(1, len(spec.channels), 1, 1)
    return empty if spec.fill is None else _affine(empty + spec.fill, spec)


def _resized(pixels: Tensor, size: tuple[int, int], how: Filter) -> Tensor:
    """Planes (1, C, H, W) -> (1, C, *size), FP32, by the library that the filter is from."""
    if how == "bilinear":
        return functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    if how in ("antialias", "torchvision"):
        # In FP64: in FP32 PyTorch's weights lose the bits of a pixel's position.
        antialiased = functional.interpolate(
            pixels.double(), size=size, mode="bilinear", align_corners=False, antialias=True
        )
        return (antialiased if how == "antialias" else antialiased.round()).float()
    planes = pixels[0].numpy()
    columns_and_rows = (size[1], size[0])
    if how == "area":
        resized = [cv2.resize(p, columns_and_rows, interpolation=cv2.INTER_AREA) for p in planes]
    else:
        kernel = Pillow.Resampling.BILINEAR if how == "pillow" else Pillow.Resampling.BICUBIC
        images = [
            Pillow.fromarray(p.astype(np.uint8)).resize(columns_and_rows, kernel) for p in planes
        ]
        resized = [np.asarray(image) for image in images]
    return torch.from_numpy(np.stack(resized))[None].float()


def to_logits(head: Tensor, spec: InputSpec, height: int, width: int) -> Tensor:
    """Head (1, C, h, w) -> logits (1, C, height, width) at the image's resolution."""
    fitted, offset = spec.fitted_size(height, width), spec.offset(height, width)
    rows, columns = (
        slice(first * side // whole, (first + part) * side // whole)
        for first, part, side, whole in zip(
            offset, fitted, head.shape[2:], (spec.height, spec.width), strict=True
        )
    )
    return functional.interpolate(
        head[:, :, rows, columns], size=(height, width), mode="bilinear", align_corners=False
    )


def to_mask(
    head: Tensor,
    presence: Tensor | None,
    spec: InputSpec,
    size: tuple[int, int],
    *,
    thresholds: Sequence[float] | None,
) -> Mask:
    """Head (1, C, h, w), presence (1, C) -> class ids at `size`, without the closed classes."""
    logits = to_logits(head.float(), spec, *size)
    if presence is not None and thresholds is not None:
        closed = ~(presence[0] >= torch.tensor(thresholds))  # NaN closes too, as in the runtime
        if bool(closed.all()):
            closed[0] = False
        logits[:, closed] = -torch.inf
    mask: Mask = logits.argmax(1)[0].byte().numpy()
    return mask


@dataclass(frozen=True)
class Evaluation:
    """Predicted masks compared with the labels of a split.

    confusion: pixels by (true class, predicted class). boundary: F1 of the class boundaries within
    2 pixels, averaged over the images, 0..1. classes: names by class id. images: mean IoU of each
    image by itself, in percent.
    """

    confusion: Matrix
    boundary: float
    classes: tuple[str, ...]
    images: tuple[float, ...] = ()

    @property
    def miou(self) -> float:
        """Mean IoU in percent, over the classes that a label has."""
        return round(100 * mean_iou(self.confusion), 3)

    def metrics(self) -> dict[str, Any]:
        """Metrics for a card, in percent; None for a class that does not appear.

        `left_out` names the classes that `miou` is not averaged over, if there are any.
        """
        left_out = [self.classes[index] for index in without_labels(self.confusion)]
        return {
            "miou": self.miou,
            **(
                {"averaged": len(self.classes) - len(left_out), "left_out": left_out}
                if left_out
                else {}
            ),
            "iou": list(in_percent(iou_per_class(self.confusion))),
            "dice": list(in_percent(dice_per_class(self.confusion))),
            "boundary_f1": round(100 * self.boundary, 2),
        }


def evaluate_on(
    predict: Callable[[Frame], Mask], dataset: Dataset, split: str, *, fit: Fit
) -> Evaluation:
    """Evaluate `predict` on a split, at the images' own resolution.

    Raises:
        DatasetError: the labels hold fewer than two classes, so that a mean IoU says nothing.
    """
    num_classes = len(dataset.classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    boundaries, images = [], []
    for sample in dataset.samples(split):
        truth = read_labels(sample, num_classes=num_classes)
        predicted = predict(fit.read(sample.image))
        pixels = confusion_matrix(truth, predicted, num_classes=num_classes)
        confusion += pixels
        images.append(round(100 * mean_iou(pixels), 3))
        # Ignored pixels are made equal on both sides, so that predictions there do not count.
        boundaries.append(boundary_f1(truth, np.where(truth == IGNORE, truth, predicted)))
    check_labels(confusion, dataset.classes, where=str(dataset.root / split))
    boundary = float(np.mean(boundaries))
    return Evaluation(confusion, boundary, dataset.classes, tuple(images))


@torch.inference_mode()
def reference_mask(
    net: SegmentationNet,
    image: Frame,
    spec: InputSpec,
    *,
    thresholds: Sequence[float] | None = None,
) -> Mask:
    """Class ids (H, W) of one image; the gate is not applied without thresholds."""
    device = next(net.parameters()).device

    def predicted(images: Floats) -> Floats:
        logits, _ = net.predict(torch.from_numpy(images).to(device))
        return logits.float().cpu().numpy()

    if spec.window is not None:
        return mask_of(predicted, to_whole(image, spec)[0].numpy(), image, spec)
    logits, presence = net.predict(to_input(image, spec).to(device))
    presence = None if presence is None else presence.cpu()
    size = (image.shape[0], image.shape[1])
    return to_mask(logits.cpu(), presence, spec, size, thresholds=thresholds)


def validate(net: SegmentationNet, dataset: Dataset, *, spec: InputSpec) -> dict[str, Any]:
    """Metrics for a card, on the validation split, without the gate."""
    found = evaluate_on(
        lambda image: reference_mask(net, image, spec), dataset, "val", fit=Fit(spec)
    )
    return found.metrics()
