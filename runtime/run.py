"""Runs sources through a bundle into sinks, as `edgeunet run` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.fit import Fit
from edgeunet.errors import EdgeUNetError, IncompleteError, SourceError, UsageError
from edgeunet.metrics import Flicker

from .frames import NOTHING_IGNORED, Ignored
from .gpu.kernels import lacks_kernels
from .options import DEFAULTS, LoadOptions, VideoDecoder
from .pipeline.stopping import stopping_on_signals
from .pipeline.stopwatch import Stopwatch
from .segmenter import Segmenter
from .sinks import Format, Output, Sink, open_sink
from .sinks.apart import Apart, check_apart, is_apart, outputs_of
from .sources import Frames, Source
from .sources.feed import Drop
from .sources.named import check_names, name_of, named, one_by_one, split_name
from .stream import Stream, StreamReport

Sources = str | Path | Source | Sequence[str | Path] | Mapping[str, str | Path | Frames | Source]


@dataclass(frozen=True)
class RunSummary:
    """Frames written, wall time in seconds, frames per second, the backend and precision that ran.

    stopped: whether a signal ended it. live: whether a source is live. unfinished: names of the
    sources with an end that a signal kept from it. stream: what happened to the frames of each
    source. damaged: what is wrong with the first frames or files that were left out. ignored: what
    lies beside the frames and is not read. busy: share of the time that each stage worked; the
    largest limits the rate. depths: number of frames by depth, the deepest first, if a frame rate
    was to be held. flicker: share of static pixels that changed class between frames, see
    `Flicker`, the mean of the sources; None without smoothing.
    """

    frames: int
    seconds: float
    rate: float
    backend: str
    precision: str
    stopped: bool
    live: bool
    unfinished: tuple[str, ...]
    stream: StreamReport
    damaged: tuple[str, ...]
    ignored: Ignored
    busy: dict[str, float]
    depths: dict[int, int]
    flicker: float | None


def run(
    bundle: str | Path,
    source: Sources,
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
    decoder: VideoDecoder = "ffmpeg",
    skip_damaged: bool = False,
    force: bool = False,
    report: Callable[[int, int], None] = lambda written, frames: None,
) -> RunSummary:
    """Segment a source into a sink after checking the backend against the golden frames.

    Several sources share the net, see `Segmenter.stream`, and each has an output of its own. If one
    cannot be read or written, it ends, and the others go on.

    If a frame or file of the source cannot be read, the others are written and an error is raised
    at the end. In the main thread, SIGINT and SIGTERM stop the reading, and the frames under way
    are written.

    Args:
        source: see `Frames.open`, or an open source; several of these by name; or paths and
            addresses, which are side by side and named as `named` says if the output has room for
            several, otherwise one after the other.
        output: see `open_sink`, and `outputs_of` for several sources.
        overlay, format, force: see `open_sink`. They are checked before anything is loaded.
        backend, options: see `load`.
        batch, max_delay, drop, temporal: see `Segmenter.stream`.
        decoder: of video files. "nvdec" leaves the frames on the GPU, see `Frames.decoded_on`. It
            is refused if a frame would have to come down for its mask.
        skip_damaged: see `Frames.read`; for an open source, it has its own setting.
        report: called with the number of frames written so far, and of all sources (0: unknown).

    Raises:
        IncompleteError: a source failed after it was opened; with the summary of what was done.
        OutputError: the sink cannot be written, for example because the disk is full.
    """
    if decoder == "nvdec":
        _check_nvdec(bundle, backend, options, temporal=temporal, skip_damaged=skip_damaged)
    with ExitStack() as stack:
        # Report a missing file before building an engine, which takes minutes. Open a camera after
        # it: frames that nobody reads would be lost, and many cameras accept a single client.
        given = _given(source, output)
        if decoder == "nvdec":
            given = {name: _on_gpu(each, options.device or 0) for name, each in given.items()}
        alone = next(iter(given)) if len(given) == 1 else None
        if alone is not None:
            frames = given[alone]
            if isinstance(frames, Frames) and not frames.remote:
                given[alone] = stack.enter_context(frames.read(skip_damaged=skip_damaged))
        outputs = outputs_of(output, list(given), format=format)
        check_apart(
            output,
            outputs,
            {name: each.files for name, each in given.items()},
            images={name for name, each in given.items() if _is_one_image(each)},
            overlay=overlay,
            format=format,
            force=force,
        )
        segmenter = stack.enter_context(Segmenter.open_checked(bundle, backend, options))
        # The stream refuses wrong arguments, so open it before the sink removes old files.
        stream = stack.enter_context(
            segmenter.stream(
                given,
                batch=batch,
                max_delay=max_delay,
                drop=drop,
                temporal=temporal,
                skip_damaged=skip_damaged,
            )
        )

        sinks = Apart(
            outputs,
            partial(
                _open_sink,
                segmenter=segmenter,
                stream=stream,
                outputs=outputs,
                overlay=overlay,
                format=format,
                force=force,
            ),
            is_finished=stream.is_finished,
            fail=stream.fail,
        )
        flickers = {name: Flicker() for name in given} if temporal is not None else {}
        watch, started = Stopwatch(), time.perf_counter()
        with stopping_on_signals(stream.stop) as stopped, sinks:  # also while sinks are closed
            if alone is not None:
                sinks.open(alone)
            failure, written = _write(stream, sinks, watch, flickers, report)
            was_stopped = stopped()
        seconds = time.perf_counter() - started
        done = stream.report()
        read = {name: each for name, each in stream.sources.items() if each is not None}
    stages = {**done.stages, "sink": watch.report()}
    rates = [each.rate for each in flickers.values() if not math.isnan(each.rate)]
    summary = RunSummary(
        frames=written,
        seconds=seconds,
        rate=written / seconds,
        backend=segmenter.backend.name,
        precision=segmenter.manifest.precision,
        stopped=was_stopped,
        live=any(each.live for each in done.sources.values()),
        unfinished=tuple(
            name
            for name, each in done.sources.items()
            if was_stopped and not (each.live or each.whole or each.error)
        ),
        stream=done,
        damaged=tuple(
            fault if alone is not None else f"{name}: {fault}"
            for name, each in read.items()
            for fault in each.damaged
        ),
        ignored=sum((each.ignored for each in read.values()), NOTHING_IGNORED),
        busy={name: stage.busy / seconds for name, stage in stages.items()},
        depths=dict(segmenter.backend.frames_by_depth),
        flicker=mean(rates) if rates else None,
    )
    if failure is not None:
        raise IncompleteError(str(failure), summary) from failure
    return summary


def _open_sink(
    name: str,
    *,
    segmenter: Segmenter,
    stream: Stream,
    outputs: Mapping[str, Output],
    overlay: bool,
    format: Format | None,  # noqa: A002 - as the option is called
    force: bool,
) -> Sink:
    """The sink of a source that is open."""
    source = stream.sources[name]
    assert source is not None  # it has given a frame, or is the only one
    return open_sink(
        outputs[name],
        rate=source.info.rate,
        classes=segmenter.manifest.classes,
        palette=segmenter.manifest.palette,
        sources=source.files,
        overlay=overlay,
        format=format,
        force=force,
    )


def _write(
    stream: Stream,
    sinks: Apart,
    watch: Stopwatch,
    flickers: Mapping[str, Flicker],
    report: Callable[[int, int], None],
) -> tuple[SourceError | None, int]:
    """Write all results; returns the error of the sources, and the number of frames written.

    If one of several sources cannot be written, it is given up.
    """
    results, sources = stream.results(), stream.sources
    written, given_up = 0, set[str]()
    while True:
        try:
            segmented = next(results)
        except StopIteration:
            return None, written
        except SourceError as error:
            return error, written
        name = segmented.source
        if name in given_up:
            continue
        with watch.lap():
            try:
                sinks.write(segmented)
            except EdgeUNetError as error:
                if len(sources) == 1:
                    raise
                given_up.add(name)
                stream.fail(name, error)
                continue
            if flickers:
                flickers[name].add(segmented.frame.picture, segmented.mask)
        written += 1
        report(written, _expected(stream))


def _given(source: Sources, output: Output) -> dict[str, Frames | Source]:
    """The sources by name: one, or several side by side."""
    if isinstance(source, Source):
        return {"": source}
    if isinstance(source, Mapping):
        check_names(source)
        return {
            name: each if isinstance(each, (Source, Frames)) else Frames.open(each)
            for name, each in source.items()
        }
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    if len(sources) == 1:
        name, where = split_name(sources[0])
        frames = Frames.open(where)
        if name or not frames.parts or not is_apart(output):  # else a glob of videos
            return {name or name_of(frames): frames}
    if sources and is_apart(output):
        return dict(named(sources))
    return {"": one_by_one(sources, output)}


def _check_nvdec(
    bundle: str | Path,
    backend: str,
    options: LoadOptions,
    *,
    temporal: float | None,
    skip_damaged: bool,
) -> None:
    """Raise UsageError if a frame could not stay on the GPU from the decoder to its mask."""
    if backend not in ("tensorrt", "rtx"):
        raise UsageError(
            f"--decoder nvdec needs --backend tensorrt or rtx, got {backend}: the frames stay on "
            "the GPU."
        )
    refused = {
        "--tile": options.tiling and "tiles are cut on the host",
        "--temporal": temporal is not None and "smoothing computes on the host",
        "--skip-damaged": skip_damaged and "NVDEC does not say which frames are damaged",
    }
    for option, why in refused.items():
        if why:
            raise UsageError(f"{option} does not go with --decoder nvdec: {why}. Leave one out.")
    spec = open_bundle(bundle).manifest.input
    problem = lacks_kernels(spec)
    if spec.window is not None:
        problem = "its windows are cut on the host"
    elif not Fit(spec, options.reading).keeps_rgb:
        problem = "it does not take frames of 8-bit RGB as they are"
    if problem:
        raise UsageError(f"{bundle} does not go with --decoder nvdec: {problem}. Leave it out.")


def _on_gpu(source: Frames | Source, gpu: int) -> Frames:
    if isinstance(source, Source):
        raise UsageError("the decoder of an open source cannot be changed. Pass its path.")
    return source.decoded_on(gpu)


def _is_one_image(source: Frames | Source) -> bool:
    """Whether a source is known to have one frame."""
    if isinstance(source, Frames):
        return source.kind == "image"
    return not source.info.live and source.info.frames == 1


def _expected(stream: Stream) -> int:
    """Frames that the sources have, 0 if that is not known of all."""
    counts = [0 if each is None else each.info.frames for each in stream.sources.values()]
    return sum(counts) if all(counts) else 0
