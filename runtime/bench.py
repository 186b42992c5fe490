"""Where the time goes: each stage by itself, warm-up apart, with the machine it was measured on."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import FLAVOURS, Precision
from edgeunet.doctor import environment
from edgeunet.errors import ParityError, UsageError
from edgeunet.latency import median_latencies

from .backends import create_backend
from .frames import Batch, Frame
from .options import DEFAULTS, LoadOptions
from .segmenter import Segmenter
from .sinks import MaskDirectory
from .sources import Frames

WARM_UP = 5
STAGES = ("decode", "preprocess", "infer", "postprocess", "sink")


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds a frame at three percentiles."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class BatchBench:
    """One batch size: times by stage, and frames per second of all stages one after the other."""

    batch: int
    stages: dict[str, StageTimes]
    net_rate: float
    serial_rate: float


@dataclass(frozen=True)
class BenchReport:
    """A whole run; `peak_memory_mb` is the process's largest resident set."""

    bundle: str
    model: str
    precision: str
    backend: str
    frame_size: tuple[int, int]
    batches: tuple[BatchBench, ...]
    peak_memory_mb: float
    environment: dict[str, str]


def bench(
    segmenter: Segmenter,
    *,
    batches: Sequence[int] = (1,),
    source: str | Path | None = None,
    repeats: int = 40,
) -> BenchReport:
    """Time a bundle on frames of `source`, or on its golden frames, which need no decoding.

    Before timing, the golden frames are checked: no speed is reported for wrong masks.

    Raises:
        UsageError: a batch that the bundle cannot take. ParityError: the golden check failed.
    """
    limit = segmenter.manifest.max_batch
    wrong = [batch for batch in batches if not 1 <= batch <= limit]
    if wrong:
        raise UsageError(f"batch is {wrong[0]}; the bundle takes 1 to {limit}.")
    segmenter.self_check()
    frames, decode = _frames(segmenter, source, repeats)
    rows = tuple(_bench_batch(segmenter, frames, decode, batch, repeats) for batch in batches)
    manifest = segmenter.manifest
    return BenchReport(
        bundle=segmenter.bundle.root.name,
        model=manifest.model,
        precision=manifest.precision,
        backend=segmenter.backend.name,
        frame_size=(frames[0].shape[0], frames[0].shape[1]),
        batches=rows,
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        environment=environment(),
    )


def _frames(
    segmenter: Segmenter, source: str | Path | None, repeats: int
) -> tuple[list[Frame], list[float]]:
    """Frames of one size, and the seconds that decoding each took."""
    if source is None:
        return list(segmenter.bundle.golden().frames), []
    frames: list[Frame] = []
    seconds = []
    with Frames.open(source).read() as opened:
        decoder = islice(opened, WARM_UP + repeats)
        while True:
            started = time.perf_counter()
            frame = next(decoder, None)
            if frame is None or (frames and frame.image.shape != frames[0].shape):
                break
            seconds.append(time.perf_counter() - started)
            frames.append(frame.image)
    return frames, seconds[WARM_UP:]


def _bench_batch(
    segmenter: Segmenter, frames: list[Frame], decode: list[float], batch: int, repeats: int
) -> BatchBench:
    supply = cycle(frames)
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    seconds["decode"] = decode
    with TemporaryDirectory(prefix="edgeunet-bench-") as folder:
        sink = MaskDirectory(Path(folder))
        for turn in range(WARM_UP + repeats):
            result = segmenter.backend.segment(Batch.of(list(islice(supply, batch))))
            started = time.perf_counter()
            for segmented in result:
                frame = replace(segmented.frame, index=turn)
                sink.write(replace(segmented, frame=frame))
            spent = time.perf_counter() - started
            if turn < WARM_UP:
                continue
            timings = result.timings
            seconds["preprocess"].append(timings.preprocess / batch)
            seconds["infer"].append(timings.infer / batch)
            seconds["postprocess"].append(timings.postprocess / batch)
            seconds["sink"].append(spent / batch)
    stages = {stage: _percentiles(times) for stage, times in seconds.items() if times}
    return BatchBench(
        batch=batch,
        stages=stages,
        net_rate=1000 / stages["infer"].p50,
        serial_rate=1000 / sum(stage.p50 for stage in stages.values()),
    )


def _percentiles(seconds: list[float]) -> StageTimes:
    p50, p90, p99 = (1000 * float(np.percentile(seconds, p)) for p in (50, 90, 99))
    return StageTimes(p50, p90, p99)


_WORTH = 0.95
"""A lower precision is worth it from this share of the higher one's time on; less is noise."""


@dataclass(frozen=True)
class PrecisionResult:
    """A precision here. latency_ms: median of the net alone on one frame, None where it failed.

    agreement: share of the golden pixels that are PyTorch's, None where too few are. problem: why
    it cannot be used, None where it can.
    """

    precision: Precision
    latency_ms: float | None
    agreement: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The precision to use, and why. results: highest precision first, of one run."""

    use: Precision
    why: str
    results: tuple[PrecisionResult, ...]


def compare_precisions(
    bundle: Bundle,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    *,
    rounds: int = 6,
) -> Verdict:
    """Time every precision that a bundle holds, in turns, after checking its golden frames.

    Args:
        options: of which `device`, `dla` and `threads` are the backend's.

    Raises:
        ParityError: none of them gives the masks that were promised.
    """
    calls: dict[Precision, Callable[[], object]] = {}
    agreements: dict[Precision, float] = {}
    problems: dict[Precision, str] = {}
    held: list[Precision] = [p for p in FLAVOURS if p in bundle.manifest.flavours]
    with ExitStack() as stack:
        for precision in held:
            at = bundle.at(precision)
            segmenter = stack.enter_context(Segmenter(at, create_backend(backend, at, options)))
            try:
                agreements[precision] = segmenter.self_check()
            except ParityError as error:
                problems[precision] = str(error)
            else:
                calls[precision] = _net_alone(segmenter)
        if not calls:
            raise ParityError(next(iter(problems.values())))
        latencies = median_latencies(calls, rounds=rounds)
    results = tuple(
        PrecisionResult(p, latencies.get(p), agreements.get(p), problems.get(p)) for p in held
    )
    return decide(results)


def decide(results: Sequence[PrecisionResult]) -> Verdict:
    """The highest precision, but for a lower one that is worth it; at least one must have run."""
    timed = [(r.precision, r.latency_ms) for r in results if r.latency_ms is not None]
    use, best = timed[0]
    for precision, latency in timed[1:]:
        if latency <= _WORTH * best:
            use, best = precision, latency
    listed = ", ".join(f"{precision.upper()} {latency:.1f} ms" for precision, latency in timed)
    lower = list(FLAVOURS)[list(FLAVOURS).index(use) + 1 :]
    notes = {
        "would be slower": [p for p, latency in timed if p in lower and latency > best],
        "gains too little": [p for p, latency in timed if p in lower and latency <= best],
        "gives wrong masks here": [r.precision for r in results if r.problem is not None],
    }
    said = "".join(
        f"; {' and '.join(p.upper() for p in named)} {note}"
        for note, named in notes.items()
        if named
    )
    return Verdict(use, f"{listed}: use {use.upper()}{said}", tuple(results))


def _net_alone(segmenter: Segmenter) -> Callable[[], object]:
    """A call of the net on the next of the golden frames, without pre- and post-processing."""
    backend = segmenter.backend
    frames = segmenter.bundle.golden().frames
    calls = cycle([backend.net_alone(Batch.of([frame])) for frame in frames])
    return lambda: next(calls)()
