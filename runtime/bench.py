"""Times of each stage by itself, without the warm-up, and the machine they were measured on."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Precision
from edgeunet.doctor import environment
from edgeunet.errors import BackendError, ParityError
from edgeunet.latency import median_latencies

from .backends import create_backend, precisions_of
from .backends.measuring import net_alone_on
from .frames import Batch, Frame
from .options import DEFAULTS, LoadOptions
from .segmenter import Segmenter, check_batch
from .sinks import MaskDirectory
from .sources import Frames

WARM_UP = 5
STAGES = ("decode", "preprocess", "infer", "postprocess", "sink")


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds per frame at three percentiles."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class BatchBench:
    """One batch size: times by stage, frames per second of the net and of all stages in turn."""

    batch: int
    stages: dict[str, StageTimes]
    net_rate: float
    serial_rate: float


@dataclass(frozen=True)
class BenchReport:
    """All batch sizes; `peak_memory_mb` is the process's largest resident set."""

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

    The golden frames are checked first, so that no speed is reported for wrong masks.

    Raises:
        UsageError: the bundle cannot take a batch. ParityError: the golden check failed.
    """
    for batch in batches:
        check_batch(batch, segmenter.manifest)
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
            if frame is None:
                break
            frame = segmenter.fitted(frame)
            if frames and frame.image.shape != frames[0].shape:
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
    with (
        TemporaryDirectory(prefix="edgeunet-bench-") as folder,
        MaskDirectory(Path(folder), palette=segmenter.manifest.palette) as sink,
    ):
        for turn in range(WARM_UP + repeats):
            result = segmenter.backend.segment(Batch.of(list(islice(supply, batch))))
            started = time.perf_counter()
            for segmented in result:
                frame = replace(segmented.frame, index=turn * batch + segmented.frame.index)
                sink.write(replace(segmented, frame=frame))
            spent = time.perf_counter() - started
            if turn < WARM_UP:
                continue
            for stage in ("preprocess", "infer", "postprocess"):
                seconds[stage].append(getattr(result.timings, stage) / batch)
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
"""A lower precision is worth it if it takes at most this share of the time; less is noise."""


@dataclass(frozen=True)
class PrecisionResult:
    """A precision on this machine, with the median latency of the net alone on one frame.

    agreement: share of the golden pixels that agree with PyTorch's. problem: why the precision
    cannot be used; latency and agreement are None then.
    """

    precision: Precision
    latency_ms: float | None
    agreement: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The precision to use, and why. results: of all precisions, the highest first."""

    use: Precision
    why: str
    results: tuple[PrecisionResult, ...]


def compare_precisions(
    bundle: Bundle, backend: str = "auto", options: LoadOptions = DEFAULTS, *, rounds: int = 6
) -> Verdict:
    """Time every precision that a bundle holds, in turns, after checking its golden frames.

    BF16 is one of them if the backend computes in it here.

    Args:
        options: as of `create_backend`.

    Raises:
        ParityError: no precision passes the golden check.
    """
    calls: dict[Precision, Callable[[], object]] = {}
    agreements: dict[Precision, float] = {}
    problems: dict[Precision, str] = {}
    held = _precisions(bundle, backend, options)
    with ExitStack() as stack:
        for precision in held:
            at = bundle.at(precision)
            try:
                opened = create_backend(backend, at, options)
                segmenter = stack.enter_context(Segmenter(at, opened))
                agreements[precision] = segmenter.self_check()
            except (ParityError, BackendError) as error:
                problems[precision] = str(error)
            else:
                calls[precision] = net_alone_on(segmenter.backend, bundle.golden().frames)
        if not calls:
            raise ParityError(next(iter(problems.values())))
        latencies = median_latencies(calls, rounds=rounds)
    results = tuple(
        PrecisionResult(p, latencies.get(p), agreements.get(p), problems.get(p)) for p in held
    )
    return decide(results)


def _precisions(bundle: Bundle, backend: str, options: LoadOptions) -> list[Precision]:
    """What the bundle can be run in by this backend here, the closest to the reference first."""
    able = precisions_of(backend, options)
    return [p for p in able if p == "bf16" or p in bundle.manifest.flavours]


def decide(results: Sequence[PrecisionResult]) -> Verdict:
    """Choose the highest precision, or a lower one that is worth it; at least one must have run."""
    timed = [(r.precision, r.latency_ms) for r in results if r.latency_ms is not None]
    use, best = timed[0]
    for precision, latency in timed[1:]:
        if latency <= _WORTH * best:
            use, best = precision, latency
    listed = ", ".join(f"{precision.upper()} {latency:.1f} ms" for precision, latency in timed)
    order = get_args(Precision)
    lower = order[order.index(use) + 1 :]
    notes = {
        "would be slower": [p for p, latency in timed if p in lower and latency > best],
        "gains too little": [p for p, latency in timed if p in lower and latency <= best],
        "cannot be used here": [r.precision for r in results if r.problem is not None],
    }
    others = "".join(
        f"; {' and '.join(p.upper() for p in precisions)} {note}"
        for note, precisions in notes.items()
        if precisions
    )
    return Verdict(use, f"{listed}: use {use.upper()}{others}", tuple(results))
