"""What a closed gate spares on the GPU: frames a second with and without early exit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.runtime.backends.postprocess import open_classes
from edgeunet.runtime.backends.tensorrt import TensorRTBackend
from edgeunet.runtime.frames import Batch, Frame

BATCH, ROUNDS = 8, 5


@dataclass(frozen=True)
class EarlyExit:
    """frames: that were timed, skipped: of them, without the decoder. Rates in frames a second."""

    frames: int
    skipped: int
    everything: float
    early_exit: float


def time_early_exit(bundle: Bundle, frames: Sequence[Frame]) -> EarlyExit:
    """Time a gated bundle, and the same with thresholds that close nothing.

    Raises:
        AssertionError: early exit changes a mask.
    """
    assert bundle.manifest.gate is not None
    ungated = replace(
        bundle, manifest=replace(bundle.manifest, gate=(0.0,) * len(bundle.manifest.gate))
    )
    batch = min(BATCH, bundle.manifest.max_batch)
    groups = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    with TensorRTBackend(bundle) as gated, TensorRTBackend(ungated) as whole:
        skipped = 0
        for group in groups:
            result = gated.segment(Batch.of(group))
            outputs = gated.net.infer(gated.preprocess(group))
            wanted = gated.postprocess(*outputs, group[0].shape[:2])
            differ = float(np.mean(result.masks != wanted))
            assert differ < 1e-3, f"early exit changes {differ:.3%} of the pixels"
            assert result.presence is not None
            opened = open_classes(result.presence, bundle.manifest.gate)
            skipped += int((opened.sum(axis=1) <= 1).sum())
        return EarlyExit(len(frames), skipped, _rate(whole, groups), _rate(gated, groups))


def _rate(backend: TensorRTBackend, groups: Sequence[Sequence[Frame]]) -> float:
    """Frames a second of one stream; its first round, which makes buffers and graphs, apart."""
    results = backend.stream(map(Batch.of, [*groups] * (1 + ROUNDS)))
    for _ in groups:
        next(results)
    started = time.perf_counter()
    count = sum(len(result.masks) for result in results)
    return count / (time.perf_counter() - started)
