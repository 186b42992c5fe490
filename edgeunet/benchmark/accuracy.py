"""How close the masks of an entry are to the reference's, and what mIoU it loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle.bundle import Bundle
from ..data.fit import Fit
from ..errors import UsageError
from ..metrics import Mask, check_labels, confusion_matrix, mean_iou, pixel_agreement
from ..runtime.frames import Batch, Frame
from ..runtime.segmenter import Segmenter
from ..runtime.sources.labelled import LabelledFrame, labelled_frames

MOST = 200
"""Frames of given data that are looked at, evenly spaced."""


@dataclass(frozen=True)
class Data:
    """Frames to judge on. name: for people."""

    name: str
    samples: tuple[LabelledFrame, ...]

    @property
    def labelled(self) -> bool:
        """Whether the frames have labels."""
        return self.samples[0].labels is not None


def read_data(path: Path, bundle: Bundle, fit: Fit, layout: str | None) -> Data:
    """At most `MOST` frames of a data set's val split, with labels, or of images or a film.

    Raises:
        DatasetError, SourceError: what lies there cannot be read. UsageError: no frame, or no end.
    """
    classes = bundle.manifest.classes
    samples = tuple(labelled_frames(path, classes=classes, fit=fit, layout=layout, most=MOST))
    if not samples:
        raise UsageError(f"{path} holds no frame. Pass images, a video or a data set as --data.")
    return Data(path.resolve().name, samples)


def golden_agreement(segmenter: Segmenter, whole: Bundle) -> float:
    """Share of golden pixels as the reference's, of the deepest net if there are several."""
    golden = whole.golden()
    masks = [_mask(segmenter, frame) for frame in golden.frames]
    return float(np.mean(np.stack(masks) == golden.masks))


def masks_of(segmenter: Segmenter, data: Data) -> list[Mask]:
    """A mask (H, W) for each frame."""
    return [_mask(segmenter, sample.image) for sample in data.samples]


def _mask(segmenter: Segmenter, frame: Frame) -> Mask:
    """Of a frame that is fitted already: the segmenter would do that once more."""
    (result,) = segmenter.backend.segment(Batch.of([frame]))
    return result.mask


def mean_agreement(masks: Sequence[Mask], wanted: Sequence[Mask]) -> float:
    """Mean share of equal pixels."""
    pairs = zip(masks, wanted, strict=True)
    return float(np.mean([pixel_agreement(ours, theirs) for ours, theirs in pairs]))


def miou(masks: Sequence[Mask], data: Data, bundle: Bundle) -> float:
    """In percent, on labelled frames.

    Raises:
        DatasetError: the labels hold fewer than two classes.
    """
    classes = bundle.manifest.classes
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for sample, mask in zip(data.samples, masks, strict=True):
        assert sample.labels is not None
        confusion += confusion_matrix(sample.labels, mask, num_classes=len(classes))
    check_labels(confusion, classes, where=data.name)
    return 100 * mean_iou(confusion)
