"""Export, parity, overlay video and speed on procedural data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .bundle.bundle import open_bundle
from .data.cells import Scene, time_lapse, write_dataset
from .export import ExportOptions, export_bundle
from .files import new_directory, write_json
from .parity import ParityReport, measure, samples_of, write_html
from .runtime.bench import BenchReport, bench
from .runtime.run import RunSummary, run
from .runtime.segmenter import load
from .runtime.sinks import VideoWriter

FRAMES, LABELLED, RATE = 150, 40, Fraction(15)
SIZE = (256, 320)


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured. It writes a bundle, cells.mp4, overlay.mp4 and parity.html."""

    parity: ParityReport
    run: RunSummary
    bench: BenchReport


def demo(
    output: Path, *, force: bool = False, report: Callable[[str], None] = lambda step: None
) -> DemoResult:
    """Export Mobile U-Net to INT8 and segment a procedural time-lapse; nothing is downloaded.

    Args:
        output: directory to write; it must not exist unless `force`.
        report: called with the name of each step.
    """
    with new_directory(output, force=force) as folder:
        report(f"drawing {FRAMES} frames of moving, touching, dividing cells")
        height, width = SIZE
        with VideoWriter(folder / "cells.mp4", rate=RATE) as video:
            for frame in time_lapse(Scene(height=height, width=width, seed=7), FRAMES):
                video.write(frame.image)
        # A seed that neither training nor calibration uses.
        write_dataset(folder / "data", train=1, val=LABELLED, height=height, width=width, seed=99)
        bundle = folder / "mobile_unet-int8"
        options = ExportOptions("mobile_unet", precision="int8", size=SIZE)
        export_bundle(bundle, options, report=report)
        report("parity on labelled frames")
        opened = open_bundle(bundle)
        samples = samples_of(folder / "data", num_classes=len(opened.manifest.classes))
        parity, worst = measure(opened, samples, data="procedural cells")
        write_json(folder / "parity.json", parity.to_json())
        write_html(folder / "parity.html", parity, worst, opened.manifest.palette)
        report("segmenting the video")
        summary = run(bundle, folder / "cells.mp4", str(folder / "overlay.mp4"))
        with load(bundle) as segmenter:
            timing = bench(segmenter, source=folder / "cells.mp4")
    return DemoResult(parity, summary, timing)
