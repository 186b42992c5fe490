"""Trains the weights of a net under the rounding of its INT8 graph."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.card import Card
from edgeunet.data.datasets import is_dataset, open_dataset
from edgeunet.data.fit import Fit, Reading
from edgeunet.errors import CheckpointError, TrainingError, UsageError, printable
from edgeunet.files import sha256, write_bytes
from edgeunet.models.weight_files import read_weight_file
from edgeunet.steps import Count
from edgeunet.training.augment import Augmentation
from edgeunet.training.crops import cut
from edgeunet.training.losses.distillation import distillation, presence_distillation
from edgeunet.training.optimizer import warmup_cosine
from edgeunet.training.photometry import PHOTOMETRY

from ..graphs.passes.graph import load
from ..graphs.torch_module import TorchGraph
from .fake_quantized import REMEDY, FakeQuantized, write_weights
from .quantize import quantize_for_tensorrt
from .shared_ranges import share_ranges

PLAIN = Reading()
BATCH = 8
"""Crops in a training step; as many as there are, if they are fewer."""

LEARNING_RATE = 1e-3
"""Highest step of a weight, as a share of how large the weights beside it are."""

_RANGE = 20.0  # times the share of a weight is the share by which a range may change in a step
_WARMUP = 0.1  # share of the steps
_LARGEST = 1.0  # norm of the gradients
_ZOOMS = (0.8, 1.25)  # less than in training: ranges were calibrated on frames as they come
_LIGHT = PHOTOMETRY["mild"]


@dataclass(eq=False)
class ImageCrops(TorchDataset[Tensor]):
    """One random crop (C, h, w) of each image, of the net's size and as it takes them.

    A crop depends on `epoch` and its index alone, so that a resumed training sees the same crops.
    """

    files: Sequence[Path]
    fit: Fit
    epoch: int = 0

    @classmethod
    def of_dataset(
        cls, data: Path, card: Card, *, reading: Reading = PLAIN, layout: str | None = None
    ) -> ImageCrops:
        """Those of a data set's train split.

        Args:
            card: of the net. reading, layout: see `open_dataset` and `Reading`.

        Raises:
            UsageError: no data set. DatasetError: other classes, or no train split.
        """
        if not is_dataset(data, layout):
            raise UsageError(
                f"{printable(data)} is no data set. INT8 is trained on the train split of one and "
                f"measured on its val split. {REMEDY}"
            )
        dataset = open_dataset(data, layout)
        dataset.check_classes(card.classes, "the net has")
        files = [sample.image for sample in dataset.samples("train")]
        return cls(files, Fit(card.input, reading))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        rng, spec = np.random.default_rng((self.epoch, index)), self.fit.spec
        image = self.fit.read(self.files[index])
        augment = Augmentation((spec.height, spec.width), scale=_ZOOMS)
        warp = augment.warp(spec.fitted_size(*image.shape[:2]), rng)
        light = _LIGHT.draw((*augment.size, len(spec.channels)), rng, spec.levels)
        return cut(image, warp, light, spec=spec)


def check_trainable(reference: Path) -> None:
    """Compute a graph once in PyTorch; ExportError if it holds what that cannot compute here."""
    model = onnx.load(reference)
    _, *sides = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim)
    with torch.no_grad():
        TorchGraph(model, remedy=REMEDY)(torch.zeros(1, *sides))


@dataclass
class Int8Training:
    """Trains the weights of a reference graph for its INT8 form.

    The net learns to give what the reference graph gives, so labels do not count and the promised
    agreement is what improves: Mishra & Marr, "Apprentice" (ICLR 2018, arXiv 1711.05852), scheme C.
    Ranges learn too, so that the graphs for all readers follow from a table as before.

    The steps take turns between the levels of TensorRT's graph and those of the others. Trained for
    the coarser ones of TensorRT alone, nets lost more than before in the others.

    Args:
        reference: graph of FP32. table: its calibration. crops: what it is trained on.

    losses: of all steps so far, in nats a pixel.
    """

    reference: Path
    table: CalibrationTable
    crops: ImageCrops
    losses: list[float] = field(default_factory=list, init=False)

    def run(
        self,
        path: Path,
        *,
        epochs: int,
        state: Path | None = None,
        count: Count = lambda done, total: None,
    ) -> CalibrationTable:
        """Write the reference graph with trained weights; returns the table of that graph.

        Args:
            epochs: passes over the crops.
            state: file that is written after each epoch. If it is there, the training resumes from
                it and ends with bit-identical weights.
            count: called with the number of steps done, and of all.

        Raises:
            TrainingError: a loss that is not finite. CheckpointError: a damaged state, or that of
                another training.
        """
        size = min(BATCH, len(self.crops))
        net = self._net(size)
        # Not on ONNX Runtime: the threads of both would wait for work on each other's cores.
        teacher = TorchGraph(onnx.load(self.reference), batch=size, remedy=REMEDY)
        order = torch.Generator()
        loader = DataLoader(
            self.crops, batch_size=size, shuffle=True, drop_last=True, generator=order
        )
        total = epochs * len(loader)
        optimizer = RelativeAdam(net, learning_rate=LEARNING_RATE)
        schedule = warmup_cosine(optimizer, warmup=max(1, round(_WARMUP * total)), total=total)
        parts: dict[str, Any] = {"net": net, "optimizer": optimizer, "schedule": schedule}
        held = None if state is None else read_state(state, **self._inputs(epochs))
        if held is not None:
            for name, part in parts.items():
                part.load_state_dict(held[name])
            self.losses = held["losses"]
        for epoch in range(len(self.losses) // len(loader), epochs):
            self.crops.epoch = epoch
            order.manual_seed(epoch)
            for images in loader:
                done = len(self.losses)
                net.unsigned = bool(done % 2)
                loss = _loss(net, teacher, images)
                if not torch.isfinite(loss):
                    raise TrainingError(
                        f"the loss is {loss.item()} after {done} of {total} steps in INT8. {REMEDY}"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(net.parameters(), _LARGEST)
                optimizer.step()
                net.bound_ranges()
                schedule.step()
                self.losses.append(loss.item())
                count(done + 1, total)
            if state is not None:
                saved = {name: part.state_dict() for name, part in parts.items()}
                buffer = io.BytesIO()
                of, done = self._inputs(epochs), epoch + 1
                torch.save({**saved, "losses": self.losses, "of": of, "epoch": done}, buffer)
                write_bytes(state, buffer.getvalue())
        write_weights(self.reference, path, net.weights())
        shared = share_ranges(load(self.reference), self.table.ranges, keep_clamps=False)
        return replace(
            self.table,
            graph=sha256(path),
            ranges=net.learned(self.table.ranges, shared),
            source=f"{self.table.source}, narrowed in training",
        )

    def _net(self, size: int) -> FakeQuantized:
        """The INT8 graph, as it is calibrated."""
        with tempfile.TemporaryDirectory(prefix="edgeunet-") as scratch:
            signed = Path(scratch) / "int8.onnx"
            quantize_for_tensorrt(self.reference, signed, self.table)
            ranges = share_ranges(load(self.reference), self.table.ranges, keep_clamps=True)
            return FakeQuantized(onnx.load(signed), batch=size, ranges=ranges)

    def _inputs(self, epochs: int) -> dict[str, Any]:
        """What a state and the training that resumes from it must have in common."""
        ranges = json.dumps(self.table.ranges, sort_keys=True).encode()
        return {
            **known_inputs(self.crops, epochs),
            "weights": sha256(self.reference),
            "calibration": hashlib.sha256(ranges).hexdigest(),
        }


def known_inputs(crops: ImageCrops, epochs: int) -> dict[str, Any]:
    """Of `_inputs`, what is known before a net is traced and calibrated."""
    return {"images": [f"{file} {file.stat().st_size}" for file in crops.files], "epochs": epochs}


def read_state(path: Path, **inputs: Any) -> Mapping[str, Any] | None:
    """The state of a training that had these inputs; None if there is none to resume.

    A training with other inputs that has ended is none: its graphs lost too much, or they would
    have been written, and the next attempt differs.

    Raises:
        CheckpointError: a damaged file, or the state of an unfinished training with other inputs,
            by name.
    """
    if not path.exists():
        return None
    held = read_weight_file(path)
    if lacking := sorted({"net", "optimizer", "schedule", "losses", "of", "epoch"} - held.keys()):
        raise CheckpointError(f"{path} lacks {', '.join(lacking)}. Remove it to train anew.")
    other = [name for name, value in inputs.items() if held["of"].get(name) != value]
    if other and held["epoch"] == held["of"].get("epochs"):
        return None
    if other:
        raise CheckpointError(
            f"{path} is of a training in INT8 with other {' and '.join(other)}. Export with the "
            "same options to resume it, or remove the file to train anew."
        )
    return held


def _loss(net: FakeQuantized, teacher: TorchGraph, images: Tensor) -> Tensor:
    """How much a batch's answers differ from the teacher's."""
    with torch.no_grad():
        taught = teacher(images)
    found = net(images)
    loss = distillation(found["logits"], taught["logits"], temperature=1.0)
    if "presence" in taught:
        loss = loss + presence_distillation(found["presence"], taught["presence"], temperature=1.0)
    return loss


class RelativeAdam(torch.optim.Adam):
    """Adam whose steps are shares of how large the weights are, by output and by input channel.

    Folded batch normalisation leaves channels that differ by orders of magnitude, and Adam's steps
    have one size. Shares as by Shazeer & Stern, "Adafactor" (ICML 2018, arXiv 1804.04235), section
    8, but of channels: training does not change if a net is rescaled from channel to channel.
    """

    def __init__(self, net: nn.Module, *, learning_rate: float) -> None:
        self._weights = list(net.parameters())
        self._sizes = [_size(weight.detach()) for weight in self._weights]
        super().__init__(self._weights, lr=learning_rate, eps=1e-16)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the weights."""
        before = [weight.clone() for weight in self._weights]
        super().step()
        for weight, old, size in zip(self._weights, before, self._sizes, strict=True):
            weight.sub_(old).mul_(size).add_(old)


def _size(weight: Tensor) -> Tensor:
    """Typical size of each weight: root mean squares by output and input channel, multiplied.

    A bias has its own. The logarithm of a range has none: its steps are shares by themselves.
    """
    if not weight.ndim:
        return torch.full_like(weight, _RANGE)
    if weight.ndim < 2:
        return weight.abs()
    inner = list(range(2, weight.ndim))
    rows = weight.square().mean([1, *inner], keepdim=True).sqrt().clamp_min(1e-30)
    columns = (weight / rows).square().mean([0, *inner], keepdim=True).sqrt()
    return rows * columns
