"""Masks of a graph that is not in a bundle yet, and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import Flavour, InputSpec
from edgeunet.data.windows import content, middle
from edgeunet.metrics import (
    IGNORE,
    Mask,
    confusion_matrix,
    mean_iou,
    pixel_agreement,
    without_labels,
)
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.postprocess import Postprocessor
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.sources.labelled import LabelledFrame

Size = tuple[int, int]


class MaskNet:
    """A graph on ONNX Runtime that returns masks.

    Args:
        gate: thresholds of the presence, None if the net has no gate or it is not calibrated.
        flavour: of the graph, see `OrtNet`.
    """

    def __init__(
        self, path: Path, spec: InputSpec, *, gate: Sequence[float] | None, flavour: Flavour
    ) -> None:
        self._net = OrtNet(path, flavour=flavour)
        self._finish = Postprocessor(replace(spec, window=None, fill=None), gate)
        self.classes: int = self._net.output_shapes["logits"][1]

    def __call__(self, image: npt.NDArray[np.float32], size: Size) -> Mask:
        """Net input (1, C, h, w) -> class ids of `size`."""
        mask: Mask = self._finish(*self._net.infer(image), size)[0]
        return mask


class Tally:
    """Accuracy of one net's masks against a reference's masks and against labels, summed up."""

    def __init__(self, classes: int) -> None:
        self._agreements: list[float] = []
        self._confusion = np.zeros((classes, classes), np.int64)

    def add(self, expected: Mask, found: Mask, labels: Mask | None) -> None:
        """Add one frame's masks. labels: None if there are none."""
        self._agreements.append(pixel_agreement(expected, found))
        if labels is not None:
            self._confusion += confusion_matrix(labels, found, num_classes=len(self._confusion))

    @property
    def agreement(self) -> float:
        """Share of the pixels that equal the reference's, 0..1; the mean over the frames."""
        return float(np.mean(self._agreements))

    @property
    def left_out(self) -> tuple[int, ...]:
        """Classes that the mIoU is not averaged over, because no label has them."""
        return without_labels(self._confusion)

    @property
    def miou(self) -> float | None:
        """MIoU against the labels, 0..1; None if they have less than two classes.

        It is the mean over the classes that a label has: the same ones for each graph. With one
        class, a graph that always gives that class would be perfect.
        """
        labelled = np.count_nonzero(self._confusion.sum(axis=1))
        return mean_iou(self._confusion) if labelled > 1 else None


@dataclass(frozen=True)
class Loss:
    """What a graph loses, or may lose, against the reference graph.

    points: of mIoU; None without labels, and if any loss is allowed. differ: percent of the pixels.
    """

    points: float | None
    differ: float

    def beyond(self, allowed: Loss) -> float:
        """By how much the worse of the two is above what is allowed; below 0 if both are within."""
        over = self.differ - allowed.differ
        if self.points is None or allowed.points is None:
            return over
        return max(over, self.points - allowed.points)


class Judge:
    """Measures how much graphs lose against the reference graph on the same samples.

    A net that runs on windows is measured on the window in the middle of each sample.

    Memory: the samples' net inputs and masks.
    """

    def __init__(
        self,
        reference: Path,
        samples: Iterable[LabelledFrame],
        spec: InputSpec,
        *,
        gate: Sequence[float] | None,
    ) -> None:
        self.reference, self._spec, self._gate = reference, spec, gate
        prepare = Preprocessor(spec)
        net = MaskNet(reference, spec, gate=gate, flavour="fp32")
        own = Tally(net.classes)
        self.images: list[npt.NDArray[np.float32]] = []
        self._expected: list[tuple[Mask, Mask | None]] = []
        for sample in samples:
            self.images.append(prepare([sample.image]))
            size, labels = _seen(sample, spec)
            mask = net(self.images[-1], size)
            own.add(mask, mask, labels)
            self._expected.append((mask, labels))
        self.miou = own.miou  # of the reference
        labelled = any(labels is not None for _, labels in self._expected)
        self.left_out = own.left_out if labelled else ()

    def tally(self, path: Path, flavour: Flavour) -> Tally:
        """Accuracy of a graph's masks. flavour: see `OrtNet`."""
        net = MaskNet(path, self._spec, gate=self._gate, flavour=flavour)
        tally = Tally(net.classes)
        for image, (mask, labels) in zip(self.images, self._expected, strict=True):
            tally.add(mask, net(image, (mask.shape[0], mask.shape[1])), labels)
        return tally

    def loss(self, path: Path, flavour: Flavour) -> Loss:
        """What a graph loses."""
        tally = self.tally(path, flavour)
        differ = 100 * (1 - tally.agreement)
        if self.miou is None or tally.miou is None:
            return Loss(None, differ)
        return Loss(100 * (self.miou - tally.miou), differ)


def _seen(sample: LabelledFrame, spec: InputSpec) -> tuple[Size, Mask | None]:
    """Size and labels of what the net sees of a sample; what is not of the sample is ignored."""
    if spec.window is None:
        return (sample.image.shape[0], sample.image.shape[1]), sample.labels
    size = spec.height, spec.width
    if sample.labels is None:
        return size, None
    _, (rows, columns) = middle(sample.image, spec)
    labels = np.full(size, IGNORE, np.uint8)
    inside = sample.labels[content(sample.image, spec)][rows.inside, columns.inside]
    labels[rows.within, columns.within] = inside
    return size, labels
