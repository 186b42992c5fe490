"""Runs the reference and the stages of a bundle on the same frames and compares their masks."""

from __future__ import annotations

import heapq
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..data.fit import visible
from ..data.images import Rgb
from ..errors import DatasetError
from ..metrics import (
    Mask,
    Matrix,
    boundary_f1,
    check_labels,
    confusion_matrix,
    in_percent,
    iou_per_class,
    mean_iou,
    pixel_agreement,
    without_labels,
)
from ..runtime.backends import Backend, Net
from ..runtime.backends.base import NetBackend
from ..runtime.backends.postprocess import Postprocessor
from ..runtime.backends.preprocess import Preprocessor
from ..runtime.backends.tiling import by_windows
from ..runtime.frames import Batch, Frame, NetOutputs
from ..runtime.options import DEFAULTS, LoadOptions
from ..runtime.sources.labelled import LabelledFrame
from .gate import GateCollector
from .opening import open_reference
from .pixels import Candidate, PixelsCollector
from .reference import Reference
from .report import FrameReport, ParityReport, StageParity
from .stages import is_on_onnx_runtime, open_stages

TOLERANCES = {
    "preprocessing": (0.9999, 0.05),
    "postprocessing": (0.9999, 0.05),
    "fp32": (0.9999, 0.05),
    "fp16": (0.999, 0.05),
    "bf16": (0.995, 0.2),
    "int8": (0.99, 0.5),
    "trt int8": (0.99, 0.5),
    "trt int8.fp16": (0.99, 0.5),
    "openvino int8": (0.99, 0.5),
    "qnn int8": (0.99, 0.5),
    "rockchip fp16": (0.999, 0.05),
    "rockchip int8": (0.99, 0.5),
}
"""Stage -> (share of pixels that must agree with the reference, IoU points that it may lose).
What was deployed is named by target and flavour."""

WORST = 6
"""Frames shown in the report."""


@dataclass(frozen=True)
class WorstFrame:
    """One of the frames with the fewest agreeing pixels: its picture (H, W, 3) and masks (H, W).

    labels: None if it has none.
    """

    name: str
    agreement: float
    image: Rgb
    labels: Mask | None
    reference: Mask
    candidate: Mask


@dataclass
class _StageSums:
    """Running sums of one stage."""

    name: str
    confusion: Matrix
    equal: float = 0.0
    boundary: float = 0.0
    logit_max: float = 0.0
    logit_mean: float = 0.0
    frames: int = 0

    def add(
        self, truth: Mask, reference: Mask, candidate: Mask, error: npt.NDArray[np.float32]
    ) -> float:
        """Add one frame and return its agreement."""
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
    """The reference and the stages that are compared with it."""

    bundle: Bundle
    reference: Reference
    backends: dict[str, Backend]

    def outputs(self, image: Frame) -> Iterator[tuple[str, NetOutputs, Mask]]:
        """Yield (stage, outputs, mask) in the order of the stages."""
        if self.bundle.manifest.input.window is not None:
            yield from self._by_windows(image)
            return
        size = (image.shape[0], image.shape[1])
        manifest = self.bundle.manifest
        finish = Postprocessor(manifest.input, manifest.gate)
        images = Preprocessor(manifest.input)([image])
        outputs = self.reference.infer(images)
        yield "preprocessing", outputs, self.reference.decide(outputs, size)
        yield "postprocessing", outputs, finish(*outputs, size)[0]
        for name, backend in self.backends.items():
            result = backend.net.infer(images)
            yield name, result, finish(*result, size)[0]

    def _by_windows(self, image: Frame) -> Iterator[tuple[str, NetOutputs, Mask]]:
        """As `outputs`; the outputs are those of the window in the middle."""
        prepare = Preprocessor(self.bundle.manifest.input)
        images = prepare([image])
        outputs = self.reference.infer(images)
        yield "preprocessing", outputs, self.reference.on_windows(prepare.whole(image), image)
        original = NetBackend(self.bundle, _ReferenceNet(self.reference), name="reference")
        for name, backend in {"postprocessing": original, **self.backends}.items():
            (result,) = by_windows(backend).segment(Batch.of([image]))
            yield name, backend.net.infer(images), result.mask


class _ReferenceNet(Net):
    """The reference's net, for the runtime."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return self._reference.infer(images)


def golden_samples(bundle: Bundle) -> Iterator[LabelledFrame]:
    """The bundle's own golden frames, without labels."""
    for index, frame in enumerate(bundle.golden().frames):
        yield LabelledFrame(f"golden {index}", frame, None)


class _Comparison:
    """Running results of all frames.

    expected: confusion of labels and reference. labelled: whether the frames have labels.
    """

    def __init__(self, stages: _Stages, pixels: PixelsCollector) -> None:
        manifest = stages.bundle.manifest
        self._stages = stages
        self._classes = len(manifest.classes)
        self._worst: list[tuple[float, int, WorstFrame]] = []
        self.expected = self._no_pixels()
        self.stages: dict[str, _StageSums] = {}
        self.gate = GateCollector(stages.reference.card.gate, manifest.gate)
        self.pixels = pixels
        self.labelled = False

    def add(self, index: int, sample: LabelledFrame) -> None:
        """Run the reference and all stages on a frame."""
        expected, reference = self._stages.reference.segment(sample.image)
        self.labelled = sample.labels is not None
        truth = reference if sample.labels is None else sample.labels
        self.expected += confusion_matrix(truth, reference, num_classes=self._classes)
        for name, outputs, mask in self._stages.outputs(sample.image):
            stage = self.stages.setdefault(name, _StageSums(name, self._no_pixels()))
            error = np.abs(_centred(outputs.logits) - _centred(expected.logits))
            agreement = stage.add(truth, reference, mask, error)
        # The last stage is the candidate.
        self.gate.add(expected.presence, outputs.presence, sample.labels)
        self.pixels.add(sample.image)
        spec = self._stages.bundle.manifest.input
        picture = visible(sample.image, spec.frame_channels, spec.levels)
        frame = WorstFrame(sample.name, agreement, picture, sample.labels, reference, mask)
        heapq.heappush(self._worst, (-agreement, -index, frame))
        if len(self._worst) > WORST:
            heapq.heappop(self._worst)

    @property
    def worst(self) -> list[WorstFrame]:
        """Frames on which the candidate agrees least, worst first."""
        ordered = sorted(self._worst, key=lambda entry: entry[:2], reverse=True)
        return [frame for _, _, frame in ordered]

    def _no_pixels(self) -> Matrix:
        return np.zeros((self._classes, self._classes), np.int64)


def measure(
    bundle: Bundle,
    samples: Iterable[LabelledFrame],
    *,
    data: str,
    reference: Reference | None = None,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    simulate: bool = False,
    deployed: Mapping[str, Candidate | Backend] = MappingProxyType({}),
    progress: Callable[[int], None] = lambda frames: None,
) -> tuple[ParityReport, list[WorstFrame]]:
    """Compare the bundle with its reference, stage by stage.

    Each stage replaces one more part of the reference: "preprocessing" uses the runtime's input,
    "postprocessing" also its way from logits to masks, and "fp32", "fp16" and "int8" also the
    bundle's graphs. So the first stage out of tolerance shows where the fault is.

    Graphs from frames to masks, if the bundle holds any, are compared with the runtime's way in the
    same flavour, both on ONNX Runtime.

    Args:
        reference: None takes what the bundle holds, see `open_reference`.
        backend: "auto" and "onnxruntime" compare the bundle's graphs on ONNX Runtime, "openvino"
            on OpenVINO; another one is compared instead of them.
        options: of the backend; `precision`, if it is not None, is the last stage.
        simulate: also compare the INT8 graphs for TensorRT. ONNX Runtime computes them node by
            node, with TensorRT's rounding but not its speed.
        deployed: what was made of the bundle for other programs, by name; compared with the runtime
            in the same flavour. Backends, such as a simulator, are the last stages instead.
        progress: called with the number of frames done.

    Returns:
        The report, and the frames with the fewest agreeing pixels, worst first.

    Raises:
        DatasetError: no frame, or labels of fewer than two classes. UsageError: the bundle or the
            backend lacks the precision, or the backend an option.

    Example:
        >>> from edgeunet import parity, runtime
        >>> opened = runtime.open_bundle(bundle)
        >>> parity.measure(opened, parity.golden_samples(opened), data="golden")[0].candidate.name
        'fp32'
    """
    if options.precision is not None:
        bundle = bundle.at(options.precision)
    with ExitStack() as stack:
        wanted = open_reference(bundle) if reference is None else reference
        stages = _Stages(bundle, wanted, open_stages(bundle, backend, options, stack, simulate))
        on_cpu = dict(stages.backends) if is_on_onnx_runtime(backend, options) else {}
        others = {name: each for name, each in deployed.items() if isinstance(each, Candidate)}
        pixels = PixelsCollector.of_bundle(bundle, on_cpu, stack, deployed=others)
        stages.backends.update(
            {name: each for name, each in deployed.items() if isinstance(each, Backend)}
        )
        comparison = _Comparison(stages, pixels)
        for index, sample in enumerate(samples):
            comparison.add(index, sample)
            progress(index + 1)
    if not comparison.stages:
        raise DatasetError(f"{data} holds no frame to compare. Pass images or a video.")
    return _report(comparison, stages, data), comparison.worst


def _report(comparison: _Comparison, stages: _Stages, data: str) -> ParityReport:
    bundle, expected, labelled = stages.bundle, comparison.expected, comparison.labelled
    classes = bundle.manifest.classes
    if labelled:
        check_labels(expected, classes, where=data)
    candidate = list(stages.backends.values())[-1]
    sums = list(comparison.stages.values())
    return ParityReport(
        bundle=bundle.root.name,
        model=bundle.manifest.model,
        weights=bundle.manifest.weights,
        precision=bundle.manifest.precision,
        backend=candidate.name,
        reference=stages.reference.title,
        data=data,
        frames=sums[-1].frames,
        labelled=labelled,
        classes=classes,
        left_out=tuple(classes[index] for index in without_labels(expected)) if labelled else (),
        reference_iou=_class_iou(expected, labelled=labelled),
        reference_miou=round(100 * mean_iou(expected), 3) if labelled else None,
        stages=tuple(_stage(stage, expected, labelled) for stage in sums),
        gate=comparison.gate.result(classes),
        pixels=comparison.pixels.results(),
        confusion=tuple(tuple(map(int, row)) for row in sums[-1].confusion) if labelled else (),
        worst=tuple(
            FrameReport(frame.name, round(frame.agreement, 6)) for frame in comparison.worst
        ),
        environment={
            "machine": platform.machine(),
            "python": platform.python_version(),
            **bundle.manifest.versions,
        },
    )


def _stage(sums: _StageSums, expected: Matrix, labelled: bool) -> StageParity:
    wanted, allowed = TOLERANCES[sums.name.partition(",")[0]]  # a folder may stand behind it
    return StageParity(
        name=sums.name,
        agreement=sums.equal / sums.frames,
        boundary=sums.boundary / sums.frames,
        iou=_class_iou(sums.confusion, labelled=labelled),
        miou=round(100 * mean_iou(sums.confusion), 3) if labelled else None,
        drop=round(100 * (mean_iou(expected) - mean_iou(sums.confusion)), 3) if labelled else None,
        logit_max=sums.logit_max,
        logit_mean=sums.logit_mean / sums.frames,
        wanted=wanted,
        allowed_drop=allowed if labelled else None,
    )


def _class_iou(confusion: Matrix, *, labelled: bool) -> tuple[float | None, ...]:
    return in_percent(iou_per_class(confusion)) if labelled else (None,) * len(confusion)


def _centred(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits less their mean over the classes, which decides nothing.

    A net that gives probabilities tells its logits up to that mean.
    """
    centred: npt.NDArray[np.float32] = logits - logits.mean(1, keepdims=True)
    return centred
