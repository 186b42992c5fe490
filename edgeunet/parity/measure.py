"""Run reference and stages over the same frames and compare their masks."""

from __future__ import annotations

import heapq
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..bundle.bundle import CHECKPOINT_NAME, Bundle
from ..bundle.manifest import Flavour
from ..data.datasets import open_dataset, read_labels
from ..data.images import read_image
from ..errors import DatasetError
from ..metrics import (
    Mask,
    Matrix,
    boundary_f1,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_agreement,
)
from ..models.checkpoints import Checkpoint
from ..models.reference import to_input, to_mask
from ..runtime.backends import Backend, create_backend
from ..runtime.backends.ort import open_flavour
from ..runtime.backends.postprocess import Postprocessor
from ..runtime.backends.preprocess import Preprocessor
from ..runtime.frames import Frame, NetOutputs
from ..runtime.sources import Frames
from .gate import GateTally
from .report import FrameReport, ParityReport, StageReport

TOLERANCES = {
    "preprocessing": (0.9999, 0.05),
    "postprocessing": (0.9999, 0.05),
    "fp32": (0.9999, 0.05),
    "fp16": (0.999, 0.05),
    "int8": (0.99, 0.5),
    "trt int8": (0.99, 0.5),
    "trt int8.fp16": (0.99, 0.5),
}
"""Stage -> (share of pixels that must agree with PyTorch, IoU points that may be lost)."""

_SIMULATED: dict[str, Flavour] = {"trt int8": "int8", "trt int8.fp16": "int8.fp16"}
WORST = 6
"""Frames shown in the report."""


@dataclass(frozen=True)
class ParitySample:
    """A frame (H, W, 3) and its labels (H, W), None where there are none."""

    name: str
    image: Frame
    labels: Mask | None


@dataclass(frozen=True)
class WorstFrame:
    """What a picture of a bad frame needs."""

    name: str
    agreement: float
    image: Frame
    reference: Mask
    candidate: Mask


@dataclass
class _Tally:
    """Running sums of one stage."""

    name: str
    confusion: Matrix
    equal: float = 0.0
    boundary: float = 0.0
    logit_max: float = 0.0
    logit_mean: float = 0.0
    frames: int = 0

    def add(
        self,
        truth: Mask,
        reference: Mask,
        candidate: Mask,
        error: npt.NDArray[np.float32],
    ) -> float:
        """Count one frame; returns its agreement."""
        agreement = pixel_agreement(reference, candidate)
        self.confusion += confusion_matrix(truth, candidate, num_classes=len(self.confusion))
        self.equal += agreement
        self.boundary += boundary_f1(reference, candidate)
        self.logit_max = max(self.logit_max, float(error.max()))
        self.logit_mean += float(error.mean())
        self.frames += 1
        return agreement


@dataclass
class _Stages:
    """Everything that answers for a frame: the reference and the stages after it."""

    bundle: Bundle
    backends: dict[str, Backend]

    def __post_init__(self) -> None:
        opened = Checkpoint.open(self.bundle.root / CHECKPOINT_NAME)
        self.net, self.card = opened.net, opened.card

    @torch.inference_mode()
    def reference(self, image: Frame) -> tuple[NetOutputs, Mask]:
        """PyTorch alone, by the checkpoint's card: nothing of the runtime or the manifest."""
        spec = self.card.input
        logits, presence = self.net.predict(to_input(image, spec))
        size = (image.shape[0], image.shape[1])
        mask = to_mask(logits, presence, spec, size, thresholds=self.card.gate)
        return _as_numpy(logits, presence), mask

    @torch.inference_mode()
    def answers(self, image: Frame) -> Iterator[tuple[str, NetOutputs, Mask]]:
        """(stage, outputs, mask) in the order of the stages."""
        size = (image.shape[0], image.shape[1])
        manifest = self.bundle.manifest
        finish = Postprocessor(manifest.input, manifest.gate)
        images = Preprocessor(manifest.input)([image])
        logits, presence = self.net.predict(torch.from_numpy(images))
        outputs = _as_numpy(logits, presence)
        mask = to_mask(logits, presence, manifest.input, size, thresholds=manifest.gate)
        yield "preprocessing", outputs, mask
        yield "postprocessing", outputs, finish(*outputs, size)[0]
        for name, backend in self.backends.items():
            result = backend.net.infer(images)
            yield name, result, finish(*result, size)[0]


def samples_of(path: Path, *, num_classes: int) -> Iterator[ParitySample]:
    """Frames to compare on: a data set's val split with labels, or any other frames without."""
    frames = Frames.open(path)
    if frames.kind == "dataset":
        yield from _labelled_samples(path, num_classes)
        return
    with frames.read() as source:
        for frame in source:
            yield ParitySample(frame.name or f"{frame.index:06d}", frame.image, None)


def _labelled_samples(path: Path, num_classes: int) -> Iterator[ParitySample]:
    dataset = open_dataset(path)
    if len(dataset.classes) != num_classes:
        raise DatasetError(
            f"{path} has {len(dataset.classes)} classes, the bundle has {num_classes}."
        )
    for sample in dataset.samples("val"):
        labels = read_labels(sample, num_classes=num_classes)
        yield ParitySample(sample.image.name, read_image(sample.image), labels)


def golden_samples(bundle: Bundle) -> Iterator[ParitySample]:
    """The bundle's own golden frames, without labels."""
    for index, frame in enumerate(bundle.golden().frames):
        yield ParitySample(f"golden {index}", frame, None)


def measure(
    bundle: Bundle,
    samples: Iterable[ParitySample],
    *,
    data: str,
    backend: str = "auto",
    simulate: bool = False,
    progress: Callable[[int], None] = lambda frames: None,
) -> tuple[ParityReport, list[WorstFrame]]:
    """Compare the bundle with its own checkpoint in PyTorch, stage by stage.

    The stages build on each other: preprocessing (PyTorch on the runtime's input), postprocessing
    (and the runtime's masks), then the graphs fp32, fp16 and int8 as the bundle holds them, so the
    first stage out of tolerance is the one to look at.

    Args:
        simulate: also the INT8 graphs that TensorRT reads, as ONNX Runtime computes them node by
            node: the rounding is theirs, the speed is not.

    Returns:
        The report, and the frames with the fewest agreeing pixels, worst first.
    """
    classes = bundle.manifest.classes
    empty = np.zeros((len(classes), len(classes)), np.int64)
    expected = empty.copy()
    tallies: dict[str, _Tally] = {}
    worst: list[tuple[float, int, WorstFrame]] = []
    labelled = False
    with ExitStack() as stack:
        stages = _Stages(bundle, _backends(bundle, backend, stack, simulate=simulate))
        gate = GateTally(stages.card.gate, bundle.manifest.gate)
        for index, sample in enumerate(samples):
            outputs, reference = stages.reference(sample.image)
            labelled = sample.labels is not None
            truth = reference if sample.labels is None else sample.labels
            expected += confusion_matrix(truth, reference, num_classes=len(classes))
            for name, answer, mask in stages.answers(sample.image):
                tally = tallies.setdefault(name, _Tally(name, empty.copy()))
                error = np.abs(answer.logits - outputs.logits)
                agreement = tally.add(truth, reference, mask, error)
            # The last stage is the candidate.
            gate.add(outputs.presence, answer.presence, sample.labels)
            frame = WorstFrame(sample.name, agreement, sample.image, reference, mask)
            heapq.heappush(worst, (-agreement, -index, frame))
            if len(worst) > WORST:
                heapq.heappop(worst)
            progress(index + 1)
    if not tallies:
        raise DatasetError(f"{data} holds no frame to compare.")
    frames = [entry[2] for entry in sorted(worst, key=lambda entry: entry[:2], reverse=True)]
    report = ParityReport(
        bundle=bundle.root.name,
        model=bundle.manifest.model,
        weights=bundle.manifest.weights,
        precision=bundle.manifest.precision,
        backend=next(reversed(stages.backends.values())).name,
        data=data,
        frames=next(iter(tallies.values())).frames,
        labelled=labelled,
        classes=classes,
        reference_iou=_points(expected),
        reference_miou=round(100 * mean_iou(expected), 3),
        stages=tuple(_stage(tally, expected, labelled) for tally in tallies.values()),
        gate=gate.result(classes),
        worst=tuple(FrameReport(frame.name, round(frame.agreement, 6)) for frame in frames),
        environment={
            "machine": platform.machine(),
            "python": platform.python_version(),
            **bundle.manifest.versions,
        },
    )
    return report, frames


def _backends(
    bundle: Bundle, backend: str, stack: ExitStack, *, simulate: bool
) -> dict[str, Backend]:
    """Backend by stage: the graphs up to the bundle's precision, or the one backend asked for."""
    precision = bundle.manifest.precision
    if backend not in ("auto", "onnxruntime"):
        return {precision: stack.enter_context(create_backend(backend, bundle))}
    flavours: dict[str, Flavour] = {"fp32": "fp32"}
    if precision != "fp32":
        flavours["fp16"] = "fp16"
    if precision == "int8":
        flavours |= {**(_SIMULATED if simulate else {}), "int8": "int8.cpu"}
    return {
        name: stack.enter_context(open_flavour(bundle, flavour))
        for name, flavour in flavours.items()
    }


def _stage(tally: _Tally, expected: Matrix, labelled: bool) -> StageReport:
    wanted, allowed = TOLERANCES[tally.name]
    return StageReport(
        name=tally.name,
        agreement=tally.equal / tally.frames,
        boundary=tally.boundary / tally.frames,
        iou=_points(tally.confusion),
        miou=round(100 * mean_iou(tally.confusion), 3),
        drop=round(100 * (mean_iou(expected) - mean_iou(tally.confusion)), 3),
        logit_max=tally.logit_max,
        logit_mean=tally.logit_mean / tally.frames,
        wanted=wanted,
        allowed_drop=allowed if labelled else None,
    )


def _points(confusion: Matrix) -> tuple[float | None, ...]:
    return tuple(
        None if np.isnan(score) else round(100 * float(score), 2)
        for score in iou_per_class(confusion)
    )


def _as_numpy(logits: torch.Tensor, presence: torch.Tensor | None) -> NetOutputs:
    return NetOutputs(logits.numpy(), None if presence is None else presence.numpy())
