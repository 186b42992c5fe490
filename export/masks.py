"""From a graph to masks and to what they are worth, without a bundle around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeunet.manifest import InputSpec
from edgeunet.metrics import Mask, confusion_matrix, mean_iou, pixel_agreement
from edgeunet.parity import ParitySample
from edgeunet.runtime.postprocess import Postprocessor
from edgeunet.runtime.preprocess import Preprocessor

from .session import open_session

Size = tuple[int, int]


class MaskNet:
    """A graph on ONNX Runtime, from input to mask.

    Args:
        gate: thresholds of the presence, None where the net has no gate or it is not calibrated.
        as_written: see `open_session`.
    """

    def __init__(
        self,
        path: Path,
        spec: InputSpec,
        *,
        gate: Sequence[float] | None,
        as_written: bool = False,
    ) -> None:
        self._session = open_session(path, as_written=as_written)
        self._finish = Postprocessor(spec, gate)
        self.classes: int = self._session.get_outputs()[0].shape[1]

    def __call__(self, image: npt.NDArray[np.float32], size: Size) -> Mask:
        """Net input (1, C, h, w) -> class ids of `size`."""
        logits, *presence = self._session.run(None, {"image": image})
        mask: Mask = self._finish(logits, presence[0] if presence else None, size)[0]
        return mask


class Judge:
    """What graphs lose against the reference graph on the same samples, which it holds.

    Memory: the samples' net inputs and masks.
    """

    def __init__(
        self,
        reference: Path,
        samples: Iterable[ParitySample],
        spec: InputSpec,
        *,
        gate: Sequence[float] | None,
    ) -> None:
        self._spec, self._gate = spec, gate
        prepare = Preprocessor(spec)
        net = MaskNet(reference, spec, gate=gate)
        self._classes = net.classes
        self.images: list[npt.NDArray[np.float32]] = []
        self._wanted: list[Mask] = []
        self._labels: list[Mask] = []
        for sample in samples:
            self.images.append(prepare([sample.image]))
            self._wanted.append(net(self.images[-1], sample.image.shape[:2]))
            if sample.labels is not None:
                self._labels.append(sample.labels)

    def loss(self, path: Path, *, as_written: bool = False) -> float:
        """Points of mIoU that a graph loses, or, without labels, percent of pixels that differ."""
        net = MaskNet(path, self._spec, gate=self._gate, as_written=as_written)
        found = [
            net(image, (mask.shape[0], mask.shape[1]))
            for image, mask in zip(self.images, self._wanted, strict=True)
        ]
        if self._labels:
            return 100 * (self._miou(self._wanted) - self._miou(found))
        pairs = zip(self._wanted, found, strict=True)
        return 100 * (1 - float(np.mean([pixel_agreement(*pair) for pair in pairs])))

    def _miou(self, masks: Sequence[Mask]) -> float:
        pairs = zip(self._labels, masks, strict=True)
        return mean_iou(
            sum(
                (confusion_matrix(*pair, num_classes=self._classes) for pair in pairs),
                start=np.zeros((self._classes, self._classes), np.int64),
            )
        )
