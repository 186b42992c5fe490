"""Calibrate the classification-guided gate: thresholds of the presence, from validation data.

U-Net 3+ (arXiv 2004.08790, section 2.3) takes the likelier of the two answers. Here every class has
a threshold of its own, because classes differ in how rare they are and in how well the gate knows
them, and because a class that is closed wrongly is lost, while one left open costs time only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..bundle.manifest import InputSpec
from ..bundle.schema import encode
from ..data.datasets import Dataset, read_image, read_labels
from ..errors import CheckpointError, DatasetError, UsageError
from ..metrics import class_pixels
from ..models import Checkpoint, SegmentationNet, save_checkpoint
from ..models.checkpoints import check_output
from ..models.reference import to_input
from .report import GateReport, Pixels, Presence, check_images, gate_report

MAX_LOST = 0.005
"""Share of a class's true pixels that its gate may lose."""


def calibrate_gate(
    presence: Presence, pixels: Pixels, *, max_lost: float, margin: float = 0.0
) -> tuple[float, ...]:
    """Thresholds by class id that close each class on as many images without it as possible.

    `presence < threshold` closes. Of a class's true pixels, at most the share `max_lost` lies in
    images that it is closed on. A class that every image holds or none does, or that cannot be
    closed on any image without it, gets 0: nothing is gained by closing it, or nothing is known.

    A threshold lies between the highest presence that it closes an image without the class by, and
    the lowest above that of an image with it: halfway in logits, for FP16 and INT8 shift the score
    before the sigmoid. A threshold further up would lose more pixels of the class, within what is
    allowed, but close no further image without it.

    Args:
        presence: (M, C), of M images. pixels: (M, C), true pixels of each class.
        max_lost: share of the pixels, from 0 to less than 1.
        margin: logits by which every presence may come out lower than here, as in INT8, without
            more than `max_lost` being lost.

    Returns:
        Thresholds that FP32 holds exactly.

    Raises:
        UsageError: no image, shapes that differ, a presence that is not a probability, or
            `max_lost` or `margin` out of range.
    """
    if not 0 <= max_lost < 1:
        raise UsageError(
            f"the pixels that may be lost are {max_lost:.4g} of all; a share from 0 to less than 1 "
            "was wanted."
        )
    if not 0 <= margin < np.inf:
        raise UsageError(f"the margin is {margin:.4g} logits; it must be finite and not negative.")
    check_images(presence, pixels)
    return tuple(
        _threshold(presence[:, index], pixels[:, index], max_lost, margin)
        for index in range(presence.shape[1])
    )


def collect_presence(
    net: SegmentationNet,
    dataset: Dataset,
    spec: InputSpec,
    *,
    report: Callable[[int], None] = lambda images: None,
) -> tuple[Presence, Pixels]:
    """Presence (M, C) and true pixels (M, C) of the whole images of the val split.

    Args:
        report: told the number of images so far.

    Raises:
        CheckpointError: the net has no gate. DatasetError: the data has other classes.
    """
    if net.cgm is None:
        raise CheckpointError(
            f"{type(net).__name__} has no gate here: it was built without cgm. Train it with --cgm."
        )
    if len(dataset.classes) != net.num_classes:
        raise DatasetError(
            f"{dataset.root} has {len(dataset.classes)} classes, the net has {net.num_classes}."
        )
    presence, pixels = [], []
    for index, sample in enumerate(dataset.samples("val")):
        image = to_input(read_image(sample.image, channels=spec.channels), spec)
        with torch.inference_mode():
            presence.append(net.cgm(net.encode(image)[-1])[0].numpy())
        mask = read_labels(sample, num_classes=net.num_classes)
        pixels.append(class_pixels(mask, num_classes=net.num_classes))
        report(index + 1)
    return np.stack(presence), np.stack(pixels)


def calibrated(
    net: SegmentationNet,
    dataset: Dataset,
    spec: InputSpec,
    *,
    max_lost: float = MAX_LOST,
    margin: float = 0.0,
    report: Callable[[int], None] = lambda images: None,
) -> GateReport:
    """Calibrate a net's gate on the val split; the thresholds and what they do there.

    The net must be in evaluation mode, with the weights that will be saved. Arguments and errors
    are those of `calibrate_gate` and `collect_presence`.
    """
    presence, pixels = collect_presence(net, dataset, spec, report=report)
    thresholds = calibrate_gate(presence, pixels, max_lost=max_lost, margin=margin)
    return gate_report(presence, pixels, thresholds=thresholds, classes=dataset.classes)


def calibrate_checkpoint(
    checkpoint: Checkpoint,
    dataset: Dataset,
    output: Path,
    *,
    max_lost: float = MAX_LOST,
    margin: float = 0.0,
    force: bool = False,
    report: Callable[[int], None] = lambda images: None,
) -> GateReport:
    """Write a copy of a checkpoint whose card has thresholds and, as metrics["gate"], the report.

    Args:
        output: .safetensors; may be the checkpoint's own file if `force` is set.

    Raises:
        OutputExistsError: `output` stands already and `force` is false.
        UsageError: `output` is no .safetensors. Those of `calibrated`.
    """
    check_output(output, force=force)
    net, card = checkpoint.net, checkpoint.card
    net.check_size(card.input.height, card.input.width)
    found = calibrated(net, dataset, card.input, max_lost=max_lost, margin=margin, report=report)
    gate = {"max_lost": max_lost, "margin": margin, **encode(found)}
    metrics = {**card.metrics, "gate": gate}
    card = replace(card, gate=found.thresholds, metrics=metrics)
    # FP16 weights were widened to load them, so they are narrowed again without loss.
    save_checkpoint(output, net, card, half=checkpoint.half)
    return found


def _threshold(presence: Presence, pixels: Pixels, max_lost: float, margin: float) -> float:
    """Threshold of one class from presence (M,) and pixels (M,)."""
    held = pixels > 0
    if held.all() or not held.any():
        return 0.0
    levels, level_of = np.unique(_lowered(presence[held], margin), return_inverse=True)  # ascending
    lost = np.cumsum(np.bincount(level_of, weights=pixels[held]))  # by closing up to each level
    must_open = levels[lost / lost[-1] > max_lost][0]
    closable = presence[~held & (presence < must_open)]
    if not closable.size:
        return 0.0
    highest = closable.max()
    return _between(float(highest), float(levels[levels > highest][0]))


def _lowered(presence: Presence, margin: float) -> Presence:
    """The presence with `margin` taken off its logits."""
    if margin == 0:
        return presence
    wide = presence.astype(np.float64)
    lowered: Presence = (wide / (wide + (1 - wide) * np.exp(margin))).astype(np.float32)
    return lowered


def _between(closed: float, opened: float) -> float:
    """FP32 value above `closed`, at most `opened`, halfway between their logits where it can be."""
    # Sigmoid rounds to 0 and 1 at the ends, where the logit is infinite.
    ends = np.clip([closed, opened], np.finfo(np.float32).tiny, 1 - 2.0**-25)
    logit = np.log(ends / (1 - ends)).mean()
    middle = float(np.float32(1 / (1 + np.exp(-logit))))
    return middle if closed < middle <= opened else opened
