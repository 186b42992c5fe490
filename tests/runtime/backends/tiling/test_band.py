"""The band of rows that are not finished."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edgeunet.runtime import Tiling
from edgeunet.runtime.backends.tiling import TiledBackend
from edgeunet.runtime.backends.tiling import backend as tiled_backend
from edgeunet.runtime.frames import Batch
from support.media import Frame
from support.tiles import Bright, bundle_of


def peak(tiled: TiledBackend, frame: Frame) -> int:
    """Bytes that segmenting takes at most, beside the mask."""
    tracemalloc.start()
    tiled.segment(Batch.of([frame]))
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken - frame.shape[0] * frame.shape[1]


def test_memory_grows_neither_with_the_image_nor_beyond_the_band(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    band = 4 * 2 * 64 * 256  # FP32, two classes, 64 rows, 256 columns
    monkeypatch.setattr(tiled_backend, "_BAND_BYTES", band)
    tiled = TiledBackend(Bright(bundle_of(64, 64)), Tiling(batch=2))
    small = peak(tiled, np.zeros((256, 256, 3), np.uint8))
    assert small > band, "the band does not show"
    # How many batches are in flight differs from run to run; a band of 4096 columns has 2 MiB.
    for size in ((4096, 256), (256, 4096)):
        assert peak(tiled, np.zeros((*size, 3), np.uint8)) < 2 * small
