"""What a parity run found: plain numbers, JSON-ready."""

from __future__ import annotations

from dataclasses import dataclass

from ..bundle.schema import encode
from .gate import GateParity


@dataclass(frozen=True)
class StageReport:
    """One stage against PyTorch. Agreements in 0..1, IoU and drop in points (percent).

    agreement: share of equal pixels. boundary: F1 of the class boundaries at 2 px, frames' mean.
    iou: per class against the labels, None where a class does not appear; miou: their mean.
    drop: the reference's mIoU less this one's. logit_max, logit_mean: absolute errors at the net's
    resolution. wanted, allowed_drop: the tolerance; without labels there is no drop to allow.
    """

    name: str
    agreement: float
    boundary: float
    iou: tuple[float | None, ...]
    miou: float
    drop: float
    logit_max: float
    logit_mean: float
    wanted: float
    allowed_drop: float | None

    @property
    def ok(self) -> bool:
        """Whether the stage is within its tolerance."""
        kept = self.allowed_drop is None or self.drop <= self.allowed_drop
        return self.agreement >= self.wanted and kept


@dataclass(frozen=True)
class FrameReport:
    """One frame of the candidate: its name and the share of pixels that agree."""

    name: str
    agreement: float


@dataclass(frozen=True)
class Fallback:
    """A layer of an INT8 graph that runs in float, because INT8 lost too much.

    cost: squared error of the logits over their variance with this layer alone in INT8. gain:
    points of mIoU that its fallback won back, or percent of the pixels where there are no labels.
    """

    layer: str
    cost: float
    gain: float


@dataclass(frozen=True)
class ParityReport:
    """A whole run. `labelled` is false where the reference's own masks stand in for labels.

    gate: of the candidate; None where the bundle runs ungated. fallbacks: told by the export.
    """

    bundle: str
    model: str
    weights: str
    precision: str
    backend: str
    data: str
    frames: int
    labelled: bool
    classes: tuple[str, ...]
    reference_iou: tuple[float | None, ...]
    reference_miou: float
    stages: tuple[StageReport, ...]
    gate: GateParity | None
    worst: tuple[FrameReport, ...]
    environment: dict[str, str]
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def candidate(self) -> StageReport:
        """The bundle as it is deployed: the last stage."""
        return self.stages[-1]

    @property
    def first_failure(self) -> str | None:
        """Name of the first stage out of tolerance."""
        return next((stage.name for stage in self.stages if not stage.ok), None)

    @property
    def deployed(self) -> tuple[StageReport, ...]:
        """Stages of the bundle's precision: the candidate and, simulated, TensorRT's graphs."""
        return tuple(stage for stage in self.stages if self.precision in stage.name)

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, verdicts included."""
        data: dict[str, object] = encode(self)
        data["stages"] = [{**encode(stage), "ok": stage.ok} for stage in self.stages]
        return {**data, "first_failure": self.first_failure, "ok": self.first_failure is None}

    def table(self) -> str:
        """Aligned text for a terminal."""
        lines = [
            f"{self.model} {self.weights}, {self.precision} on {self.backend}: {self.frames} "
            f"frames of {self.data}; PyTorch mIoU {self.reference_miou:.2f}"
            + ("" if self.labelled else " (no labels: against the reference's masks)"),
            f"{'stage':<15}{'agreement':>11}{'wanted':>9}{'mIoU':>8}{'drop':>7}{'boundary':>10}"
            f"{'logit max':>11}{'mean':>9}",
        ]
        for stage in self.stages:
            lines.append(
                f"{stage.name:<15}{stage.agreement:>11.4%}{stage.wanted:>9.2%}{stage.miou:>8.2f}"
                f"{stage.drop:>7.2f}{stage.boundary:>10.2%}{stage.logit_max:>11.3g}"
                f"{stage.logit_mean:>9.2g}" + ("" if stage.ok else "  OUT OF TOLERANCE")
            )
        if self.gate is not None:
            lines += [f"gate: {line}" for line in self.gate.lines().splitlines()]
        for entry in self.fallbacks:
            lines.append(f"float: {entry.layer}, which won back {entry.gain:.2f} points")
        failure = self.first_failure
        lines.append(
            "all stages within tolerance"
            if failure is None
            else f"first out of tolerance: {failure}"
        )
        return "\n".join(lines)
