"""A scene of cells, and what its frames hold."""

from __future__ import annotations

import numpy as np

from edgeunet.data.cells import CLASSES, CellFrame, Scene

BACKGROUND, CELL, DIVIDING = range(3)
SCENE = Scene(height=128, width=160, cells=9, seed=5, radius=12.0, period=200)


def check_frame(frame: CellFrame, height: int, width: int) -> None:
    assert frame.image.shape == (height, width, 3)
    assert frame.image.dtype == np.uint8
    assert frame.mask.shape == (height, width)
    assert frame.mask.dtype == np.uint8
    assert frame.instances.shape == (height, width)
    assert frame.instances.dtype == np.uint16
    assert frame.mask.max() < len(CLASSES)
    np.testing.assert_array_equal(frame.instances > 0, frame.mask > 0)
    pairs = np.unique(frame.instances.astype(np.int64) * len(CLASSES) + frame.mask)
    assert len(pairs) == len(ids(frame) | {0}) - frame.mask.all(), "an instance has two classes"


def is_empty(frame: CellFrame) -> bool:
    return not frame.mask.any()


def ids(frame: CellFrame) -> set[int]:
    return set(np.unique(frame.instances).tolist()) - {0}
