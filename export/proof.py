"""Verify a written bundle: what it loses, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.calibration_table import TABLE_NAME, read_table
from edgeunet.data import cells
from edgeunet.data.fit import Fit, Reading
from edgeunet.errors import ExportError, ParityError
from edgeunet.parity import Fallback, ParityReport, WorstFrame, golden_samples, measure
from edgeunet.parity.measure import TOLERANCES
from edgeunet.parity.reference import Reference
from edgeunet.runtime.sources.labelled import LabelledFrame, labelled_frames
from edgeunet.steps import Count

from .int8.budget import hold_budget
from .int8.judge import Loss

_FP16_CONVOLUTIONS = (1, 30)
"""ONNX Runtime that computes them right from computed weights. Before, depthwise ones are wrong by
percents, seen in 1.20 to 1.29."""

FRAMES = 24
"""Labelled procedural frames that bundles of procedural weights are verified on."""


def check_simulator() -> None:
    """ExportError if ONNX Runtime cannot stand in for TensorRT's INT8 with FP16 between."""
    found = version("onnxruntime")
    if tuple(map(int, found.split(".")[:2])) < _FP16_CONVOLUTIONS:
        wanted = ".".join(map(str, _FP16_CONVOLUTIONS))
        raise ExportError(
            f"INT8 bundles are proved on ONNX Runtime {wanted} or newer, which needs Python 3.11; "
            f"found {found}, whose FP16 convolutions are wrong. Install a newer one to export; the "
            "bundle runs on this one too."
        )


@dataclass(frozen=True)
class Proof:
    """What a bundle is compared with, the frames that it is measured on, and what it may lose.

    data: data set to measure on. None takes procedural frames for procedural weights, else the
    golden frames. layout: of the data set, see `open_dataset`. reading: what its images hold.
    max_iou_drop: IoU points that may be lost on labelled frames. Without labels, the promised
    agreement must hold; with them, it should.
    """

    reference: Reference
    data: Path | None
    reading: Reading
    max_iou_drop: float
    layout: str | None = None

    def measure(
        self, bundle: Bundle, count: Count = lambda done, total: None
    ) -> tuple[ParityReport, list[WorstFrame]]:
        """Compare all graphs of the bundle with the reference.

        Args:
            count: called with the number of frames done.
        """
        samples, name = self._samples(bundle)
        return measure(
            bundle,
            samples,
            data=name,
            reference=self.reference,
            simulate=True,
            progress=lambda done: count(done, None),
        )

    def excess(self, parity: ParityReport) -> float:
        """Points by which the worst graph exceeds its budget.

        They are points of mIoU; without labels, of agreement.
        """
        drops = [stage.drop for stage in parity.deployed if stage.drop is not None]
        if drops:
            return max(drops) - self.max_iou_drop
        return 100 * max(stage.wanted - stage.agreement for stage in parity.deployed)

    def allowed(self, *, labelled: bool) -> Loss:
        """What an INT8 graph may lose. Whoever allows more points than usual allows more pixels.

        Without labels, there are no points to allow, and `check` wants the promised agreement.
        """
        agreement, points = TOLERANCES["int8"]
        share = max(1.0, self.max_iou_drop / points) if labelled else 1.0
        return Loss(self.max_iou_drop, share * 100 * (1 - agreement))

    def beyond(self, parity: ParityReport) -> float:
        """By how much INT8 loses more than `allowed`; 0 or below if it does not."""
        allowed = self.allowed(labelled=parity.labelled)
        losses = (
            Loss(stage.drop, 100 * (1 - stage.agreement))
            for stage in parity.deployed
            if "int8" in stage.name
        )
        return max(loss.beyond(allowed) for loss in losses)

    def repairs(self, parity: ParityReport) -> bool:
        """Whether INT8 loses more than `allowed`."""
        return self.beyond(parity) > 0

    def repair(
        self,
        bundle: Bundle,
        source: Path,
        *,
        labelled: bool,
        report: Callable[[str], None],
    ) -> tuple[Fallback, ...]:
        """Return layers of the INT8 graphs to float, see `hold_budget`.

        The bundle's manifest still describes the old graphs.

        Args:
            source: graph that they are made of.
        """
        samples, _ = self._samples(bundle)
        table = read_table(bundle.root / TABLE_NAME)
        card = self.reference.card
        allowed = self.allowed(labelled=labelled)
        return hold_budget(
            bundle.root, table, samples, card, allowed=allowed, report=report, source=source
        )

    def check(self, parity: ParityReport) -> None:
        """ParityError if the bundle is outside its budget, so that it is not written."""
        for graph in parity.pixels:
            if not graph.ok:
                raise ParityError(
                    f"the graph {graph.name} gives the runtime's class to {graph.agreement:.2%} of "
                    f"the pixels of {parity.data}; expected {graph.wanted:.2%}. Export without "
                    "--pixels, and please report this net. No bundle was written."
                )
        if self.excess(parity) <= 0:
            return
        drops = [(stage.drop, stage.name) for stage in parity.deployed if stage.drop is not None]
        if drops:
            drop, name = max(drops)
            train = "Allow more, or train INT8 for more --qat-epochs. " if "int8" in name else ""
            raise ParityError(
                f"{name} loses {drop:.2f} IoU points on {parity.data}; "
                f"{self.max_iou_drop:g} are allowed (--max-iou-drop), and no choice of layers in "
                f"float holds that. First stage out of tolerance: {parity.first_failure}. {train}"
                "No bundle was written."
            )
        worst = min(parity.deployed, key=lambda stage: stage.agreement)
        remedy = "Pass --data with labels to measure IoU instead."
        if worst.name == "fp32":  # the same sums: no labels would help
            remedy = (
                "The graph is not the net: does its code branch on the values of an image, or on "
                "its batch?"
            )
        raise ParityError(
            f"{worst.name} agrees with {parity.reference} on {worst.agreement:.2%} of the pixels "
            f"of {parity.data}; expected {worst.wanted:.2%}. {remedy} No bundle was written."
        )

    def _samples(self, bundle: Bundle) -> tuple[Iterator[LabelledFrame], str]:
        """Frames to measure on, labelled if possible, and their description."""
        card = self.reference.card
        if self.data is not None:
            fit = Fit(card.input, self.reading)
            samples = labelled_frames(self.data, classes=card.classes, fit=fit, layout=self.layout)
            return samples, self.data.name
        if card.data != cells.NAME:
            return golden_samples(bundle), "its golden frames"
        spec = card.input
        fit = Fit(spec)
        frames = cells.snapshots(FRAMES, height=spec.height, width=spec.width, seed=2)
        return (
            LabelledFrame(f"procedural {index}", fit(frame.image), frame.mask)
            for index, frame in enumerate(frames)
        ), "procedural cells"
