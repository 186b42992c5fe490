"""What smoothing over time takes of flicker, and what it costs in accuracy, on procedural films.

Usage: flicker.py BUNDLE [--frames 150] [--weights 0,0.3,0.6,0.8]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeunet.data.cells import CellFrame, Scene, time_lapse
from edgeunet.metrics import Flicker, confusion_matrix, mean_iou
from edgeunet.runtime import Segmenter, load
from edgeunet.runtime.sources import SourceFrame


def main() -> None:
    """Print a row for each weight."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--weights", default="0,0.3,0.6,0.8")
    arguments = parser.parse_args()
    with load(arguments.bundle, "onnxruntime") as segmenter:
        spec = segmenter.manifest.input
        scene = Scene(height=spec.height, width=spec.width, seed=7)
        film = list(time_lapse(scene, arguments.frames))
        print("| `--temporal` | flicker of static pixels | mIoU |\n|---|---|---|")
        for weight in map(float, arguments.weights.split(",")):
            flicker, iou = measure(segmenter, film, weight)
            print(f"| {weight:g} | {flicker:.2%} | {100 * iou:.2f} |")


def measure(segmenter: Segmenter, film: list[CellFrame], weight: float) -> tuple[float, float]:
    """Flicker rate and mIoU of a film that was smoothed with a weight."""
    classes = len(segmenter.manifest.classes)
    flicker, confusion = Flicker(), 0
    frames = (SourceFrame(index, "", frame.image) for index, frame in enumerate(film))
    with segmenter.stream(frames, temporal=weight) as stream:
        for truth, (frame, mask) in zip(film, stream, strict=True):
            flicker.add(frame.image, mask)
            confusion = confusion + confusion_matrix(truth.mask, mask, num_classes=classes)
    return flicker.rate, mean_iou(confusion)


if __name__ == "__main__":
    main()
