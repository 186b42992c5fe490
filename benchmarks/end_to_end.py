"""A video from file to file: all stages side by side, against one after the other.

Usage: end_to_end.py BUNDLE VIDEO [-o NAME.mp4 | DIR | -] [--batch 1] [--repeats 3] [--json]

For each repeat, in this order: the net alone on the video's frames, all steps in turns, decoding
and writing without the net, and `edgeunet run`. The masks of the two ways are compared. Give it an
idle machine.

A net on all cores leaves none to decode and encode: of N frames a second of the net alone they
leave 1 / (1/N + their processor time for a frame / cores), were nothing else to be done.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.doctor import cores as available_cores
from edgeunet.metrics import Mask
from edgeunet.runtime.frames import Batch, Segmented
from edgeunet.runtime.run import run
from edgeunet.runtime.segmenter import Segmenter, load
from edgeunet.runtime.sinks import Sink, open_sink
from edgeunet.runtime.sources import Frames, Source

BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Repeat:
    """Frames a second of the net alone, of all steps in turns, and side by side.

    codec: seconds of processor time that decoding and writing take for a frame. cores: that were at
    work side by side, on average.
    """

    net: float
    turns: float
    codec: float
    run: float
    cores: float
    busy: dict[str, float]

    @property
    def left(self) -> float:
        """Frames a second that decoding and writing leave."""
        return 1 / (1 / self.net + self.codec / available_cores())


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("-o", "--output", default="-")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    repeats = [
        measure(arguments.bundle, arguments.video, arguments.output, batch=arguments.batch)
        for _ in range(arguments.repeats)
    ]
    result = summary(repeats)
    print(json.dumps(result, indent=1) if arguments.json else words(result))


def measure(bundle: Path, video: Path, output: str, *, batch: int) -> Repeat:
    """One paired measurement; AssertionError where the two ways give different masks."""
    with tempfile.TemporaryDirectory() as folder, load(bundle, BACKEND) as segmenter:
        net = net_rate(segmenter, video, batch)
        targets = {
            way: "-" if output == "-" else f"{folder}/{way}{Path(output).suffix}"
            for way in ("turns", "codec", "run")
        }
        turns, masks = rate_in_turns(segmenter, video, targets["turns"], batch)
        codec = codec_seconds(segmenter, video, targets["codec"], masks)
        started, worked = time.perf_counter(), time.process_time()
        side_by_side = run(bundle, video, targets["run"], backend=BACKEND, batch=batch)
        cores = (time.process_time() - worked) / (time.perf_counter() - started)
        assert_same_masks(segmenter, video, batch)
    return Repeat(net, turns, codec, side_by_side.rate, cores, side_by_side.busy)


def net_rate(segmenter: Segmenter, video: Path, batch: int, frames: int = 60) -> float:
    """Frames a second of the net with nothing else to do."""
    with Frames.open(video).read() as source:
        images = [frame.image for frame, _ in zip(source, range(batch), strict=False)]
    call = segmenter.backend.net_alone(Batch.of(images))
    call()
    seconds = []
    for _ in range(frames // batch):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return batch / median(seconds)


def rate_in_turns(
    segmenter: Segmenter, video: Path, output: str, batch: int
) -> tuple[float, list[Mask]]:
    """Each step waits for the one before it and has all cores to itself; the rate, the masks."""
    masks: list[Mask] = []
    started = time.perf_counter()
    with Frames.open(video).read() as source, sink_for(segmenter, source, output) as sink:
        while group := list(islice(source, batch)):
            done = segmenter.backend.segment(Batch(group))
            for segmented in done:
                sink.write(segmented)
            masks.extend(done.masks)
    return len(masks) / (time.perf_counter() - started), masks


def codec_seconds(segmenter: Segmenter, video: Path, output: str, masks: list[Mask]) -> float:
    """Processor time for a frame of the source and the sink, which gets masks made before."""
    started = time.process_time()
    with Frames.open(video).read() as source, sink_for(segmenter, source, output) as sink:
        for frame, mask in zip(source, masks, strict=True):
            sink.write(Segmented(frame, mask))
    return (time.process_time() - started) / len(masks)


def sink_for(segmenter: Segmenter, source: Source, output: str) -> Sink:
    """The sink that `edgeunet run` would open."""
    manifest = segmenter.manifest
    return open_sink(
        output, rate=source.info.rate, classes=manifest.classes, palette=manifest.palette
    )


def assert_same_masks(segmenter: Segmenter, video: Path, batch: int, frames: int = 24) -> None:
    """AssertionError where the stream's masks are not those of single calls."""

    def alone(image: npt.NDArray[np.uint8]) -> Mask:
        return segmenter.backend.segment(Batch.of([image])).masks[0]

    with segmenter.stream(video, batch=batch) as stream:
        for (frame, mask), _ in zip(stream, range(frames), strict=False):
            np.testing.assert_array_equal(mask, alone(frame.image))


def summary(repeats: list[Repeat]) -> dict[str, Any]:
    """Medians of rates, of the ratios within each repeat, and of the stages' shares."""
    stages = repeats[0].busy
    return {
        "net_rate": median(repeat.net for repeat in repeats),
        "turns_rate": median(repeat.turns for repeat in repeats),
        "run_rate": median(repeat.run for repeat in repeats),
        "run_over_net": median(repeat.run / repeat.net for repeat in repeats),
        "run_over_left": median(repeat.run / repeat.left for repeat in repeats),
        "run_over_turns": median(repeat.run / repeat.turns for repeat in repeats),
        "codec_ms": 1000 * median(repeat.codec for repeat in repeats),
        "cores": median(repeat.cores for repeat in repeats),
        "busy": {name: median(repeat.busy[name] for repeat in repeats) for name in stages},
    }


def words(result: dict[str, Any]) -> str:
    """The summary in three lines."""
    busy = ", ".join(f"{name} {share:.0%}" for name, share in result["busy"].items())
    return (
        f"net alone {result['net_rate']:.1f} frames/s, in turns {result['turns_rate']:.1f}, side "
        f"by side {result['run_rate']:.1f}:\n{result['run_over_net']:.0%} of the net, "
        f"{result['run_over_left']:.0%} of what decoding and writing leave of it "
        f"({result['codec_ms']:.1f} ms of a core), {result['run_over_turns']:.2f}x the turns\n"
        f"{result['cores']:.2f} cores at work; busy: {busy}"
    )


if __name__ == "__main__":
    main()
