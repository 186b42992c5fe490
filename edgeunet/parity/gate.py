"""The candidate's gate against the labels and against PyTorch's gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..gate.report import GateReport, Pixels, Presence, gate_report, roc_curve
from ..metrics import Mask, class_pixels


@dataclass(frozen=True)
class GateParity:
    """What the gate of a bundle does.

    changed: decisions, of one class on one frame, that differ from PyTorch's. decisions: how many
    there were. presence_max, presence_mean: absolute deviations from PyTorch's presence.
    report: the gate judged by the labels, None without any. curves: `roc_curve` of each class.
    """

    changed: int
    decisions: int
    presence_max: float
    presence_mean: float
    report: GateReport | None
    curves: tuple[tuple[tuple[float, float], ...], ...]

    def lines(self) -> str:
        """Sentences, one a line: what is skipped, where there are labels, and what changed."""
        deviation = (
            f"{self.changed} of {self.decisions} gate decisions differ from PyTorch's; presence "
            f"deviates by {self.presence_max:.3g} at most, {self.presence_mean:.2g} on average"
        )
        return deviation if self.report is None else f"{self.report.summary()}\n{deviation}"


@dataclass
class GateTally:
    """Collects the presence of reference and candidate, frame by frame.

    expected, found: thresholds of the reference and of the candidate, None ungated.
    """

    expected: tuple[float, ...] | None
    found: tuple[float, ...] | None
    _reference: list[Presence] = field(default_factory=list)
    _candidate: list[Presence] = field(default_factory=list)
    _pixels: list[Pixels] = field(default_factory=list)

    def add(
        self, reference: Presence | None, candidate: Presence | None, labels: Mask | None
    ) -> None:
        """Take in a frame: presence (1, C) of both, None ungated, and labels where there are."""
        if reference is None or candidate is None:
            return
        self._reference.append(reference[0])
        self._candidate.append(candidate[0])
        if labels is not None:
            self._pixels.append(class_pixels(labels, num_classes=candidate.shape[1]))

    def result(self, classes: Sequence[str]) -> GateParity | None:
        """What was found; None where the bundle runs ungated."""
        if self.expected is None or self.found is None or not self._candidate:
            return None
        reference, candidate = np.stack(self._reference), np.stack(self._candidate)
        expected = reference >= np.asarray(self.expected, np.float32)
        found = candidate >= np.asarray(self.found, np.float32)
        deviation = np.abs(candidate - reference)
        report: GateReport | None = None
        curves: tuple[tuple[tuple[float, float], ...], ...] = ()
        if len(self._pixels) == len(candidate):
            pixels = np.stack(self._pixels)
            report = gate_report(candidate, pixels, thresholds=self.found, classes=classes)
            curves = tuple(
                roc_curve(candidate[:, index], pixels[:, index] > 0)
                for index in range(len(classes))
            )
        return GateParity(
            changed=int((expected != found).sum()),
            decisions=int(expected.size),
            presence_max=float(deviation.max()),
            presence_mean=float(deviation.mean()),
            report=report,
            curves=curves,
        )
