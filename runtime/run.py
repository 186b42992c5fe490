"""Source -> bundle -> sink, the whole of `edgeunet run`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from .backends.steered import SteeredBackend
from .segmenter import load
from .sinks import open_sink
from .sources import describe


@dataclass(frozen=True)
class RunSummary:
    """Frames written, wall time in seconds, frames per second, and the backend that ran.

    depths: frames by depth, the deepest first, where a rate was to be held.
    """

    frames: int
    seconds: float
    rate: float
    backend: str
    depths: dict[int, int] = field(default_factory=dict)


def run(
    bundle: str | Path,
    source: str | Path,
    output: str = "-",
    *,
    backend: str = "auto",
    batch: int = 1,
    force: bool = False,
    report: Callable[[int], None] = lambda frames: None,
    **arguments: Any,
) -> RunSummary:
    """Segment a source into a sink after checking the backend against the golden frames.

    Frames written before a fault in the source stay; its error is raised afterwards.

    Args:
        output: `-`, `NAME.mp4` or a directory, see `open_sink`.
        report: told the number of frames written so far.
        arguments: precision, frame rate and those of the backend, see `load`.
    """
    frames = 0
    with ExitStack() as stack:
        # The stages run beside each other; OpenCV's own threads would only take the net's cores.
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(1)
        segmenter = stack.enter_context(load(bundle, backend, **arguments))
        segmenter.self_check()
        info = describe(source)
        # The stream first: what is wrong with the call must show before the sink removes old files.
        stream = segmenter.stream(source, batch=batch)
        sink = stack.enter_context(
            open_sink(output, rate=info.rate, palette=segmenter.manifest.palette, force=force)
        )
        stack.enter_context(closing(stream))
        started = time.perf_counter()
        for frame, mask in stream:
            sink.write(frame.image, mask)
            frames += 1
            report(frames)
        seconds = time.perf_counter() - started
    net = segmenter.backend
    depths = net.frames if isinstance(net, SteeredBackend) else {}
    return RunSummary(frames, seconds, frames / seconds, net.name, depths)
