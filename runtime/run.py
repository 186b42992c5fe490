"""Runs a source through a bundle into a sink, as `edgeunet run` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeunet.bundle.manifest import Manifest
from edgeunet.errors import IncompleteError, OutputError, SourceError
from edgeunet.metrics import Flicker

from .frames import Ignored
from .options import DEFAULTS, LoadOptions
from .pipeline.stopping import stopping_on_signals
from .pipeline.stopwatch import Stopwatch
from .segmenter import Segmenter
from .sinks import Format, Output, Sink, check_output, open_sink
from .sources import Frames, Source
from .sources.feed import Drop
from .stream import StreamReport


@dataclass(frozen=True)
class RunSummary:
    """Frames written, wall time in seconds, frames per second, and the backend that ran.

    stopped: whether a signal ended it. live: whether the source is live. stream: what happened to
    the frames. damaged: what is wrong with the first frames or files that were left out. ignored:
    what lies beside the frames and is not read. busy: share of the time that each stage worked; the
    largest limits the rate. depths: number of frames by depth, the deepest first, if a frame rate
    was to be held. flicker: share of static pixels that changed class between frames, see
    `Flicker`; None without smoothing.
    """

    frames: int
    seconds: float
    rate: float
    backend: str
    stopped: bool
    live: bool
    stream: StreamReport
    damaged: tuple[str, ...]
    ignored: Ignored
    busy: dict[str, float]
    depths: dict[int, int]
    flicker: float | None


def run(
    bundle: str | Path,
    source: str | Path | Source | Sequence[str | Path],
    output: Output = "-",
    *,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    batch: int | None = None,
    max_delay: float | None = None,
    drop: Drop | None = None,
    temporal: float | None = None,
    overlay: bool = False,
    format: Format | None = None,  # noqa: A002 - as the option is called
    skip_damaged: bool = False,
    force: bool = False,
    report: Callable[[int, int], None] = lambda written, frames: None,
) -> RunSummary:
    """Segment a source into a sink after checking the backend against the golden frames.

    If a frame or file of the source cannot be read, the others are written and an error is raised
    at the end. In the main thread, SIGINT and SIGTERM stop the reading, and the frames under way
    are written.

    Args:
        source: see `Frames.open`, or an open source.
        output, overlay, format, force: see `open_sink`. They are checked before anything is loaded.
        backend, options: see `load`.
        batch, max_delay, drop, temporal: see `Segmenter.stream`.
        skip_damaged: see `Frames.read`; for an open source, it has its own setting.
        report: called with the number of frames written so far, and of the source (0: unknown).

    Raises:
        IncompleteError: the source failed after it was opened; with the summary of what was done.
        OutputError: the sink cannot be written, for example because the disk is full.
    """
    with ExitStack() as stack:
        # Report a missing file before building an engine, which takes minutes. Open a camera after
        # it: frames that nobody reads would be lost, and many cameras accept a single client.
        frames = None if isinstance(source, Source) else Frames.open(source)
        if frames is not None and not frames.remote:
            source = stack.enter_context(frames.read(skip_damaged=skip_damaged))
        known = source if isinstance(source, Source) else None  # a camera is not, yet
        check_output(
            output,
            sources=() if known is None else known.files,
            several=known is None or known.info.live or known.info.frames != 1,
            overlay=overlay,
            format=format,
            force=force,
        )
        segmenter = stack.enter_context(Segmenter.open(bundle, backend, options))
        segmenter.self_check()
        if frames is not None and frames.remote:
            source = stack.enter_context(frames.read(skip_damaged=skip_damaged))
        assert isinstance(source, Source)  # one of the two opened it
        # The stream refuses wrong arguments, so open it before the sink removes old files.
        stream = stack.enter_context(
            segmenter.stream(source, batch=batch, max_delay=max_delay, drop=drop, temporal=temporal)
        )
        watch, flicker, failure = Stopwatch(), Flicker(), None
        started = time.perf_counter()
        manifest = segmenter.manifest
        with (
            stopping_on_signals(stream.stop) as stopped,  # also while the sink is being closed
            _open_sink(
                output, source, manifest, overlay=overlay, format_=format, force=force
            ) as sink,
        ):
            written, results = 0, stream.results()
            while True:
                try:
                    segmented = next(results)
                except StopIteration:
                    break
                except SourceError as error:
                    failure = error
                    break
                with watch.lap():
                    with _as_output_error(output):
                        sink.write(segmented)
                    if temporal is not None:
                        flicker.add(segmented.frame.picture, segmented.mask)
                written += 1
                report(written, source.info.frames)
            was_stopped = stopped()
        seconds = time.perf_counter() - started
        done = stream.report()
    stages = {**done.stages, "sink": watch.report()}
    summary = RunSummary(
        frames=done.segmented,
        seconds=seconds,
        rate=done.segmented / seconds,
        backend=segmenter.backend.name,
        stopped=was_stopped,
        live=source.info.live,
        stream=done,
        damaged=tuple(source.damaged),
        ignored=source.ignored,
        busy={name: stage.busy / seconds for name, stage in stages.items()},
        depths=dict(segmenter.backend.frames_by_depth),
        flicker=None if temporal is None or math.isnan(flicker.rate) else flicker.rate,
    )
    if failure is not None:
        raise IncompleteError(str(failure), summary) from failure
    return summary


@contextmanager
def _open_sink(
    output: Output,
    source: Source,
    manifest: Manifest,
    *,
    overlay: bool,
    format_: Format | None,
    force: bool,
) -> Iterator[Sink]:
    with _as_output_error(output):
        sink = open_sink(
            output,
            rate=source.info.rate,
            classes=manifest.classes,
            palette=manifest.palette,
            sources=source.files,
            overlay=overlay,
            format=format_,
            force=force,
        )
    try:
        yield sink
    finally:
        with _as_output_error(output):
            sink.close()


@contextmanager
def _as_output_error(output: Output) -> Iterator[None]:
    """Turn system errors while writing into OutputError; errors of a caller's function stay."""
    try:
        yield
    except OSError as error:
        if not isinstance(output, str):
            raise
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}. Finished files stay."
        ) from error
