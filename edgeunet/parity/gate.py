"""Compares the candidate's gate with the labels and with the reference's gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..gate.report import Curve, GateReport, Pixels, Presence, gate_report, roc_curve
from ..metrics import Mask, class_pixels


@dataclass(frozen=True)
class GateParity:
    """How the gate of a bundle compares.

    changed, decisions: number of decisions (one class on one frame) that differ from those of the
        reference, and number of all.
    presence_max, presence_mean: absolute deviation from the reference's presence.
    report: the gate compared with the labels, None without labels. curves: `roc_curve` by class.
    """

    changed: int
    decisions: int
    presence_max: float
    presence_mean: float
    report: GateReport | None
    curves: tuple[Curve, ...]

    def lines(self) -> str:
        """One sentence a line: what the gate skips (with labels only), and what changed."""
        deviation = (
            f"{self.changed} of {self.decisions} gate decisions differ from the reference's; "
            f"presence deviates by {self.presence_max:.3g} at most, {self.presence_mean:.2g} on "
            "average"
        )
        return deviation if self.report is None else f"{self.report.summary()}\n{deviation}"


@dataclass
class GateCollector:
    """Collects the presence by reference and candidate, frame by frame.

    reference_thresholds, candidate_thresholds: by class id, None without a gate.
    """

    reference_thresholds: tuple[float, ...] | None
    candidate_thresholds: tuple[float, ...] | None
    _reference: list[Presence] = field(default_factory=list)
    _candidate: list[Presence] = field(default_factory=list)
    _pixels: list[Pixels] = field(default_factory=list)

    def add(
        self, reference: Presence | None, candidate: Presence | None, labels: Mask | None
    ) -> None:
        """Add a frame: presence (1, C) of both, None without a gate; labels, None without any."""
        if reference is None or candidate is None:
            return
        self._reference.append(reference[0])
        self._candidate.append(candidate[0])
        if labels is not None:
            self._pixels.append(class_pixels(labels, num_classes=candidate.shape[1]))

    def result(self, classes: Sequence[str]) -> GateParity | None:
        """The comparison of all frames, None if the bundle runs ungated."""
        thresholds = self.candidate_thresholds
        if self.reference_thresholds is None or thresholds is None or not self._candidate:
            return None
        reference, candidate = np.stack(self._reference), np.stack(self._candidate)
        expected = reference >= np.asarray(self.reference_thresholds, np.float32)
        found = candidate >= np.asarray(thresholds, np.float32)
        deviation = np.abs(candidate - reference)
        report: GateReport | None = None
        curves: tuple[Curve, ...] = ()
        if len(self._pixels) == len(candidate):
            pixels = np.stack(self._pixels)
            report = gate_report(candidate, pixels, thresholds=thresholds, classes=classes)
            curves = tuple(map(roc_curve, candidate.T, pixels.T > 0))
        return GateParity(
            changed=int((expected != found).sum()),
            decisions=int(expected.size),
            presence_max=float(deviation.max()),
            presence_mean=float(deviation.mean()),
            report=report,
            curves=curves,
        )
