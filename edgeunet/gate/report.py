"""Measure a gate on labelled images.

An image is *empty* if it holds only the most common class, the background. Its true mask is
constant. A frame is *skipped* if at most one class is open. Its mask is then constant whatever the
decoder computes, so the decoder need not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.schema import decode
from ..errors import UsageError
from .confidence import CONFIDENCE, least_share

Presence = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ClassGate:
    """The gate of one class. Rates and shares are 0..1, None if no image shows them.

    threshold: presences below it close the class. auc: area under `roc_curve`, the probability
    that an image with the class has a higher presence than one without. lost: share of the class's
    true pixels that lie in images it is closed on. held: number of images with the class.
    open_where_held: share of them that it is open on. open_at_least: share of all such images, of
    which these are a sample, that it is open on with a probability of `CONFIDENCE`; it flatters if
    the net has seen these images. closed_where_not: share of the images without the class that it
    is closed on.
    """

    name: str
    threshold: float
    auc: float | None
    lost: float | None
    held: int
    open_where_held: float | None
    open_at_least: float | None
    closed_where_not: float | None


@dataclass(frozen=True)
class GateReport:
    """The gate of all classes, and the early exits that follow from it. Rates are 0..1.

    images: number of images. empty: number of empty ones. skipped: share of all images that are
    skipped. skipped_empty: share of the empty images that are skipped. open_filled: share of the
    other images that are not skipped. None if there is no such image.
    """

    images: int
    empty: int
    skipped: float
    skipped_empty: float | None
    open_filled: float | None
    classes: tuple[ClassGate, ...]

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> GateReport:
        """From `Card.metrics["gate"]`, which also tells how the thresholds were found.

        Raises:
            SchemaError: it is not such a record.
        """
        return decode(cls, {field.name: record.get(field.name) for field in fields(cls)})

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Thresholds by class id, as in `Card.gate` and the manifest."""
        return tuple(entry.threshold for entry in self.classes)

    def summary(self) -> str:
        """The early exits, in one sentence."""
        return (
            f"skips the decoder on {_percent(self.skipped)} of {self.images} images: on "
            f"{_percent(self.skipped_empty)} of the {self.empty} empty ones; open on "
            f"{_percent(self.open_filled)} of the others"
        )

    def table(self) -> str:
        """Aligned text for a terminal."""
        lines = [
            f"{'class':<15}{'threshold':>10}{'AUC':>8}{'pixels lost':>13}{'held':>7}"
            f"{'open where held':>17}{f'with {CONFIDENCE:.0%}':>11}{'closed where not':>18}"
        ]
        for entry in self.classes:
            auc = "–" if entry.auc is None else f"{entry.auc:.4f}"
            lines.append(
                f"{entry.name:<15}{entry.threshold:>10.4g}{auc:>8}{_percent(entry.lost):>13}"
                f"{entry.held:>7}{_percent(entry.open_where_held):>17}"
                f"{_at_least(entry.open_at_least):>11}{_percent(entry.closed_where_not):>18}"
            )
        if absent := [entry.name for entry in self.classes if entry.lost is None]:
            lines.append(f"no image holds {', '.join(absent)}: nothing is known of that gate")
        return "\n".join([*lines, self.summary()])


def gate_report(
    presence: Presence, pixels: Pixels, *, thresholds: Sequence[float], classes: Sequence[str]
) -> GateReport:
    """Measure thresholds on the presence (M, C) and the true pixels (M, C) of M images.

    Raises:
        UsageError: no image, different shapes, or a presence that is not a probability.
    """
    check_images(presence, pixels)
    opened = presence >= np.asarray(thresholds, np.float32)
    held = pixels > 0
    common = int(pixels.sum(0).argmax())
    empty: Flags = np.delete(held, common, axis=1).sum(1) == 0
    skipped = opened.sum(1) <= 1
    return GateReport(
        images=len(presence),
        empty=int(empty.sum()),
        skipped=float(skipped.mean()),
        skipped_empty=_share(skipped, empty),
        open_filled=_share(~skipped, ~empty),
        classes=tuple(
            ClassGate(
                name=name,
                threshold=thresholds[index],
                auc=_area(roc_curve(presence[:, index], held[:, index])),
                lost=_lost(pixels[:, index], opened[:, index]),
                held=int(held[:, index].sum()),
                open_where_held=_share(opened[:, index], held[:, index]),
                open_at_least=_bound(opened[:, index], held[:, index], thresholds[index]),
                closed_where_not=_share(~opened[:, index], ~held[:, index]),
            )
            for index, name in enumerate(classes)
        ),
    )


def check_images(presence: Presence, pixels: Pixels) -> None:
    """UsageError unless presence and pixels have one row per image and presence is 0..1."""
    if presence.shape != pixels.shape or presence.ndim != 2 or len(presence) == 0:
        raise UsageError(
            f"presence is {presence.shape}, pixels are {pixels.shape}; expected (images, classes) "
            "for both, of one image or more."
        )
    wrong = presence[~((presence >= 0) & (presence <= 1))]  # NaN fails both
    if wrong.size:
        raise UsageError(
            f"presence holds {wrong[0]}; expected probabilities 0..1. Check that the weights are "
            "finite."
        )


def roc_curve(presence: Presence, held: Flags) -> Curve:
    """Receiver operating characteristic of one class's gate.

    Args:
        presence: (M,). held: (M,), whether the image holds the class.

    Returns:
        Corners (false-open rate, open rate) from (0, 0) to (1, 1) as the threshold falls. The
        rates are shares of the images without the class, and of those with it, that the gate is
        open on. Empty if every image holds the class or none does.
    """
    if held.all() or not held.any():
        return ()
    order = np.argsort(-presence, kind="stable")
    # Images of equal presence open together: the curve has one point after the last of them.
    last = np.append(np.flatnonzero(np.diff(presence[order])), len(order) - 1)
    counts = np.stack([np.cumsum(~held[order])[last], np.cumsum(held[order])[last]], axis=1)
    counts = np.concatenate([np.zeros((1, 2), counts.dtype), counts])
    steps = np.diff(counts, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    corners = counts[np.concatenate([[True], turns, [True]])] / counts[-1]
    return tuple((float(false), float(true)) for false, true in corners)


def _area(curve: Curve) -> float | None:
    """Area under a curve by trapezoids; ties count half, as in the Mann-Whitney U."""
    if not curve:
        return None
    points = np.asarray(curve)
    heights = (points[1:, 1] + points[:-1, 1]) / 2
    return float(np.diff(points[:, 0]) @ heights)


def _lost(pixels: Pixels, opened: Flags) -> float | None:
    total = pixels.sum()
    return None if total == 0 else float(pixels[~opened].sum() / total)


def _share(flags: Flags, among: Flags) -> float | None:
    return float(flags[among].mean()) if among.any() else None


def _bound(opened: Flags, held: Flags, threshold: float) -> float | None:
    if not held.any():
        return None
    # No presence is below 0: such a gate is open on every image.
    return least_share(int(opened[held].sum()), int(held.sum())) if threshold > 0 else 1.0


def _at_least(share: float | None) -> str:
    return "–" if share is None else f"≥ {share:.1%}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
