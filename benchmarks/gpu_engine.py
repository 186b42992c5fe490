"""One bundle's engines on the GPU: golden frames, the net alone, the whole way, and early exit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.runtime.backends.postprocess import open_classes
from edgeunet.runtime.backends.tensorrt import TensorRTBackend
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.gpu.cuda import CudaDevice, Stream
from edgeunet.runtime.gpu.engine import (
    BuiltEngine,
    build_bundle_engine,
    engine_parts,
    load_toolkit,
)
from edgeunet.runtime.gpu.engine.execution import Execution, LoadedEngine
from edgeunet.runtime.segmenter import Segmenter

BATCHES = (1, 4, 8, 16)
END_TO_END_BATCH = 8
WARM_UP, CALLS = 20, 100
EARLY_EXIT_ROUNDS = 5


@dataclass(frozen=True)
class EngineTimes:
    """Of one bundle in one precision.

    build_seconds: 0 where an engine was kept. agreement: share of the golden pixels. net_ms: by
    batch, median of the net alone. frames_per_second: from host frames to host masks.
    """

    build_seconds: float
    engine_mb: float
    agreement: float
    net_ms: dict[int, float]
    frames_per_second: float


def time_engine(bundle: Bundle) -> EngineTimes:
    """Build what is missing, check and time. Raises as the backend does, and as `self_check`."""
    started = time.perf_counter()
    parts = engine_parts(bundle, runtime="tensorrt")
    built = [build_bundle_engine(bundle, part=part) for part in parts]
    seconds = time.perf_counter() - started if any(engine.built for engine in built) else 0.0
    with Segmenter(bundle, TensorRTBackend(bundle)) as segmenter:
        agreement = segmenter.self_check()
        rate = _end_to_end(segmenter)
    return EngineTimes(
        build_seconds=round(seconds, 1),
        engine_mb=round(sum(engine.card.plan_bytes for engine in built) / 1e6, 2),
        agreement=agreement,
        net_ms=_net_alone(built),
        frames_per_second=rate,
    )


def _net_alone(built: list[BuiltEngine]) -> dict[int, float]:
    """Milliseconds of the net by batch; its engines run one after the other, on all frames."""
    with ExitStack() as stack:
        device = stack.enter_context(CudaDevice())
        toolkit = load_toolkit("tensorrt")
        engines = [
            stack.enter_context(
                LoadedEngine(toolkit, each.path, device, sha256=each.card.plan_sha256)
            )
            for each in built
        ]
        tensors = {name: t for engine in engines for name, t in engine.tensors.items()}
        limit = engines[0].max_batch
        places = {
            name: device.allocate(limit * tensor.frame_bytes).address
            for name, tensor in tensors.items()
        }
        stream = device.stream()
        executions = [stack.enter_context(Execution(engine, stream, places)) for engine in engines]

        def run(batch: int) -> None:
            for execution in executions:
                execution.enqueue(batch)

        return {
            batch: median_milliseconds(device, stream, lambda batch=batch: run(batch))
            for batch in BATCHES
            if batch <= limit
        }


def median_milliseconds(device: CudaDevice, stream: Stream, queue: Callable[[], None]) -> float:
    """Median time on the device of what `queue` puts into the stream."""
    marks = [device.event() for _ in range(CALLS + 1)]
    for _ in range(WARM_UP):
        queue()
    marks[0].record(stream)
    for mark in marks[1:]:
        queue()
        mark.record(stream)
    stream.synchronize()
    times = [mark.seconds_since(before) for before, mark in pairwise(marks)]
    return 1000 * statistics.median(times)


def _end_to_end(segmenter: Segmenter) -> float:
    """Frames a second from host frames to host masks, with several batches in flight."""
    golden = segmenter.bundle.golden().frames
    batch = min(END_TO_END_BATCH, segmenter.manifest.max_batch)
    supply = cycle(golden)
    groups = [Batch.of(list(islice(supply, batch))) for _ in range(WARM_UP + CALLS)]
    results = segmenter.backend.stream(groups)
    for _ in range(WARM_UP):
        next(results)
    started = time.perf_counter()
    frames = sum(len(result.masks) for result in results)
    return frames / (time.perf_counter() - started)


@dataclass(frozen=True)
class EarlyExit:
    """frames: that were timed, skipped: of them, without the decoder. Rates in frames a second.

    differ: share of the pixels that early exit changes, on the batch where it changes most.
    """

    frames: int
    skipped: int
    differ: float
    everything: float
    early_exit: float


def time_early_exit(bundle: Bundle, frames: Sequence[Frame]) -> EarlyExit:
    """Time a gated bundle, and the same with thresholds that close nothing."""
    assert bundle.manifest.gate is not None
    ungated = replace(
        bundle, manifest=replace(bundle.manifest, gate=(0.0,) * len(bundle.manifest.gate))
    )
    batch = min(END_TO_END_BATCH, bundle.manifest.max_batch)
    groups = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    with TensorRTBackend(bundle) as gated, TensorRTBackend(ungated) as whole:
        skipped, differ = 0, 0.0
        for group in groups:
            result = gated.segment(Batch.of(group))
            outputs = gated.net.infer(gated.preprocess(group))
            wanted = gated.postprocess(*outputs, group[0].shape[:2])
            differ = max(differ, float(np.mean(result.masks != wanted)))
            assert result.presence is not None
            opened = open_classes(result.presence, bundle.manifest.gate)
            skipped += int((opened.sum(axis=1) <= 1).sum())
        return EarlyExit(len(frames), skipped, differ, _rate(whole, groups), _rate(gated, groups))


def _rate(backend: TensorRTBackend, groups: Sequence[Sequence[Frame]]) -> float:
    """Frames a second of one stream; its first round, which makes buffers and graphs, apart."""
    results = backend.stream(map(Batch.of, [*groups] * (1 + EARLY_EXIT_ROUNDS)))
    for _ in groups:
        next(results)
    started = time.perf_counter()
    count = sum(len(result.masks) for result in results)
    return count / (time.perf_counter() - started)
