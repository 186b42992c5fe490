"""What the runtime does when everything goes wrong, for as long as you like.

Usage: soak.py BUNDLE [--frames 20000] [--rate 60] [--cycles 300] [-o NAME.json]

A camera on loopback (`soak_camera.py`) damages pictures, breaks its connection, stays away, and
changes its size, while the sink falls asleep now and then. In the end the frames are counted, the
slope of the memory taken, and two runs of `edgeunet run` are disturbed: by SIGTERM, and by a disk
that is full. Then the bundle is loaded, called and closed over and over, in a process of its own.
Exit code 1 if a frame is missing that nothing counted, the memory grows by more than 1 MB in 10,000
frames or by more than 5 MB over the cycles, or one of the runs ends badly.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from edgeunet.doctor import environment
from edgeunet.runtime import load
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.stream import StreamReport

CAMERA = Path(__file__).with_name("soak_camera.py")
SLOPE = 1.0  # MB in 10,000 frames
UNDER_WAY = 20  # pictures between camera and stream when the soak ends
WARM_UP = 0.25  # share of the frames before memory is looked at
SLEEP = 0.3  # seconds that the sink takes now and then
FILE_LIMIT = 100_000  # bytes, of the disk that is full
CYCLE_GROWTH = 5.0  # MB, over all cycles behind the warm-up


@dataclass
class Result:
    """What was counted; `faults` says what is wrong, nothing where all is right.

    sent, damaged: pictures of the camera. read, skipped, segmented, dropped, reconnects: see
    `StreamReport`. rss_mb: resident memory at the end. slope_mb: its growth in 10,000 frames.
    delay_p99_ms: of a frame from its arrival to its mask, above the least of all frames.
    cycles_mb: growth of the resident memory over the cycles behind the warm-up.
    """

    frames: int
    sent: int = 0
    damaged: int = 0
    read: int = 0
    skipped: int = 0
    segmented: int = 0
    dropped: int = 0
    reconnects: int = 0
    seconds: float = 0
    rss_mb: float = 0
    slope_mb: float = 0
    delay_p99_ms: float = 0
    cycles: int = 0
    cycles_mb: float = 0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Soak, print, and say by the exit code whether it held."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    result = Result(arguments.frames, environment=environment())
    stream_for_long(arguments.bundle, arguments.rate, result)
    with tempfile.TemporaryDirectory() as folder:
        disturb_by_signal(arguments.bundle, Path(folder) / "signal.mp4", result)
        disturb_by_full_disk(arguments.bundle, Path(folder) / "disk.mp4", result)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        memory = fresh.submit(load_and_close, arguments.bundle, arguments.cycles).result()
    compare_cycles(memory, result)
    text = json.dumps(asdict(result), indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    sys.exit(1 if result.faults else 0)


@contextmanager
def camera(*options: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a camera."""
    with subprocess.Popen(
        [sys.executable, str(CAMERA), *map(str, options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/video", process
        finally:
            process.kill()


def stream_for_long(bundle: Path, rate: float, result: Result) -> None:
    """Segment so many frames, and look at what became of each."""
    memory: list[tuple[int, float]] = []
    delays, numbers = array("d"), array("q")  # lists of objects would pass for growth
    every = min(500, result.frames // 5)  # frames, so that each fault comes up in a short run too

    def sink(segmented: Segmented) -> None:
        numbers.append(segmented.frame.index)
        assert segmented.frame.time is not None
        delays.append(time.monotonic() - segmented.frame.time)
        if len(numbers) % every == 0:
            time.sleep(SLEEP)
        if len(numbers) % 100 == 0:
            memory.append((len(numbers), resident_mb()))

    options = ("--rate", rate, "--damage", min(97, every), "--leave", 2 * every, "--resize", every)
    with (
        camera(*options) as (address, p),
        load(bundle, "onnxruntime") as segmenter,
        Frames.open(address).read() as source,
    ):
        with segmenter.stream(source) as stream:
            for segmented in stream.results():
                sink(segmented)
                if stream.report().read >= result.frames:
                    break
            stream.stop()
            for segmented in stream.results():
                sink(segmented)
            report = stream.report()
        source.close()
        sent = json.loads(p.communicate()[0])
    result.sent, result.damaged = sent["sent"], sent["damaged"]
    lost = result.sent + result.damaged - report.read - report.skipped
    if not 0 <= lost <= UNDER_WAY:
        result.faults.append(f"{lost} pictures were sent that never were read")
    count(report, numbers, result)
    measure(memory, delays, result)


def count(report: StreamReport, numbers: array[int], result: Result) -> None:
    """Compare what went in with what came out."""
    for name in ("read", "skipped", "segmented", "dropped", "reconnects", "seconds"):
        setattr(result, name, getattr(report, name))
    result.stages = {name: asdict(stage) for name, stage in report.stages.items()}
    if report.read != report.segmented + report.dropped or report.segmented != len(numbers):
        result.faults.append("frames were lost that nothing counted")
    if list(numbers) != sorted(set(numbers)):
        result.faults.append("frames came twice, or out of order")
    if not (report.skipped and report.reconnects and report.dropped):
        result.faults.append("a fault did not come up: the soak shows nothing")


def measure(memory: list[tuple[int, float]], delays: array[float], result: Result) -> None:
    """Memory and delay."""
    result.delay_p99_ms = 1000 * float(np.percentile(np.array(delays) - min(delays), 99))
    result.rss_mb = resident_mb()
    after = [point for point in memory if point[0] >= WARM_UP * len(delays)]
    if len(after) < 20:  # noise would pass for growth
        return
    frames, mb = np.array(after).T
    result.slope_mb = float(np.polyfit(frames, mb, 1)[0]) * 10_000
    if result.slope_mb > SLOPE:
        result.faults.append(f"memory grows by {result.slope_mb:.2f} MB in 10,000 frames")


def resident_mb() -> float:
    """Memory of this process that is in RAM, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def load_and_close(bundle: Path, cycles: int) -> list[float]:
    """Resident memory after each cycle of a load, a call and a close, MB."""
    memory = []
    for _ in range(cycles):
        with load(bundle, "onnxruntime") as segmenter:
            spec = segmenter.manifest.input
            segmenter(np.zeros((spec.height, spec.width, 3), np.uint8))
        memory.append(resident_mb())
    return memory


def compare_cycles(memory: list[float], result: Result) -> None:
    """Medians of ten cycles, as single ones vary by what the allocator keeps."""
    after = memory[int(WARM_UP * len(memory)) :]
    result.cycles = len(memory)
    if len(after) < 20:  # noise would pass for growth
        return
    result.cycles_mb = float(np.median(after[-10:]) - np.median(after[:10]))
    if result.cycles_mb > CYCLE_GROWTH:
        result.faults.append(f"memory grows by {result.cycles_mb:.1f} MB in {len(memory)} cycles")


def disturb_by_signal(bundle: Path, output: Path, result: Result) -> None:
    """SIGTERM in the middle must leave a video with every frame that was segmented."""
    with camera() as (address, _):
        process = run(bundle, address, output)
        ends = time.monotonic() + 60
        while not list(output.parent.glob(".edgeunet-*.tmp")) and time.monotonic() < ends:
            time.sleep(0.05)
        time.sleep(3)  # into the frames
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    if process.returncode != 0 or "Traceback" in err:
        result.faults.append(f"SIGTERM: exit code {process.returncode}: {err}")
        return
    with av.open(str(output)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    if not 0 < frames == json.loads(out)["frames"]:
        result.faults.append(f"SIGTERM: {frames} frames in the video: {out}")


def disturb_by_full_disk(bundle: Path, output: Path, result: Result) -> None:
    """A disk that is full must end the run with a plain error, and leave no half of a video."""
    with camera() as (address, _):
        process = run(bundle, address, output, limit=True)
        out, err = process.communicate(timeout=60)
    plain = f"{output} cannot be written: File too large" in err and "Traceback" not in err
    if process.returncode != 1 or out or not plain or output.exists():
        result.faults.append(f"full disk: exit code {process.returncode}: {err}")


def run(bundle: Path, source: str, output: Path, *, limit: bool = False) -> subprocess.Popen[str]:
    """`edgeunet run --json`, on a disk that takes little where there is a limit."""

    def limit_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))

    return subprocess.Popen(
        [sys.executable, "-m", "edgeunet", "run", str(bundle), source, "-o", str(output), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=limit_files if limit else None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
