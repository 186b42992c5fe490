"""Frames to compare masks on: of a data set with labels, of anything else without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeunet.data.datasets import is_dataset, open_dataset, read_labels
from edgeunet.data.fit import Fit
from edgeunet.errors import UsageError
from edgeunet.metrics import Mask

from ..frames import Frame, SourceFrame
from .opening import Frames

Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelledFrame:
    """A frame, fitted to the net, and its labels (H, W), None if it has none."""

    name: str
    image: Frame
    labels: Mask | None


def labelled_frames(
    path: Path,
    *,
    classes: Sequence[str],
    fit: Fit,
    layout: str | None = None,
    most: int | None = None,
) -> Iterator[LabelledFrame]:
    """A data set's val split with labels, or images or a film without.

    Args:
        classes: of the net, by id. fit: turns what is read into frames for the net. layout: of a
            data set, see `open_dataset`.
        most: look at so many frames, evenly spaced; None for all.

    Raises:
        DatasetError, SourceError: what lies there cannot be read. UsageError: it has no end.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec; from edgeunet.data import cells, fit
        >>> from edgeunet.runtime.sources.labelled import labelled_frames
        >>> cells.write_dataset(Path("cells"), train=1, val=3, height=64, width=96)
        >>> reader = fit.Fit(InputSpec(64, 96))
        >>> found = labelled_frames(Path("cells"), classes=cells.CLASSES, fit=reader, most=2)
        >>> [each.name for each in found]
        ['000000.png', '000001.png']
    """
    if is_dataset(path, layout):
        dataset = open_dataset(path, layout)
        dataset.check_classes(classes, "the bundle has")
        samples = dataset.samples("val")
        for sample in samples if most is None else _spread(samples, most):
            labels = read_labels(sample, num_classes=len(classes))
            yield LabelledFrame(sample.image.name, fit.read(sample.image), labels)
        return
    frames = Frames.open(path)
    if frames.kind == "live":
        raise UsageError(f"{frames.name} never ends. Pass images, a video or a data set as --data.")
    with frames.read() as source:
        if most is None:
            yield from (_fitted(frame, fit) for frame in source)
        else:
            yield from _thinned(source, fit, most)


def _fitted(frame: SourceFrame, fit: Fit) -> LabelledFrame:
    name = frame.name or f"{frame.index:06d}"
    return LabelledFrame(name, fit(frame.image, frame.channels, name=name), None)


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    step = max(1.0, len(items) / most)
    return [items[int(index * step)] for index in range(min(most, len(items)))]


def _thinned(frames: Iterable[SourceFrame], fit: Fit, most: int) -> list[LabelledFrame]:
    """At most so many of the frames, evenly spaced; others are not kept: a film has too many."""
    found: list[LabelledFrame] = []
    step = 1
    for index, each in enumerate(frames):
        if index % step:
            continue
        found.append(_fitted(each, fit))
        if len(found) > most:
            found = found[::2]
            step *= 2
    return found
