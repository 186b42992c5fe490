"""The training loop: AMP, EMA, resume after a kill, best epoch by validation mIoU."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from ..errors import CheckpointError, UsageError
from ..files import write_bytes
from ..manifest import InputSpec
from ..metrics import Mask, Scores, dice_per_class, iou_per_class, mean_iou
from ..models import SegmentationNet, create_model
from ..models.checkpoints import Card, load_weights, read_card, read_tensors, save_checkpoint
from ..models.structure import Structure, resize
from .augment import Augmentation
from .crops import Crops
from .data import Dataset, Image, read_image
from .evaluate import confusion_on, reference_mask, to_input
from .losses import cross_entropy_dice, gate_loss

_Tensors = tuple[Tensor, ...] | list[Tensor]

STATISTICS_IMAGES = 96
"""Training images that the batch statistics are taken from."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `crop` is (height, width) of the training crops, in pixels.

    scale: smallest and largest zoom of a crop. warmup: share of the steps with a rising learning
    rate; a cosine to 0 follows. ema: decay of the weights' moving average, which is what is
    validated and saved. validate_every: in epochs.
    """

    crop: tuple[int, int] = (192, 256)
    scale: tuple[float, float] = (0.5, 1.6)
    epochs: int = 100
    batch_size: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.995
    amp: bool = True
    seed: int = 0
    validate_every: int = 5

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or self.learning_rate <= 0 or not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(
                f"crop is {self.crop[0]}x{self.crop[1]}, the learning rate {self.learning_rate:g}, "
                f"the scale {self.scale[0]:g} to {self.scale[1]:g}; all must be positive, and the "
                "smaller scale must come first."
            )


@dataclass(frozen=True)
class Progress:
    """News of a step: share of the run that is done, epoch, mean loss of the epoch so far.

    `miou` is in percent, set where the epoch was validated.
    """

    done: float
    epoch: int
    loss: float
    miou: float | None = None


class Trainer:
    """Trains one net on one data set; files as `train` says."""

    def __init__(
        self,
        model: str,
        dataset: Dataset,
        output: Path,
        *,
        spec: InputSpec,
        config: TrainConfig,
        structure: Structure | None = None,
        **arguments: Any,
    ) -> None:
        torch.manual_seed(config.seed)
        classes = len(dataset.classes)
        self.model_name = model
        self.arguments = {"num_classes": classes, "in_channels": spec.channels, **arguments}
        self.dataset, self.output, self.spec, self.config = dataset, output, spec, config
        self.net = create_model(model, **self.arguments)
        self.structure = None if structure is None else dict(structure)  # of a pruned net
        if structure is not None:
            resize(self.net, structure, source="the structure to train")
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.net, multi_avg_fn=_warm_ema(config.ema))
        self.crops = Crops(
            dataset.samples("train"),
            spec,
            num_classes=classes,
            augment=Augmentation(config.crop, scale=config.scale),
        )
        self.steps = max(1, len(self.crops) // config.batch_size)
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(), lr=config.learning_rate, fused=True
        )
        total = config.epochs * self.steps
        warmup = max(1, round(config.warmup * total))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / total)),
        )
        self.epoch, self.best, self.seconds = 0, -1.0, 0.0
        self.initial: dict[str, Any] | None = None  # how the weights it starts from were trained

    def run(self, report: Callable[[Progress], None] = lambda news: None) -> Card:
        """Train to the last epoch and return the best epoch's card."""
        while self.epoch < self.config.epochs:
            started = time.monotonic()
            loss = self._train_epoch(report)
            self.epoch += 1
            miou = None
            if self.epoch % self.config.validate_every == 0 or self.epoch == self.config.epochs:
                miou = self._validate(self.seconds + time.monotonic() - started)
            self.seconds += time.monotonic() - started
            self._save_state()
            self._log(loss, miou)
            report(Progress(self.epoch / self.config.epochs, self.epoch, loss, miou))
        return read_card(self.output / "best.safetensors")

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of a checkpoint; CheckpointError where they do not fit."""
        for net in (self.net, self._averaged_net()):
            load_weights(net, read_tensors(checkpoint), source=str(checkpoint))
        if checkpoint.with_suffix(".json").is_file():
            self.initial = read_card(checkpoint).training

    def resume(self) -> bool:
        """Go on from `last.pt` where there is one; CheckpointError where it is of another run."""
        path = self.output / "last.pt"
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}. Remove it.") from None
        if state["run"] != self._run_id():
            raise CheckpointError(
                f"{path} belongs to another run, {state['run']}; this one is {self._run_id()}. Use "
                "the same arguments, or another output directory."
            )
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.best, self.seconds = state["epoch"], state["best"], state["seconds"]
        self.initial = state["initial"]
        return True

    def _train_epoch(self, report: Callable[[Progress], None]) -> float:
        self.net.train()
        seed = self.config.seed * 100_003 + self.epoch
        self.crops.epoch_seed = seed
        torch.manual_seed(seed)
        size = min(self.config.batch_size, len(self.crops))
        loader = DataLoader(self.crops, batch_size=size, shuffle=True, drop_last=True)
        total = 0.0
        for step, (images, masks) in enumerate(loader, start=1):
            loss = self._loss(images.contiguous(memory_format=torch.channels_last), masks)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.net)
            total += loss.item()
            done = (self.epoch + step / self.steps) / self.config.epochs
            report(Progress(done, self.epoch, total / step))
        return total / self.steps

    def _loss(self, images: Tensor, masks: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.amp):
            heads, presence = self.net.run(images)
        loss = torch.stack([cross_entropy_dice(head, masks) for head in heads]).mean()
        return loss if presence is None else loss + gate_loss(presence, masks)

    def _validate(self, seconds: float) -> float:
        """MIoU of the averaged weights, in percent; saves them where they are the best so far."""
        net = self._averaged_net()
        self._refresh_statistics(net)
        net.eval()

        def predict(image: Image) -> Mask:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.amp):
                return reference_mask(net, image, self.spec)

        confusion = confusion_on(predict, self.dataset, "val", channels=self.spec.channels)
        miou = round(100 * mean_iou(confusion), 3)
        if miou > self.best:
            self.best = miou
            metrics = {
                "miou": miou,
                "iou": _percent(iou_per_class(confusion)),
                "dice": _percent(dice_per_class(confusion)),
            }
            card = self._card(metrics, round(seconds / 60, 1))
            save_checkpoint(self.output / "best.safetensors", net, card, half=True)
        return miou

    def _averaged_net(self) -> SegmentationNet:
        return cast(SegmentationNet, self.averaged.module)

    def _refresh_statistics(self, net: SegmentationNet) -> None:
        """Batch statistics of the averaged weights on whole training images at inference size.

        Those of the crops belong to other weights and another size. Izmailov et al., UAI 2018
        (arXiv 1803.05407), section 3.2.
        """
        samples = self.crops.samples[:: max(1, len(self.crops) // STATISTICS_IMAGES)]
        images = (read_image(s.image, channels=self.spec.channels) for s in samples)
        inputs: DataLoader[Tensor] = DataLoader(
            [to_input(image, self.spec)[0] for image in images],  # type: ignore[arg-type]
            batch_size=min(self.config.batch_size, len(samples)),
            drop_last=True,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.amp):
            update_bn(inputs, net)

    def _card(self, metrics: dict[str, Any], minutes: float) -> Card:
        return Card(
            model=self.model_name,
            arguments=self.arguments,
            classes=self.dataset.classes,
            palette=self.dataset.palette,
            input=self.spec,
            data=self.dataset.name,
            metrics=metrics,
            training={
                **asdict(self.config),
                "best_epoch": self.epoch,
                "minutes": minutes,
                "initial": self.initial,
            },
            structure=self.structure,
        )

    def _parameter_groups(self) -> list[dict[str, object]]:
        # Weight decay is for the kernels: it hurts norms and biases, which are one-dimensional.
        parameters = list(self.net.parameters())
        decay = self.config.weight_decay
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def _run_id(self) -> str:
        """What must agree between a state and the run that takes it up."""
        run = {
            "model": self.model_name,
            "arguments": self.arguments,
            "data": self.dataset.name,
            "input": asdict(self.spec),
            **asdict(self.config),
            **({} if self.structure is None else {"structure": self.structure}),
        }
        return json.dumps(run, sort_keys=True)

    def _save_state(self) -> None:
        state = {
            "run": self._run_id(),
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "seconds": self.seconds,
            "initial": self.initial,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.output / "last.pt", buffer.getvalue())

    def _log(self, loss: float, miou: float | None) -> None:
        minutes = round(self.seconds / 60, 2)
        entry = {"epoch": self.epoch, "loss": round(loss, 5), "miou": miou, "minutes": minutes}
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _warm_ema(
    decay: float,
) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential moving average whose decay grows to `decay`.

    With a fixed decay the first, random weights linger for hundreds of steps.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        step = float(count)
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, weight)

    return update


def _percent(scores: Scores) -> list[float | None]:
    return [None if np.isnan(score) else round(100 * float(score), 2) for score in scores]
