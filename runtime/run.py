"""Source -> bundle -> sink, the whole of `edgeunet run`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edgeunet.bundle.manifest import Manifest
from edgeunet.errors import OutputError
from edgeunet.metrics import Flicker

from .backends.steering import SteeredBackend
from .frames import Segmented
from .pipeline.stopping import stopping_on_signals
from .pipeline.stopwatch import Stopwatch
from .segmenter import Drop, load
from .sinks import Sink, open_sink
from .sources import Frames, Source
from .sources.addresses import scheme_of
from .stream import StreamReport


@dataclass(frozen=True)
class RunSummary:
    """Frames written, wall time in seconds, frames per second, and the backend that ran.

    stopped: a signal ended it. live: its source has no end of its own. stream: what became of the
    frames. busy: share of the time that each stage was at work; the largest bounds the rate.
    depths: frames by depth, the deepest first, where a rate was to be held. flicker: share of
    static pixels that changed class from a frame to the next, see `Flicker`; None where nothing
    was smoothed.
    """

    frames: int
    seconds: float
    rate: float
    backend: str
    stopped: bool
    live: bool
    stream: StreamReport
    busy: dict[str, float]
    depths: dict[int, int]
    flicker: float | None


def run(
    bundle: str | Path,
    source: str | Path | Source,
    output: str | Callable[[Segmented], object] = "-",
    *,
    backend: str = "auto",
    batch: int = 1,
    max_delay: float | None = None,
    drop: Drop | None = None,
    temporal: float | None = None,
    force: bool = False,
    report: Callable[[int, int], None] = lambda written, frames: None,
    **arguments: Any,
) -> RunSummary:
    """Segment a source into a sink after checking the backend against the golden frames.

    Frames written before a fault in the source stay; its error is raised afterwards. SIGINT and
    SIGTERM, where this is the main thread, let it take no more frames and finish what it writes.

    Args:
        output: see `open_sink`.
        batch, max_delay, drop, temporal: see `Segmenter.stream`.
        report: told the number of frames written so far, and that of the source (0: unknown).
        arguments: `precision`, `tiling`, `target_fps` and those of the backend, see `load`.

    Raises:
        OutputError: the sink cannot be written, as on a full disk.
    """
    with ExitStack() as stack:
        # The stages run beside each other; OpenCV's own threads would only take the net's cores.
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(1)
        # That a file is not there shows before the bundle becomes an engine, which takes minutes. A
        # camera that nobody reads meanwhile would be lost, and many have room for one client.
        if not isinstance(source, Source) and scheme_of(source) is None:
            source = stack.enter_context(Frames.open(source).read())
        segmenter = stack.enter_context(load(bundle, backend, **arguments))
        segmenter.self_check()
        if not isinstance(source, Source):
            source = stack.enter_context(Frames.open(source).read())
        # The stream first: what is wrong with the call must show before the sink removes old files.
        stream = stack.enter_context(
            segmenter.stream(source, batch=batch, max_delay=max_delay, drop=drop, temporal=temporal)
        )
        watch, flicker = Stopwatch(), Flicker()
        started = time.perf_counter()
        with (
            stopping_on_signals(stream.stop) as stopped,  # also while the sink is being closed
            _open_sink(output, source, segmenter.manifest, force=force) as sink,
        ):
            for written, segmented in enumerate(stream.results(), start=1):
                with watch.lap():
                    with _telling_of(output):
                        sink.write(segmented)
                    if temporal is not None:
                        flicker.add(segmented.frame.image, segmented.mask)
                report(written, source.info.frames)
            was_stopped = stopped()
        seconds = time.perf_counter() - started
        done = stream.report()
    stages = {**done.stages, "sink": watch.report()}
    net = segmenter.backend
    return RunSummary(
        frames=done.segmented,
        seconds=seconds,
        rate=done.segmented / seconds,
        backend=net.name,
        stopped=was_stopped,
        live=source.info.live,
        stream=done,
        busy={name: stage.busy / seconds for name, stage in stages.items()},
        depths=net.frames if isinstance(net, SteeredBackend) else {},
        flicker=None if temporal is None or math.isnan(flicker.rate) else flicker.rate,
    )


@contextmanager
def _open_sink(
    output: str | Callable[[Segmented], object], source: Source, manifest: Manifest, *, force: bool
) -> Iterator[Sink]:
    with _telling_of(output):
        sink = open_sink(
            output,
            rate=source.info.rate,
            classes=manifest.classes,
            palette=manifest.palette,
            sources=source.files,
            force=force,
        )
    try:
        yield sink
    finally:
        with _telling_of(output):
            sink.close()


@contextmanager
def _telling_of(output: str | Callable[[Segmented], object]) -> Iterator[None]:
    """OutputError for what the system says while an output is written; a function's errors stay."""
    try:
        yield
    except OSError as error:
        if not isinstance(output, str):
            raise
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}. Finished files stay."
        ) from error
