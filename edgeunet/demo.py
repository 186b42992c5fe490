"""Export, parity, overlay video and speed on procedural data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .bundle.bundle import open_bundle, strangers_in
from .data.cells import Scene, time_lapse, write_dataset
from .data.fit import Fit
from .data.palettes import in_safe_colours
from .exporting import ExportOptions, export_bundle
from .files import entries, locked, new_directory, write_json
from .parity import ParityReport, measure, write_html
from .runtime.bench import BenchReport, bench
from .runtime.run import RunSummary, run
from .runtime.segmenter import load
from .runtime.sinks import VideoWriter
from .runtime.sources.labelled import labelled_frames

FRAMES, LABELLED, RATE = 150, 40, Fraction(15)
SIZE = (256, 320)
BUNDLE, DATA = "mobile_unet-int8", "data"


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
        output: directory to write; it must not exist. `force` replaces a demo or an empty folder,
            nothing else.
        report: called with the name of each step.

    Raises:
        OutputExistsError, UsageError: see `output`.
    """
    with (
        locked(output),
        new_directory(output, force=force, strangers=_strangers_in) as folder,
    ):
        report(f"drawing {FRAMES} frames of moving, touching, dividing cells")
        height, width = SIZE
        with VideoWriter(folder / "cells.mp4", rate=RATE) as video:
            for frame in time_lapse(Scene(height=height, width=width, seed=7), FRAMES):
                video.write(frame.image)
        # A seed that neither training nor calibration uses.
        write_dataset(folder / DATA, train=1, val=LABELLED, height=height, width=width, seed=99)
        bundle = folder / BUNDLE
        options = ExportOptions("mobile_unet", precision="int8", size=SIZE)
        export_bundle(bundle, options, report=report)
        report("parity on labelled frames")
        opened = open_bundle(bundle)
        spec, classes = opened.manifest.input, opened.manifest.classes
        samples = labelled_frames(folder / DATA, classes=classes, fit=Fit(spec))
        parity, worst = measure(opened, samples, data="procedural cells")
        write_json(folder / "parity.json", parity.to_json())
        write_html(folder / "parity.html", parity, worst, in_safe_colours(opened.manifest.palette))
        report("segmenting the video")
        summary = run(bundle, folder / "cells.mp4", str(folder / "overlay.mp4"))
        with load(bundle) as segmenter:
            timing = bench(segmenter, source=folder / "cells.mp4")
    return DemoResult(parity, summary, timing)


def _strangers_in(folder: Path) -> list[str]:
    """Names in a folder that do not belong to a demo; all of them if it is none."""
    names = entries(folder)
    known = {BUNDLE, DATA, "cells.mp4", "overlay.mp4", "parity.html", "parity.json"}
    if not known <= set(names):
        return names
    data = [name for name in entries(folder / DATA) if name not in ("dataset.json", "train", "val")]
    return [
        *(name for name in names if name not in known),
        *(f"{DATA}/{name}" for name in data),
        *(f"{BUNDLE}/{name}" for name in strangers_in(folder / BUNDLE)),
    ]
