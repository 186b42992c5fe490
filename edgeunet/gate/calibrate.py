"""Calibrate the classification-guided gate: presence thresholds from validation data.

U-Net 3+ (arXiv 2004.08790, section 2.3) takes the likelier of present and absent. Here every class
has its own threshold. Classes differ in how rare they are and in how well the gate recognises them,
and the two errors differ: a class that is closed wrongly is lost, one left open only costs time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..bundle.manifest import InputSpec
from ..bundle.schema import encode
from ..data.datasets import Dataset, read_labels
from ..data.fit import Fit
from ..errors import CheckpointError, UsageError
from ..files import locked
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

    `presence < threshold` closes a class. At most the share `max_lost` of the class's true pixels
    lies in images that it is closed on. The threshold is 0, always open, if every image holds the
    class, if none does, or if it cannot be closed on any image without it.

    A threshold lies halfway, in logits, between two presences: the highest of an image without the
    class that it closes, and the lowest above that of an image with the class. Logits, because
    FP16 and INT8 shift the score before the sigmoid. A higher threshold would lose more pixels of
    the class, within what is allowed, without closing another image that lacks it.

    Args:
        presence: (M, C), of M images. pixels: (M, C), true pixels of each class.
        max_lost: share of the pixels, from 0 to less than 1.
        margin: safety margin in logits, to allow for INT8 error. If every presence falls by it,
            still no more than `max_lost` is lost.

    Returns:
        Thresholds that FP32 holds exactly.

    Raises:
        UsageError: no image, different shapes, a presence that is not a probability, or `max_lost`
            or `margin` out of range.
    """
    if not 0 <= max_lost < 1:
        raise UsageError(
            f"the pixels that may be lost are {max_lost:.4g} of all; expected a share from 0 to "
            "less than 1."
        )
    if not 0 <= margin < np.inf:
        raise UsageError(f"margin is {margin:.4g} logits; expected 0 or a finite positive number.")
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
    """Presence (M, C) and true pixels (M, C) of whole images, those of the val split.

    Args:
        net: a gated net in evaluation mode.
        report: called with the number of images so far.

    Raises:
        CheckpointError: the net has no gate. DatasetError: the data has other classes.
    """
    if net.cgm is None:
        raise CheckpointError(
            f"this {type(net).__name__} has no gate: it was built without cgm. Train it with --cgm."
        )
    dataset.check_classes(net.num_classes, "the net has")
    fit = Fit(spec)
    presence, pixels = [], []
    for index, sample in enumerate(dataset.samples("val")):
        image = to_input(fit.read(sample.image), spec)
        with torch.inference_mode():
            presence.append(net.cgm(net.encode(image)[-1])[0].numpy())
        mask = read_labels(sample, num_classes=net.num_classes)
        pixels.append(class_pixels(mask, num_classes=net.num_classes))
        report(index + 1)
    return np.stack(presence), np.stack(pixels)


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
    """Calibrate a checkpoint's gate on the val split and write a copy with the thresholds.

    The card of the copy has the thresholds, and the returned report as metrics["gate"].

    Args:
        output: .safetensors; may be the checkpoint's own file if `force` is set.
        max_lost, margin: see `calibrate_gate`. report: see `collect_presence`.

    Raises:
        OutputExistsError: `output` exists and `force` is false. OutputError: another run writes it.
        UsageError: `output` is no .safetensors. Those of `calibrate_gate` and `collect_presence`.
    """
    check_output(output, force=force)
    with locked(output):
        net, card = checkpoint.net, checkpoint.card
        net.check_size(card.input.height, card.input.width)
        presence, pixels = collect_presence(net, dataset, card.input, report=report)
        thresholds = calibrate_gate(presence, pixels, max_lost=max_lost, margin=margin)
        found = gate_report(presence, pixels, thresholds=thresholds, classes=dataset.classes)
        gate = {"max_lost": max_lost, "margin": margin, **encode(found)}
        metrics = {**card.metrics, "gate": gate}
        card = replace(card, gate=thresholds, metrics=metrics)
        # Loading widened FP16 weights, so they become FP16 again without loss.
        save_checkpoint(output, net, card, half=checkpoint.half)
        return found


def _threshold(presence: Presence, pixels: Pixels, max_lost: float, margin: float) -> float:
    """Threshold of one class from presence (M,) and pixels (M,)."""
    held = pixels > 0
    if held.all() or not held.any():
        return 0.0
    levels, level_of = np.unique(_lowered(presence[held], margin), return_inverse=True)  # ascending
    lost = np.cumsum(np.bincount(level_of, weights=pixels[held]))  # if closed up to each level
    must_open = levels[lost / lost[-1] > max_lost][0]
    closable = presence[~held & (presence < must_open)]
    if not closable.size:
        return 0.0
    highest = closable.max()
    return _between(float(highest), float(levels[levels > highest][0]))


def _lowered(presence: Presence, margin: float) -> Presence:
    """Presence after its logits fall by `margin`."""
    if margin == 0:
        return presence
    wide = presence.astype(np.float64)
    lowered: Presence = (wide / (wide + (1 - wide) * np.exp(margin))).astype(np.float32)
    return lowered


def _between(closed: float, opened: float) -> float:
    """FP32 value above `closed`, at most `opened`; halfway between their logits if FP32 has it."""
    # The sigmoid rounds to 0 and 1 at its ends, whose logits are infinite.
    ends = np.clip([closed, opened], np.finfo(np.float32).tiny, 1 - 2.0**-25)
    logit = np.log(ends / (1 - ends)).mean()
    middle = float(np.float32(1 / (1 + np.exp(-logit))))
    return middle if closed < middle <= opened else opened
