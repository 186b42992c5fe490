"""Frames per second of `edgeunet run --workers`, on 1, 2, ... workers of this machine.

    python benchmarks/archive.py BUNDLE --frames 10000 --workers 1,2

Makes a tar of JPEGs of the cell simulator, 320x240, of which 100 differ, in a temporary folder, and
runs it into another. `start` is what passes until the first shard is there, less the time that this
shard took: Ray, the bundle, its self-check. `steady` is frames per second without it. The shards of
all runs are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path

import cv2

from edgeunet.data.cells import snapshots
from edgeunet.runtime.archive import run_archive

DISTINCT = 100
UNIT = 500


def make_tar(path: Path, frames: int) -> None:
    """A tar of so many JPEGs."""
    images = [
        cv2.imencode(".jpg", each.image[..., ::-1])[1].tobytes()
        for each in snapshots(min(frames, DISTINCT), height=240, width=320, seed=0)
    ]
    with tarfile.open(path, "w") as file:
        for index in range(frames):
            info = tarfile.TarInfo(f"{index:08d}.jpg")
            info.size = len(images[index % len(images)])
            file.addfile(info, io.BytesIO(images[index % len(images)]))


def measure(bundle: str, source: Path, output: Path, workers: int, unit: int) -> dict[str, float]:
    """Segment the tar once."""
    began, first = time.perf_counter(), list[float]()

    def report(done: int, planned: int) -> None:
        first.append(time.perf_counter() - began)

    summary = run_archive(bundle, source, output, workers=workers, unit=unit, report=report)
    shard = json.loads((output / "00000.json").read_text())
    start = first[0] - shard["seconds"]
    return {
        "frames": summary.frames,
        "seconds": summary.seconds,
        "start": start,
        "rate": summary.rate,
        "steady": summary.frames / (summary.seconds - start),
        "bytes": sum(path.stat().st_size for path in output.glob("*.tar")),
    }


def digest(output: Path) -> str:
    """Hash of all shards."""
    found = hashlib.sha256()
    for path in sorted(output.glob("*.tar")):
        found.update(path.read_bytes())
    return found.hexdigest()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--unit", type=int, default=UNIT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "frames.tar")
        make_tar(source, given.frames)
        print(f"{source.stat().st_size / given.frames / 1000:.1f} KB a frame read")
        print("workers  frames  seconds  start s  frames/s  steady frames/s  KB a frame written")
        digests = set()
        for workers in map(int, given.workers.split(",")):
            output = Path(folder, f"masks{workers}")
            row = measure(given.bundle, source, output, workers, given.unit)
            digests.add(digest(output))
            print(
                f"{workers:7}  {row['frames']:6}  {row['seconds']:7.1f}  {row['start']:7.1f}  "
                f"{row['rate']:8.1f}  {row['steady']:15.1f}  "
                f"{row['bytes'] / row['frames'] / 1000:18.1f}",
                flush=True,
            )
        print("all shards are the same" if len(digests) == 1 else "SHARDS DIFFER")


if __name__ == "__main__":
    main()
