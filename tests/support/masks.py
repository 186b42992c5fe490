"""Small frames, masks and outputs for tests of the sinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import Sink
from edgeunet.runtime.sources import SourceFrame
from edgeunet.shapes.regions import Legend
from support.media import Frame

PALETTE = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
CLASSES = ("background", "cell", "film")
LEGEND = Legend(CLASSES, PALETTE)


def frame(size: tuple[int, int] = (64, 96), value: int = 100) -> Frame:
    return np.full((*size, 3), value, np.uint8)


def no_class(size: tuple[int, int] = (64, 96)) -> Frame:
    return np.zeros(size, np.uint8)


def write(sink: Sink, image: Frame, mask: Frame, *, index: int = 0) -> None:
    sink.write(Segmented(SourceFrame(index, "", image), mask))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def segmented(
    mask: Frame, *, index: int = 0, name: str = "", time: float | None = None
) -> Segmented:
    image = np.full((*mask.shape, 3), 100, np.uint8)
    return Segmented(SourceFrame(index, name, image, time), mask)
