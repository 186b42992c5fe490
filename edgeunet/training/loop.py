"""The training loop: AMP, EMA, resuming, and the best epoch by validation mIoU."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..bundle.manifest import InputSpec
from ..catalogue import RUN_WEIGHTS
from ..data.check import Contents, check_dataset
from ..data.datasets import Dataset
from ..data.fit import Fit, Frame
from ..errors import TrainingError
from ..gate.calibrate import calibrate_checkpoint
from ..metrics import Mask
from ..models import Card, Checkpoint, SegmentationNet, create_model, save_checkpoint
from ..models.checkpoints import read_card
from ..models.lineage import lineage, saw_val, tell_of_val
from ..models.reference import evaluate_on, reference_mask, to_input
from ..models.structure import Structure, resize
from .config import Clock, Progress, TrainConfig
from .crops import crops_for
from .feed import Plan, Step, open_feed
from .group import ALONE, Group
from .history import Epoch, History
from .losses import LOSSES, Target, gate_loss
from .optimizer import Average, adamw, refresh_statistics, warmup_cosine
from .precision import mixed_precision
from .start import load_encoder_file, load_start, training_format
from .state import StateFile
from .teacher import Teacher, taught_loss
from .transfer import one_late
from .unlabelled import Unlabelled, UnlabelledCrops

_log = logging.getLogger(__name__)

STATISTICS_IMAGES = 96
"""Training images that the batch statistics are taken from."""

# A state holds the state_dict of the ones, and the others as they are.
_MODULES = ("net", "averaged", "optimizer", "schedule")
_VALUES = ("epoch", "found", "seconds", "initial")


class Trainer:
    """Trains one net on one data set. See `train` for the files that it writes.

    Call `resume`, `start_from` and `start_encoder_from` before `run`. contents: what is trained on.

    Args:
        contents: what `check_dataset` told of the data set, None to look. given: what else a run
            must have been given that resumes this one.
        teacher: what the net learns from beside the labels. unlabelled: frames that the teacher
            alone answers for; there must be one, and batches of two crops or more.
        group: whose processes train the same net, each on its own device.

    Raises:
        DatasetError: data that cannot be trained on, see `check_dataset`. ShapeError: crops that
            the net cannot take. CheckpointError: crops that the teacher cannot take. UsageError:
            a step whose crops the group cannot share.
    """

    def __init__(
        self,
        model: str,
        dataset: Dataset,
        output: Path,
        *,
        spec: InputSpec,
        config: TrainConfig,
        device: str = "cpu",
        workers: int | None = None,
        structure: Structure | None = None,
        teacher: Teacher | None = None,
        unlabelled: Unlabelled | None = None,
        group: Group = ALONE,
        contents: Contents | None = None,
        given: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.model_name = model
        self.arguments = {
            "num_classes": len(dataset.classes),
            "in_channels": len(spec.channels),
            **arguments,
        }
        self.dataset, self.output, self.spec, self.config = dataset, output, spec, config
        self.device, self.workers, self.group = torch.device(device), workers, group
        self.structure = None if structure is None else dict(structure)  # of a pruned net
        self.net = self._new_net()  # it and its optimizer refuse options: so before images are read
        self.memory_format = training_format(self.net, self.device)
        self.net.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.averaged = Average(self.net, decay=config.ema)
        self.optimizer = adamw(
            self.net,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            encoder_rate=config.encoder_rate,
        )
        self.fit = Fit(spec)
        self.contents = contents or check_dataset(dataset, self.fit)
        self.crops = crops_for(
            dataset, self.contents, output, spec=spec, config=config, margin=self.net.margin
        )
        self.segmentation_loss = LOSSES[config.loss]
        self.teacher = teacher
        labelled = config.batch_size - (config.unlabelled_crops if unlabelled else 0)
        self.labelled = min(labelled, len(self.crops))
        self.steps = max(1, len(self.crops) // self.labelled)  # in an epoch
        self.unlabelled = None if unlabelled is None else self._new_unlabelled(unlabelled)
        self.plan = Plan(self.crops, self.unlabelled, self.labelled, self.steps, config.mix, group)
        self.lessons: dict[str, Any] = group.record  # what a card and a state keep of all three
        if unlabelled is not None:
            self.lessons["unlabelled"] = unlabelled.record
        if teacher is not None:
            self.lessons["teacher"] = teacher.record
            teacher.size_for(*(side + 2 * self.net.margin for side in config.crop))
        total = config.epochs * self.steps
        warmup = max(1, round(config.warmup * total))
        self.schedule = warmup_cosine(self.optimizer, warmup=warmup, total=total)
        self.epoch, self.seconds = 0, 0.0
        self.history = History(config.patience)
        # Of the best epoch: "confusion" of val, and mIoU of its "images" each by itself.
        self.found: dict[str, Any] | None = None
        self.initial: dict[str, Any] | None = None  # how the initial weights were trained
        # For the card, what other nets of this recipe tell: metrics, and the gate's thresholds.
        self.judged: dict[str, Any] = {}
        self.gate: tuple[float, ...] | None = None
        self._state = StateFile(output, {**self._identity(), **(given or {})})

    def _new_net(self) -> SegmentationNet:
        torch.manual_seed(self.config.seed)
        net = create_model(self.model_name, **self.arguments)
        if self.structure is not None:
            resize(net, self.structure, source="the structure to train")
        net.check_input(*(side + 2 * net.margin for side in self.config.crop))
        net.check_size(self.spec.height, self.spec.width)
        return net

    def _new_unlabelled(self, frames: Unlabelled) -> UnlabelledCrops:
        crops, size = self.crops, self.config.unlabelled_crops
        return UnlabelledCrops(
            frames, self.spec, crops.augment, crops.photometry, size=size, steps=self.steps
        )

    # Initial weights

    def start_from(self, start: Checkpoint) -> None:
        """Start with a checkpoint's weights; CheckpointError if they do not fit."""
        load_start(self.net, start, self.dataset.classes)
        self._averaged_net().load_state_dict(self.net.state_dict())
        self.initial = lineage(start)
        if self.config.validates:
            tell_of_val(start, self.dataset.name, "So the card goes without its mIoU there.")

    def start_encoder_from(self, checkpoint: Path) -> None:
        """Start with the encoder of a published classifier; see `load_encoder`."""
        origin = load_encoder_file(self.net, checkpoint)
        self._averaged_net().load_state_dict(self.net.state_dict())
        self.initial = {"encoder": checkpoint.name, **origin}

    def resume(self) -> bool:
        """Resume from `last.pt` if it exists; CheckpointError if it belongs to another run."""
        state = self._state.read((*_MODULES, *_VALUES, "log"))
        if state is None:
            return False
        for name in _MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in _VALUES:
            setattr(self, name, state[name])
        self.history.restore(state["log"])
        self.history.write(self.output)
        return True

    # Training

    def run(
        self,
        report: Callable[[Progress], None] = lambda progress: None,
        tell: Callable[[Epoch], None] = lambda epoch: None,
    ) -> Card:
        """Train to the end, calibrate the gate, and return the card of what is kept.

        The end is the last epoch, or earlier if the mIoU of val stalls.

        Args:
            report: called after each step. tell: called after each epoch.

        Raises:
            TrainingError: the loss is no longer finite; what was saved before stays.
        """
        clock = Clock(self.epoch / self.config.epochs, len(self.crops) * self.config.epochs)
        feed = open_feed(self.plan, self.device, workers=self.workers)
        seeds = self.seeds
        for seed, steps in zip(seeds, feed.epochs(seeds), strict=True):
            if self.history.has_stalled:
                break
            started = time.monotonic()
            loss = self._train_epoch(seed, steps, clock, report)
            self.epoch += 1
            miou, last = None, self.epoch == self.config.epochs
            if self.config.validates:
                if last or self.epoch % self.config.validate_every == 0:
                    miou = self._validate(self.seconds + time.monotonic() - started)
                    miou = self.group.tell(miou, self.device)
            elif last and self.group.leads:
                self._save_last(self.seconds + time.monotonic() - started)
            self.seconds += time.monotonic() - started
            minutes = round(self.seconds / 60, 2)
            ended = Epoch(self.epoch, round(loss, 5), miou, minutes)
            self.history.epochs.append(ended)
            if self.group.leads and (miou is not None or last or self._state.is_due):
                self._save_state()
            tell(ended)
            report(clock.progress(self.epoch / self.config.epochs, self.epoch, loss, miou))
        kept = self.history.best
        if kept is not None and self.epoch < self.config.epochs:
            text = "stopped after epoch %d of %d: val's mIoU has not risen since epoch %d."
            _log.warning(text, self.epoch, self.config.epochs, kept[0])
        best = self.output / RUN_WEIGHTS
        gated = self.net.cgm is not None and self.config.validates and self.gate is None
        if gated and self.group.leads:
            # Calibrate the file, so that the thresholds fit the weights as they were rounded.
            calibrate_checkpoint(Checkpoint.open(best), self.dataset, best, force=True)
        self.group.tell(0.0, self.device)  # the files are there
        return read_card(best)

    @property
    def seeds(self) -> range:
        """Of the epochs that are left."""
        first = self.config.seed * 100_003
        return range(first + self.epoch, first + self.config.epochs)

    def _train_epoch(
        self,
        seed: int,
        steps: Iterable[Step],
        clock: Clock,
        report: Callable[[Progress], None],
    ) -> float:
        """Train for one epoch and return the mean loss."""
        self.net.train()
        torch.manual_seed(seed)
        total = 0.0
        for step, loss in enumerate(one_late(map(self.learn, steps)), start=1):
            total += self._finite(loss, step)
            done = (self.epoch + step / self.steps) / self.config.epochs
            report(clock.progress(done, self.epoch, total / step))
        return total / self.steps

    def learn(self, step: Step) -> Tensor:
        """Take a step of the optimizer, and return its loss, without waiting for a GPU."""
        images, *truth = step.batch
        if step.more is not None:
            images = torch.cat([images, step.more])
        loss = self._loss(images.contiguous(memory_format=self.memory_format), Target(*truth))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        gradients = (parameter.grad for parameter in self.net.parameters())
        self.group.average([loss, *(each for each in gradients if each is not None)])
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.net)
        return loss

    def _loss(self, images: Tensor, target: Target) -> Tensor:
        """Loss of a batch of which the first images have labels."""
        with self._autocast():
            output = self.net.run(images)
        heads, scores = output
        if len(target.ids) < len(images):
            heads = tuple(head[: len(target.ids)] for head in heads)
            scores = None if scores is None else scores[: len(target.ids)]
        loss = torch.stack([self.segmentation_loss(head, target) for head in heads]).mean()
        if scores is not None:
            loss = loss + gate_loss(scores, target)
        if self.teacher is None:
            return loss
        with self._autocast():
            answer = self.teacher.answer(images, margin=self.net.margin)
        taught = taught_loss(output, answer, temperature=self.config.temperature)
        return loss + self.config.teacher_weight * taught

    def _autocast(self) -> AbstractContextManager[None]:
        return mixed_precision(self.device, enabled=self.config.amp)

    def _finite(self, loss: float, step: int) -> float:
        if math.isfinite(loss):
            return loss
        kept = f"the state of epoch {self.epoch} is kept" if self.epoch else "nothing was saved yet"
        raise TrainingError(
            f"the loss is {loss} in step {step} of epoch {self.epoch + 1}; {kept}. Lower the "
            f"learning rate (--lr {self.config.learning_rate / 4:g}), or train without BF16 "
            "(--no-amp)."
        )

    # Validation

    def _validate(self, seconds: float) -> float:
        """MIoU of the averaged weights, in percent; saves them if they are the best so far.

        Only the first process of a group looks; the others give NaN.
        """
        if not self.group.leads:
            return math.nan
        net = self._refreshed(self._averaged_net())
        net.eval()
        found = evaluate_on(partial(self.predict, net), self.dataset, "val", fit=self.fit)
        best = self.history.best
        if best is None or found.miou > best[1]:
            self.found = {"confusion": found.confusion.tolist(), "images": list(found.images)}
            known = saw_val(self.initial, self.dataset.name)
            card = self._card({} if known else found.metrics(), round(seconds / 60, 1))
            save_checkpoint(self.output / RUN_WEIGHTS, net, card, half=True)
        return found.miou

    def predict(self, net: SegmentationNet, image: Frame) -> Mask:
        """Class ids (H, W) of an image, as validation takes them from a net."""
        with self._autocast():
            return reference_mask(net, image, self.spec)

    def _save_last(self, seconds: float) -> None:
        """Save the averaged weights of a net that is not validated."""
        net = self._refreshed(self._averaged_net())
        card = self._card({}, round(seconds / 60, 1))
        save_checkpoint(self.output / RUN_WEIGHTS, net.eval(), card, half=True)

    def _averaged_net(self) -> SegmentationNet:
        return cast(SegmentationNet, self.averaged.module)

    def _refreshed(self, net: SegmentationNet) -> SegmentationNet:
        """The averaged net, with batch statistics of whole training images.

        Frames without labels have the share that they have in training.
        """
        samples = self.crops.samples[:: max(1, len(self.crops) // STATISTICS_IMAGES)]
        files = [sample.image for sample in samples]
        if self.unlabelled is not None:
            files = self.unlabelled.among(files, labelled=self.labelled)
        images = [to_input(self.fit.read(file), self.spec)[0] for file in files]
        with self._autocast():
            refresh_statistics(net, images, batch=self.config.batch_size, device=self.device)
        return net

    def _card(self, metrics: dict[str, Any], minutes: float) -> Card:
        return Card(
            model=self.model_name,
            arguments=self.arguments,
            classes=self.dataset.classes,
            palette=self.dataset.palette,
            input=self.spec,
            data=self.dataset.name,
            metrics={**metrics, **self.judged},
            training={
                **asdict(self.config),
                "best_epoch": self.epoch,
                "minutes": minutes,
                "initial": self.initial,
                **self.lessons,
            },
            structure=self.structure,
            gate=self.gate,
        )

    # State

    def _identity(self) -> dict[str, Any]:
        """Everything that a state and the run that resumes it must have in common."""
        return {
            "model": self.model_name,
            "arguments": self.arguments,
            "data": self.dataset.name,
            "images": self.dataset.digest,
            "input": asdict(self.spec),
            **asdict(self.config),
            **({} if self.structure is None else {"structure": self.structure}),
            **self.lessons,
        }

    def _save_state(self) -> None:
        self._state.write(
            {
                **{name: getattr(self, name).state_dict() for name in _MODULES},
                **{name: getattr(self, name) for name in _VALUES},
                "log": self.history.lines,
            }
        )
        self.history.write(self.output)
