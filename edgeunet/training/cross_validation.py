"""Cross-validation: a recipe judged on every training image, by nets that have not seen it.

The nets of the folds are trained as the last one is, but none is chosen by its epoch: one that the
held-out images chose would look better than it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.schema import SchemaError, encode, load_json
from ..catalogue import RUN_WEIGHTS
from ..data.check import Contents
from ..data.datasets import Dataset
from ..data.fit import Fit
from ..data.folds import HELD_OUT, Fold
from ..errors import CheckpointError, DatasetError, UsageError, printable
from ..files import write_json
from ..gate.calibrate import MAX_LOST, calibrate_gate, collect_presence
from ..gate.report import GateReport, Pixels, Presence, gate_report
from ..models import Checkpoint
from ..models.reference import Evaluation, evaluate_on, reference_mask
from .config import Progress, TrainConfig

FOLDS = "folds"
"""The folder of a run that holds the runs of its folds, by their names."""
DIVISION = "folds.json"
"""The file of a run that tells which images each fold holds out."""

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 20  # a million images

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class FoldScore:
    """How a fold's net does on the images that were held out; miou in percent."""

    groups: tuple[str, ...]
    images: int
    miou: float


@dataclass(frozen=True)
class CrossValidation:
    """A recipe, judged.

    pooled: all folds' masks together, which no fold's rare class can tilt. presence, pixels: of a
    gate, (M, C) on all training images by nets that have not seen them, and the true pixels there;
    None without a gate.
    """

    group_by: str | None
    folds: tuple[FoldScore, ...]
    pooled: Evaluation
    presence: Presence | None = None
    pixels: Pixels | None = None

    def metrics(self) -> dict[str, Any]:
        """For a card."""
        folds = [
            {"groups": list(each.groups), "images": each.images, "miou": each.miou}
            for each in self.folds
        ]
        return {"group_by": self.group_by, "folds": folds, **self.pooled.metrics()}


def cross_validate(
    folds: Sequence[Fold], *, group_by: str | None, train_fold: Callable[[Fold], Path]
) -> CrossValidation:
    """Train a net without each fold, and judge it on that fold.

    Args:
        train_fold: trains, or resumes, and returns the checkpoint.
    """
    scores, judged, gates = [], [], []
    for fold in folds:
        opened = Checkpoint.open(train_fold(fold))
        net, spec = opened.net, opened.card.input
        if net.cgm is not None:
            gates.append(collect_presence(net, fold.dataset, spec, split=HELD_OUT))
        found = evaluate_on(
            lambda image, net=net, spec=spec: reference_mask(net, image, spec),  # type: ignore[misc]
            fold.dataset,
            HELD_OUT,
            fit=Fit(spec),
        )
        judged.append(found)
        scores.append(FoldScore(fold.groups, fold.held_out, found.miou))
    boundary = np.average([each.boundary for each in judged], weights=[s.images for s in scores])
    confusion = np.sum([each.confusion for each in judged], axis=0)
    pooled = Evaluation(confusion, float(boundary), judged[0].classes)
    presence, pixels = map(np.concatenate, zip(*gates, strict=True)) if gates else (None, None)
    return CrossValidation(group_by, tuple(scores), pooled, presence, pixels)


def cross_fit(
    judged: CrossValidation, open_on: float | None
) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Thresholds of a gate from presences of nets that have not seen the images.

    On images that a net was trained on, or chosen by, its gate is surer than it is later.

    Args:
        judged: with presences. open_on: see `calibrate_gate`, also for the errors.

    Returns:
        Thresholds, and what they do, for a card.
    """
    assert judged.presence is not None and judged.pixels is not None
    classes = judged.pooled.classes
    thresholds = calibrate_gate(
        judged.presence, judged.pixels, max_lost=MAX_LOST, open_on=open_on, classes=classes
    )
    found = gate_report(judged.presence, judged.pixels, thresholds=thresholds, classes=classes)
    told = {"max_lost": MAX_LOST, "margin": 0.0, "open_on": open_on, "cross_fitted": True}
    return thresholds, {**told, **encode(found)}


def tell_of_kept_gate(kept: Checkpoint, dataset: Dataset) -> None:
    """Warn where a net's gate is open on less of val than cross-fitting promised.

    The promise is that of the folds' nets. This one has seen more images, and its scores may lie
    elsewhere.
    """
    assert kept.card.gate is not None
    promised = GateReport.of_record(kept.card.metrics["gate"])
    presence, pixels = collect_presence(kept.net, dataset, kept.card.input)
    found = gate_report(presence, pixels, thresholds=kept.card.gate, classes=kept.card.classes)
    for ours, theirs in zip(found.classes, promised.classes, strict=True):
        share, bound = ours.open_where_held, theirs.open_at_least
        if share is not None and bound is not None and share < bound:
            _log.warning(
                "the gate of '%s' is open on %.1f %% of the %d images of val that hold it, but the "
                "folds' nets are on at least %.1f %%, with 95 %% confidence. Choose its thresholds "
                "by `edgeunet gate` on images that this net has not seen.",
                printable(ours.name),
                100 * share,
                ours.held,
                100 * bound,
            )


def of_fold(config: TrainConfig) -> TrainConfig:
    """A run's options for the runs of its folds, which no mIoU ends."""
    return replace(config, with_val=False, validate_every=0, patience=None)


def division(folds: Sequence[Fold]) -> dict[str, list[str]]:
    """Paths of the held-out images, within the data set, by the folds' names."""
    return {
        fold.name: [
            sample.image.relative_to(fold.dataset.root).as_posix()
            for sample in fold.dataset.samples(HELD_OUT)
        ]
        for fold in folds
    }


def keep_division(folds: Sequence[Fold], run: Path) -> None:
    """Write how the images are divided; CheckpointError if the run has begun with other folds."""
    path, wanted = run / DIVISION, division(folds)
    if path.exists() and _read_division(path) != wanted:
        raise CheckpointError(
            f"{printable(path)} divides the training images in another way. Pass the same --folds "
            "and --group-by, or another output directory."
        )
    write_json(path, wanted)


def teacher_of(teacher: Path, fold: Fold) -> Path:
    """The net of a cross-validated run that has not seen what this fold holds out.

    Raises:
        CheckpointError: a run with other folds, or one whose fold is not trained yet.
    """
    held_out = division([fold])[fold.name]
    for name, images in _read_division(teacher / DIVISION).items():
        if images == held_out:
            found = teacher / FOLDS / name / RUN_WEIGHTS
            if not found.is_file():
                raise CheckpointError(
                    f"{printable(found)} does not exist: the teacher's own folds are not trained. "
                    "End that run first."
                )
            return found
    raise CheckpointError(
        f"the teacher {printable(teacher)} has other folds: none of its nets has not seen the "
        f"{fold.held_out} images of fold {fold.name}. Train it with the same --folds and "
        "--group-by."
    )


def check_unseen(option: str, where: object, trained_on: Collection[str], name: str) -> None:
    """UsageError for weights that know the held-out images of the data set of this name.

    Args:
        trained_on: names of the data sets of the weights, and of those that they began with.
    """
    if name not in trained_on:
        return
    advice = {
        "--teacher": "Pass the run directory of a teacher that was trained with the same --folds.",
        "--weights": "Start from other weights.",
    }
    raise UsageError(
        f"got --folds with {option} {printable(where)}, which was trained on {printable(name)} "
        "itself: it knows the images that are held out, so the result would look better than it "
        f"is. {advice[option]}"
    )


def check_classes(folds: Sequence[Fold], dataset: Dataset, contents: Contents) -> None:
    """Refuse folds whose nets could not learn, or not be judged.

    Args:
        dataset, contents: with all images.

    Raises:
        DatasetError: a class without a pixel in what a fold's net is trained on, or held-out images
            of one class only, whose mean IoU would say nothing.
    """
    paths = [sample.image for sample in dataset.samples("train")]
    for fold in folds:
        held = {sample.image for sample in fold.dataset.samples(HELD_OUT)}
        held_out = np.array([path in held for path in paths])
        groups = f" ({', '.join(map(printable, fold.groups))})" if fold.groups else ""
        pixels = contents.train.by_image[~held_out].sum(0)
        if not pixels.all():
            name = dataset.classes[int(pixels.argmin())]
            raise DatasetError(
                f"{printable(dataset.root)}: without the {fold.held_out} images of fold "
                f"{fold.name}{groups}, '{printable(name)}' has no pixel to learn from. Pass "
                "another --group-by, or more --folds."
            )
        shown = np.flatnonzero(contents.train.by_image[held_out].sum(0))
        if len(shown) < 2:
            raise DatasetError(
                f"{printable(dataset.root)}: all {fold.held_out} images of fold "
                f"{fold.name}{groups} hold '{printable(dataset.classes[shown[0]])}' only, so that "
                "they cannot judge a net. Pass another --group-by, or fewer --folds."
            )


def in_turn(report: Report, shares: Sequence[int], names: Sequence[str]) -> list[Report]:
    """Reports of runs that follow each other, as parts of the whole.

    Args:
        shares: images that each run trains on, over all its epochs. names: of the runs.
    """
    whole = sum(shares)

    def part(index: int) -> Report:
        before, after = sum(shares[:index]), sum(shares[index + 1 :])

        def tell(news: Progress) -> None:
            report(
                replace(
                    news,
                    run=", ".join(filter(None, (names[index], news.run))),
                    done=(before + shares[index] * news.done) / whole,
                    remaining=news.remaining + (after / news.rate if news.rate else 0.0),
                )
            )

        return tell

    return [part(index) for index in range(len(shares))]


def _read_division(path: Path) -> dict[str, list[str]]:
    try:
        found = load_json(path, most=_MOST_BYTES)
    except SchemaError as error:
        raise CheckpointError(f"{printable(path)} {error}. Remove it to start again.") from None
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{printable(path)} holds no folds by their names. Remove it to start again."
        )
    return found
