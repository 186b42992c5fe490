"""A trained net as the teacher of another one: opened, compared with it, and asked.

Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022 (arXiv
2106.05237): the teacher answers for the very crop that the student sees, with the same random
geometry and colours. The losses are `losses.distillation` and `losses.presence_distillation`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..bundle.bundle import CHECKPOINT_NAME, Bundle, open_bundle
from ..bundle.manifest import MANIFEST_NAME, InputSpec, flavour_file
from ..catalogue import VARIANTS, run_of, weights_file
from ..data.datasets import Dataset
from ..errors import CheckpointError, printable
from ..files import sha256
from ..models import Checkpoint, NetOutput
from ..models.checkpoints import has_card
from ..models.lineage import data_of, lineage
from ..models.reference import to_input
from .losses import distillation, presence_distillation

_log = logging.getLogger(__name__)

_ASPECT = 0.05  # by which the proportions of two padded inputs may differ

Infer = Callable[[Tensor], tuple[Tensor, Tensor | None]]


class Answer(NamedTuple):
    """What a teacher says about crops.

    logits: (N, C, h, w), FP32, in the student's order of the classes. presence: (N, C)
    probabilities, None if the teacher has no gate.
    """

    logits: Tensor
    presence: Tensor | None


@dataclass(frozen=True)
class _Source:
    """A net as it was opened.

    data: names of what it was trained on, as far as that is known. infer: logits at the net's own
    resolution, and presence. step: sides of its images are multiples of it; 0 if they are those of
    `spec`, as in a graph.
    """

    name: str
    sha256: str
    classes: tuple[str, ...]
    spec: InputSpec
    data: frozenset[str]
    infer: Infer
    step: int


@dataclass(frozen=True)
class Teacher:
    """A net that answers for the crops of another one, the student, in the student's terms.

    source: the net. student: input of the student. order: the teacher's class for each class of the
    student. zoom: of rows and columns, so that objects have the size that the teacher knows.

    Example:
        >>> import torch; from pathlib import Path
        >>> from edgeunet.bundle.manifest import InputSpec; from edgeunet.data import cells
        >>> from edgeunet.data.datasets import open_dataset
        >>> from edgeunet.training.teacher import open_teacher
        >>> cells.write_dataset(Path("cells"), train=1, val=1, height=64, width=96)
        >>> teacher = open_teacher("unet:cells", open_dataset("cells"), InputSpec(64, 96))
        >>> teacher.answer(torch.zeros(2, 3, 64, 96)).logits.shape
        torch.Size([2, 3, 64, 96])
    """

    source: _Source
    student: InputSpec
    order: tuple[int, ...]
    zoom: tuple[float, float]

    @property
    def record(self) -> dict[str, str]:
        """What a card and a run keep of it."""
        return {"name": self.source.name, "sha256": self.source.sha256}

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Size at which the teacher sees crops of the given size.

        Raises:
            CheckpointError: a graph of another size; names the crop that it takes.
        """
        source, sides = self.source, (height, width)
        wanted = [side * zoom for side, zoom in zip(sides, self.zoom, strict=True)]
        if source.step:
            rows, columns = (max(1, round(side / source.step)) * source.step for side in wanted)
            return rows, columns
        fixed = (source.spec.height, source.spec.width)
        if any(abs(side - of) > 0.5 for side, of in zip(wanted, fixed, strict=True)):
            crop = "x".join(f"{side / zoom:g}" for side, zoom in zip(fixed, self.zoom, strict=True))
            raise CheckpointError(
                f"the graph of {source.name} takes crops of {crop} only, got {height}x{width}. "
                f"Pass --crop {crop}, or a checkpoint as --teacher."
            )
        return fixed

    @torch.no_grad()
    def answer(self, images: Tensor, *, margin: int = 0) -> Answer:
        """Answer for crops as the student sees them.

        Args:
            images: (N, C, H, W), normalised for the student.
            margin: pixels on every side that the student's logits do not cover.

        Returns:
            Logits at the size of the crops without the margin.
        """
        size = (images.shape[2], images.shape[3])
        logits, presence = self.source.infer(self._seen(images, self.size_for(*size)))
        logits = logits.float()[:, self.order]
        if logits.shape[2:] != size:
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        if margin:
            logits = logits[..., margin:-margin, margin:-margin]
        return Answer(logits, None if presence is None else presence[:, self.order])

    def _seen(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Crops in the teacher's normalisation and size."""
        ours, theirs = self.student, self.source.spec
        if (ours.mean, ours.std) != (theirs.mean, theirs.std):
            mean, std, new_mean, new_std = (
                images.new_tensor(values).view(1, -1, 1, 1)
                for values in (ours.mean, ours.std, theirs.mean, theirs.std)
            )
            images = (images * std + mean - new_mean) / new_std
        if images.shape[2:] == size:
            return images
        return functional.interpolate(
            images, size=size, mode="bilinear", align_corners=False, antialias=True
        )


def taught_loss(output: NetOutput, answer: Answer, *, temperature: float) -> Tensor:
    """How far a net is from its teacher's answers, for all crops, with labels or without.

    The one answer teaches every head, as the labels do and as in Zhang et al., "Be Your Own
    Teacher", ICCV 2019 (arXiv 1905.08094): a shallow head may be the one that is kept.
    """
    heads, scores = output
    losses = [distillation(head, answer.logits, temperature=temperature) for head in heads]
    loss = torch.stack(losses).mean()
    if scores is None or answer.presence is None:
        return loss
    return loss + presence_distillation(scores, answer.presence, temperature=temperature)


def open_teacher(
    where: str | Path, dataset: Dataset, spec: InputSpec, *, device: str = "cpu"
) -> Teacher:
    """Open a teacher, and compare it with the net that it is to teach.

    The teacher may have another input size, mean and deviation, and another order of the classes.

    Args:
        where: `MODEL:TAG` of the package's weights, a checkpoint with a card, the directory of a
            run, or a bundle. A bundle of one of our nets is taken by its checkpoint, others by
            their FP32 graph.
        dataset: of the student. spec: its input. device: of PyTorch.

    Raises:
        CheckpointError: no card; other classes, channels, levels or statistics; another way to
            bring frames to the input; or a graph that gives no logits. BundleError: a damaged
            bundle. UnknownNameError: no such tag.
    """
    source = _open(where, torch.device(device))
    theirs, ours = source.spec, spec
    for what, their, our in (
        ("classes", sorted(source.classes), sorted(dataset.classes)),
        ("channels", theirs.channels, ours.channels),
        ("levels", theirs.levels, ours.levels),
        ("statistics", theirs.statistics, ours.statistics),
    ):
        if their != our:
            raise _other(source, what, _shown(their), _shown(our))
    order = tuple(source.classes.index(name) for name in dataset.classes)
    return Teacher(source, spec, order, _zoom(source, spec))


def _zoom(source: _Source, ours: InputSpec) -> tuple[float, float]:
    """How much larger objects are for the teacher than for the student, in rows and columns."""
    theirs = source.spec
    ways = [
        "windows of the frame"
        if spec.window
        else "padded frames"
        if spec.pads
        else "stretched ones"
        for spec in (theirs, ours)
    ]
    if ways[0] != ways[1]:
        raise _other(source, "frames", *ways)
    if theirs.window is not None:
        return 1.0, 1.0
    rows, columns = theirs.height / ours.height, theirs.width / ours.width
    if ours.pads and not math.isclose(rows, columns, rel_tol=_ASPECT):
        sizes = [f"{spec.height}x{spec.width}" for spec in (theirs, ours)]
        raise _other(source, "proportions of padded frames", *sizes)
    return rows, columns


def _other(source: _Source, what: str, theirs: str, ours: str) -> CheckpointError:
    return CheckpointError(
        f"the teacher {source.name} has other {what}: {theirs}; expected {ours}, as the net that "
        "it is to teach. Train that net with the teacher's, or pass another --teacher."
    )


def _shown(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(printable(each) for each in value)
    return "none" if value is None else printable(value)


# What a teacher may be


def _open(where: str | Path, device: torch.device) -> _Source:
    path = weights_file(Path(where))
    if path.is_dir():
        return _of_bundle(open_bundle(path), device)
    model, _, tag = str(where).partition(":")
    tagged = isinstance(where, str) and model in VARIANTS and bool(tag)
    if not has_card(tag if tagged else path, model if tagged else None):
        raise CheckpointError(
            f"{printable(where)} is no teacher: expected MODEL:TAG such as mobile_unet:cells, a "
            "checkpoint with its card beside it, or a bundle. Export weights without a card to a "
            "bundle first."
            if path.exists()
            else f"{printable(where)} does not exist; expected MODEL:TAG such as "
            "mobile_unet:cells, a checkpoint, or a bundle as --teacher."
        )
    opened = Checkpoint.open(tag, model) if tagged else Checkpoint.open(path)
    name = where if tagged else run_of(path) or path.name
    return _of_checkpoint(opened, printable(name), device)


def _of_checkpoint(opened: Checkpoint, name: str, device: torch.device) -> _Source:
    net = opened.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Source(
        name,
        sha256(opened.path),
        opened.card.classes,
        opened.card.input,
        data_of(lineage(opened)),
        net.predict,
        net.size_multiple,
    )


def _of_bundle(bundle: Bundle, device: torch.device) -> _Source:
    """A bundle by what it keeps to be compared with: the checkpoint, or the FP32 graph."""
    manifest = bundle.manifest
    name, digest = printable(bundle.root.absolute().name), sha256(bundle.root / MANIFEST_NAME)
    if manifest.reference == "checkpoint":
        opened = Checkpoint.open(bundle.root / CHECKPOINT_NAME)
        source = _of_checkpoint(opened, name, device)
        return replace(source, sha256=digest, classes=manifest.classes, spec=manifest.input)
    if device.type != "cpu":
        _log.warning(
            "the teacher %s is a graph, which answers on the CPU. Pass a checkpoint as --teacher "
            "for one that answers on %s.",
            name,
            device,
        )
    infer = _graph_of(bundle, name)
    return _Source(name, digest, manifest.classes, manifest.input, frozenset(), infer, 0)


def _graph_of(bundle: Bundle, name: str) -> Infer:
    """The FP32 graph, which computes on the CPU."""
    from ..runtime.backends.ort import OrtNet  # ONNX Runtime is needed for such bundles only

    manifest = bundle.manifest
    net = OrtNet(bundle.file(bundle.root / flavour_file("fp32")), threads=torch.get_num_threads())
    net.check(manifest, name=str(bundle.root))

    def infer(images: Tensor) -> tuple[Tensor, Tensor | None]:
        parts = images.float().contiguous().cpu().split(manifest.max_batch)  # type: ignore[no-untyped-call]
        outputs = [net.infer(part.numpy()) for part in parts]
        logits = torch.cat([torch.from_numpy(each.logits) for each in outputs])
        presences = [torch.from_numpy(p) for _, p in outputs if p is not None]
        presence = torch.cat(presences).to(images.device) if presences else None
        return logits.to(images.device), presence

    golden = bundle.golden().frames[:1]
    logits, _ = infer(torch.cat([to_input(frame, manifest.input) for frame in golden]))
    _check_logits(logits, name)
    return infer


def _check_logits(logits: Tensor, name: str) -> None:
    """CheckpointError for class ids as planes of 0 and 1, and for probabilities."""
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        raise CheckpointError(
            f"the graph of {name} gives class ids or probabilities, which add up to 1, not "
            "logits. Export the net with what is in front of them as its output."
        )
