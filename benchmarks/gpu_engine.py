"""One engine on the GPU: its golden frames, then the net alone and the whole way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

from edgeunet.bundle.bundle import Bundle
from edgeunet.runtime.backends.tensorrt import TensorRTBackend
from edgeunet.runtime.frames import Batch
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
