"""Functions as outputs, and the sink that drops everything."""

from __future__ import annotations

import numpy as np

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import open_sink
from support.masks import CLASSES, PALETTE, segmented


def test_function_gets_what_came_out() -> None:
    came: list[Segmented] = []
    frames = [segmented(np.full((4, 6), index, np.uint8), index=index) for index in range(3)]
    with open_sink(came.append, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for frame in frames:
            sink.write(frame)
    assert all(one is other for one, other in zip(came, frames, strict=True))
