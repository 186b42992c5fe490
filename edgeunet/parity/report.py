"""The results of a parity run: plain numbers, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle.schema import encode
from ..errors import printable
from .gate import GateParity
from .pixels import PixelsParity

NO_LABELS = "not checked: no labels; pass --data, a data set with masks"


@dataclass(frozen=True)
class StageParity:
    """One stage compared with the reference. Agreements are in 0..1, IoU and drop in points.

    agreement: share of equal pixels. boundary: F1 of the class boundaries within 2 pixels, mean of
        the frames.
    iou: per class against the labels, None for a class that does not appear. miou: their mean over
        the classes that a label has.
    drop: the reference's mIoU minus this one. Without labels all of them are None.
    logit_max, logit_mean: absolute errors at the net's resolution, of the logits less their mean
        over the classes.
    wanted, allowed_drop: tolerances of agreement and drop. allowed_drop is None without labels.
    """

    name: str
    agreement: float
    boundary: float
    iou: tuple[float | None, ...]
    miou: float | None
    drop: float | None
    logit_max: float
    logit_mean: float
    wanted: float
    allowed_drop: float | None

    @property
    def ok(self) -> bool:
        """Whether the stage is within its tolerances."""
        if self.drop is None or self.allowed_drop is None:
            return self.agreement >= self.wanted
        return self.agreement >= self.wanted and self.drop <= self.allowed_drop

    @property
    def held(self) -> str:
        """The same in words, and what was promised if it is not kept."""
        if not self.ok and self.agreement >= self.wanted:
            return f"OUT OF TOLERANCE: at most {self.allowed_drop:.2f} points promised"
        return "ok" if self.ok else f"OUT OF TOLERANCE: {self.wanted:.2%} promised"


@dataclass(frozen=True)
class FrameReport:
    """One frame of the candidate: its name and the share of pixels that agree."""

    name: str
    agreement: float


@dataclass(frozen=True)
class Fallback:
    """A layer of an INT8 graph that runs in float, because INT8 lost too much.

    cost: squared error of the logits, divided by their variance, if this layer alone is in INT8.
    gain: points of mIoU that float won back, or percent of the pixels if those were too few.
    """

    layer: str
    cost: float
    gain: float


@dataclass(frozen=True)
class Attempt:
    """One way to INT8, and what the graph that loses most keeps.

    way: in words. agreement: share of equal pixels, 0..1. drop: points of mIoU that are lost, None
    without labels. floats: number of layers in float.
    """

    way: str
    agreement: float
    drop: float | None
    floats: int = 0

    def line(self) -> str:
        """As text."""
        plural = "s" if self.floats > 1 else ""
        layers = f", {self.floats} layer{plural} in float" if self.floats else ""
        points = "" if self.drop is None else f", {self.drop:.2f} points lost"
        return f"{self.way}: {self.agreement:.2%} of the pixels{points}{layers}"


@dataclass(frozen=True)
class ParityReport:
    """A whole parity run.

    labelled: whether the frames have labels; if not, only the agreement of the pixels is known.
    reference: what the stages are compared with, such as "PyTorch".
    reference_iou, reference_miou: its own, in percent, None without labels.
    gate: of the candidate, None if the bundle runs ungated.
    fallbacks: layers that the export put back to float.
    attempts: ways to INT8 that the export tried, if calibration lost too much; the bundle holds the
        last one.
    pixels: graphs from frames to masks, compared with the runtime.
    left_out: classes that no mIoU is averaged over, because no label has them.
    confusion: pixels of the candidate by label (rows) and prediction, () without labels.
    """

    bundle: str
    model: str
    weights: str
    precision: str
    backend: str
    reference: str
    data: str
    frames: int
    labelled: bool
    classes: tuple[str, ...]
    reference_iou: tuple[float | None, ...]
    reference_miou: float | None
    stages: tuple[StageParity, ...]
    gate: GateParity | None
    worst: tuple[FrameReport, ...]
    environment: dict[str, str]
    fallbacks: tuple[Fallback, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    left_out: tuple[str, ...] = ()
    pixels: tuple[PixelsParity, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()

    @property
    def averaged(self) -> int:
        """Number of classes that an mIoU is averaged over."""
        return len(self.classes) - len(self.left_out)

    def left_out_text(self) -> str:
        """See `left_out_text`."""
        return left_out_text(self.left_out, classes=len(self.classes))

    @property
    def candidate(self) -> StageParity:
        """The last stage: the bundle as it is deployed."""
        return self.stages[-1]

    @property
    def first_failure(self) -> str | None:
        """Name of the first stage out of tolerance, None if all are within."""
        failed = [stage.name for stage in self.stages if not stage.ok]
        failed += [graph.name for graph in self.pixels if not graph.ok]
        return next(iter(failed), None)

    @property
    def budget(self) -> str:
        """Whether the loss of IoU was checked, or why not."""
        return "checked" if self.labelled else NO_LABELS

    @property
    def verdict(self) -> str:
        """What a person has to know first."""
        if self.first_failure is not None:
            verdict = f"first out of tolerance: {self.first_failure}"
        elif self.labelled:
            return "all stages within tolerance"
        else:
            verdict = f"all stages agree with {self.reference} on the promised share of the pixels"
        return verdict if self.labelled else f"{verdict}; budget {self.budget}"

    @property
    def deployed(self) -> tuple[StageParity, ...]:
        """Stages in the bundle's precision: the candidate and the simulated graphs for TensorRT."""
        return tuple(stage for stage in self.stages if self.precision in stage.name)

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, including the verdicts."""
        data: dict[str, object] = encode(self)
        data["stages"] = [{**encode(stage), "ok": stage.ok} for stage in self.stages]
        data["pixels"] = [{**encode(each), "ok": each.ok} for each in self.pixels]
        return {
            **data,
            "averaged": self.averaged if self.labelled else None,
            "budget": self.budget,
            "first_failure": self.first_failure,
            "ok": self.first_failure is None,
        }

    def table(self, *, wide: bool = False) -> str:
        """Aligned text for a terminal; if wide, with tolerances, boundaries and logits."""
        more = f"{'wanted':>9}{'boundary':>10}{'logit max':>11}{'mean':>9}" if wide else ""
        lines = [
            f"{self.model} {self.weights}, {self.precision} on {self.backend}: {self.frames} "
            f"frames of {self.data}; "
            + (
                "no labels"
                if self.reference_miou is None
                else f"{self.reference} mIoU {self.reference_miou:.2f}"
            ),
            f"{'stage':<16}{'agreement':>11}{'mIoU':>8}{'drop':>7}{more}",
        ]
        for stage in self.stages:
            more = (
                f"{stage.wanted:>9.2%}{stage.boundary:>10.2%}{stage.logit_max:>11.3g}"
                f"{stage.logit_mean:>9.2g}"
            )
            lines.append(
                f"{stage.name:<16}{stage.agreement:>11.4%}{_points(stage.miou):>8}"
                f"{_points(stage.drop):>7}{more if wide else ''}  {stage.held}"
            )
        for each in self.pixels:
            lines.append(
                f"{each.name:<16}{each.agreement:>11.4%} of the runtime's masks; pixels that "
                f"differ: {each.differing}  {each.held}"
            )
        if self.left_out:
            lines.append(self.left_out_text())
        if self.gate is not None:
            lines += [f"gate: {line}" for line in self.gate.lines().splitlines()]
        lines += [f"INT8 {attempt.line()}" for attempt in self.attempts]
        for entry in self.fallbacks:
            lines.append(f"float: {entry.layer}, which won back {entry.gain:.2f} points")
        return "\n".join([*lines, self.verdict])


def _points(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no minus before 0.00


def left_out_text(left_out: Sequence[str], *, classes: int) -> str:
    """What an mIoU of so many classes is averaged over, as a sentence; empty if that is all."""
    if not left_out:
        return ""
    names = ", ".join(map(printable, left_out))
    return f"mIoU over {classes - len(left_out)} of {classes} classes: the labels lack {names}"
