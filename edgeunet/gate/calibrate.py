"""Calibrate the classification-guided gate: presence thresholds from validation data.

U-Net 3+ (arXiv 2004.08790, section 2.3) takes the likelier of present and absent. Here every class
has its own threshold. Classes differ in how rare they are and in how well the gate recognises them,
and the two errors differ: a class that is closed wrongly is lost, one left open only costs time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..bundle.manifest import InputSpec
from ..bundle.schema import encode
from ..data.datasets import Dataset, read_labels
from ..data.fit import Fit
from ..errors import CheckpointError, UsageError, printable
from ..files import locked
from ..metrics import class_pixels
from ..models import Checkpoint, SegmentationNet, save_checkpoint
from ..models.base import presence_of
from ..models.checkpoints import check_output
from ..models.lineage import tell_of_val
from ..models.reference import to_input
from .confidence import CONFIDENCE, images_needed, least_share, most_lost
from .report import GateReport, Pixels, Presence, check_images, gate_report

MAX_LOST = 0.005
"""Share of a class's true pixels that its gate may lose."""


def calibrate_gate(
    presence: Presence,
    pixels: Pixels,
    *,
    max_lost: float,
    margin: float = 0.0,
    open_on: float | None = None,
    classes: Sequence[str] = (),
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
            still no more than `max_lost` is lost, and `open_on` holds.
        open_on: share of the images with a class that its gate must be open on, with a probability
            of `CONFIDENCE`, on images that the net and this function have not seen. It holds for
            images that are drawn as these are: presences by nets that have not seen them. None
            promises nothing.
        classes: their names, for errors.

    Returns:
        Thresholds that FP32 holds exactly.

    Raises:
        UsageError: no image, different shapes, a presence that is not a probability, `max_lost`,
            `margin` or `open_on` out of range, or too few images with a class to promise
            `open_on`.
    """
    if not 0 <= max_lost < 1:
        raise UsageError(
            f"the pixels that may be lost are {max_lost:.4g} of all; expected a share from 0 to "
            "less than 1."
        )
    if not 0 <= margin < np.inf:
        raise UsageError(f"margin is {margin:.4g} logits; expected 0 or a finite positive number.")
    check_images(presence, pixels)
    closed_on = closed_at_most((pixels > 0).sum(axis=0), len(pixels), open_on, classes=classes)
    return tuple(
        _threshold(presence[:, index], pixels[:, index], max_lost, margin, closed_on[index])
        for index in range(presence.shape[1])
    )


def closed_at_most(
    held: Pixels, images: int, open_on: float | None, *, classes: Sequence[str] = ()
) -> tuple[int, ...]:
    """On how many of the images with each class its gate may be closed to keep a promise.

    Args:
        held: (C,), how many of the images hold each class. open_on, classes: see `calibrate_gate`.

    Raises:
        UsageError: `open_on` out of range, or too few images with a class that others lack.
    """
    if open_on is None:
        return tuple(held.tolist())
    if not 0 < open_on < 1:
        raise UsageError(
            f"the gate is to be open on {100 * open_on:.4g} % of the images with a class; expected "
            "more than 0 and less than 100: no number of images promises all."
        )
    allowed = []
    for index, count in enumerate(held.tolist()):
        if count in (0, images):  # that gate stays open
            allowed.append(count)
            continue
        most = most_lost(count, open_on)
        if most is None:
            name = classes[index] if classes else index
            raise UsageError(
                f"the gate of '{printable(name)}' is to be open on {100 * open_on:.4g} % of the "
                f"images with it, with {CONFIDENCE:.0%} confidence, but {count} images hold it; "
                f"that takes {images_needed(open_on)} or more. Give more images, or promise less: "
                f"{count} carry {least_share(count, count):.1%} at most."
            )
        allowed.append(most)
    return tuple(allowed)


def collect_presence(
    net: SegmentationNet,
    dataset: Dataset,
    spec: InputSpec,
    *,
    split: str = "val",
    report: Callable[[int], None] = lambda images: None,
) -> tuple[Presence, Pixels]:
    """Presence (M, C) and true pixels (M, C) of whole images, those of a split.

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
    dataset.check_count(net.num_classes, "the net has")
    fit = Fit(spec)
    presence, pixels = [], []
    for index, sample in enumerate(dataset.samples(split)):
        image = to_input(fit.read(sample.image), spec)
        with torch.inference_mode():
            presence.append(presence_of(net.cgm(net.encode(image)[-1]))[0].numpy())
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
    open_on: float | None = None,
    force: bool = False,
    report: Callable[[int], None] = lambda images: None,
) -> GateReport:
    """Calibrate a checkpoint's gate on the val split and write a copy with the thresholds.

    The card of the copy has the thresholds, and the returned report as metrics["gate"].

    Args:
        output: .safetensors; may be the checkpoint's own file if `force` is set.
        max_lost, margin, open_on: see `calibrate_gate`. report: see `collect_presence`.

    Raises:
        OutputExistsError: `output` exists and `force` is false. OutputError: another run writes it.
        UsageError: `output` is no .safetensors. Those of `calibrate_gate` and `collect_presence`.
    """
    check_output(output, force=force)
    with locked(output):
        net, card = checkpoint.net, checkpoint.card
        net.check_size(card.input.height, card.input.width)
        dataset.check_classes(card.classes, "the net has")
        tell_of_val(checkpoint, dataset.name, "Its gate is surer there than on other images.")
        presence, pixels = collect_presence(net, dataset, card.input, report=report)
        thresholds = calibrate_gate(
            presence,
            pixels,
            max_lost=max_lost,
            margin=margin,
            open_on=open_on,
            classes=dataset.classes,
        )
        found = gate_report(presence, pixels, thresholds=thresholds, classes=dataset.classes)
        gate = {"max_lost": max_lost, "margin": margin, "open_on": open_on, **encode(found)}
        metrics = {**card.metrics, "gate": gate}
        card = replace(card, gate=thresholds, metrics=metrics)
        # Loading widened FP16 weights, so they become FP16 again without loss.
        save_checkpoint(output, net, card, half=checkpoint.half)
        return found


def _threshold(
    presence: Presence, pixels: Pixels, max_lost: float, margin: float, most_closed: int
) -> float:
    """Threshold of one class from presence (M,) and pixels (M,)."""
    held = pixels > 0
    if held.all() or not held.any():
        return 0.0
    levels, level_of = np.unique(_lowered(presence[held], margin), return_inverse=True)  # ascending
    # If closed up to each level:
    lost = np.cumsum(np.bincount(level_of, weights=pixels[held]))
    closed = np.cumsum(np.bincount(level_of))
    must_open = levels[(lost / lost[-1] > max_lost) | (closed > most_closed)][0]
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
