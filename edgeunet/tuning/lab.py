"""Does what a search asks for with real nets: measures, trains and exports them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from ..bundle.bundle import open_bundle
from ..bundle.manifest import Exported, InputSpec
from ..catalogue import RUN_WEIGHTS
from ..data.datasets import Dataset
from ..data.fit import Fit, Reading
from ..errors import EdgeUNetError, first_line
from ..exporting import ExportOptions, export_bundle
from ..models import model_class
from ..models.reference import reference_mask
from ..models.summary import count
from ..runtime.frames import Frame
from ..steps import Count
from ..training.config import Progress, TrainConfig
from ..training.loop import STATISTICS_IMAGES
from ..training.recipe import input_of
from ..training.train import train
from .cost import Work
from .race import Lesson, Pace, Trained
from .search import Written
from .sketch import Sketcher, times_of
from .space import Configuration

FRAMES = 4
"""Images of the validation split that are timed."""

RUNS, TRIED = "runs", "tried"
"""Folders of a search: its trainings, and the bundles that were exported."""

_PROBE_STEPS, _PROBE_SECONDS = 3, 4.0
"""What tells the pace of a training: at least so many steps behind the first, and seconds."""


class _EnoughError(Exception):
    """Ends a training whose pace is known."""


@dataclass(frozen=True)
class NetLab:
    """A variant on a data set, in the folder of a search.

    config: of all trainings; their epochs, and the crops of smaller inputs, are the lesson's.
    layout: of the data set, as it was given. count: takes what is done of a training, of 100.
    """

    model: str
    dataset: Dataset
    output: Path
    config: TrainConfig
    layout: str | None = None
    device: str = "cpu"
    workers: int | None = None
    count: Count = lambda done, total: None

    @cached_property
    def sketcher(self) -> Sketcher:
        """Of frames of the validation split."""
        spec = self.spec
        fit = Fit(spec)
        frames: list[Frame] = []
        for sample in self.dataset.samples("val"):
            frame = fit.read(sample.image)
            if not frames or frame.shape == frames[0].shape:
                frames.append(frame)
            if len(frames) == FRAMES:
                break
        return Sketcher(self.model, self.dataset, spec, (frames * 2)[:FRAMES])

    @cached_property
    def spec(self) -> InputSpec:
        """Input of the largest net, as training gives it."""
        return input_of(self.model, self.dataset, reading=Reading())

    def work(self, configuration: Configuration) -> Work:
        """See `Meter`. All maps of a net are fractions of its input, so both grow with the area."""
        height, width = configuration.size
        square = self._square(replace(configuration, size=(0, 0)))
        areas = height * width / _side(self.model) ** 2
        return Work(areas * square.gflops, areas * square.melements)

    def _square(self, configuration: Configuration) -> Work:
        """Of a configuration, for an input of `_side`."""
        if configuration not in self._squares:
            with torch.device("meta"):  # shapes tell all
                net = self.sketcher.net(configuration)
            side, channels = _side(self.model), len(self.spec.channels)
            cost = count(net, height=side, width=side, channels=channels)
            written = _written(net, channels, side)
            self._squares[configuration] = Work(cost.gflops, written / 1e6)
        return self._squares[configuration]

    @cached_property
    def _squares(self) -> dict[Configuration, Work]:
        return {}

    def times(self, configuration: Configuration) -> dict[str, float]:
        """See `Meter`."""
        sketcher = self.sketcher
        with TemporaryDirectory(prefix="edgeunet-tune-") as folder:
            return times_of(sketcher.draw(configuration, Path(folder)), sketcher.frames)

    def pace(self, configuration: Configuration) -> Pace:
        """See `Teacher`."""
        timed: list[tuple[float, float]] = []  # time, and epochs done

        def report(progress: Progress) -> None:
            if progress.miou is None:
                timed.append((time.monotonic(), progress.done))
            seconds = timed[-1][0] - timed[0][0]
            if len(timed) > _PROBE_STEPS and seconds >= _PROBE_SECONDS:
                raise _EnoughError

        started = time.monotonic()
        # Two epochs have two steps at least, and validation comes behind both.
        with TemporaryDirectory(prefix="edgeunet-tune-") as folder, suppress(_EnoughError):
            self._train(Lesson(configuration, (2,)), Path(folder), report)
        (first, before), (last, after) = timed[0], timed[-1]
        epoch = (last - first) / max(after - before, 1e-9) / 2
        return Pace(first - started + self._evaluation(configuration), epoch)

    def train(self, lesson: Lesson) -> Trained:
        """See `Teacher`."""
        folder = self.output / RUNS / lesson.run
        timed: list[tuple[float, float]] = []

        def report(progress: Progress) -> None:
            if progress.miou is None:  # validation comes behind the last step
                timed.append((time.monotonic(), progress.done))
            self.count(round(100 * progress.done), 100)

        started, state = time.monotonic(), folder / "last.pt"
        resumed = state.exists()
        miou = self._train(lesson, folder, report)
        seconds = time.monotonic() - started
        state.unlink(missing_ok=True)  # this training is done, and that is large
        checkpoint = str((folder / RUN_WEIGHTS).relative_to(self.output))
        if resumed:
            return Trained(miou, checkpoint, None)
        (first, before), (last, after) = timed[0], timed[-1]
        share = after - before
        epochs = lesson.epochs[-1]
        epoch = ((last - first) / share if share else seconds) / epochs
        return Trained(miou, checkpoint, Pace(max(0.0, seconds - epoch * epochs), epoch))

    def export(self, configuration: Configuration, checkpoint: str, precision: Exported) -> Written:
        """See `Lab`."""
        run = Path(checkpoint).parent.name
        place = self.output / TRIED / f"{configuration.key}-{run}-{precision}"
        root = self.dataset.root
        options = ExportOptions(
            self.model,
            str(self.output / checkpoint),
            precision=precision,
            calib=root,
            data=root,
            layout=self.layout,
        )
        try:
            parity = export_bundle(place, options, force=True)
        except EdgeUNetError as error:
            return Written(problem=first_line(error))
        return Written(str(place.relative_to(self.output)), parity.candidate.miou)

    def times_of(self, bundle: str) -> dict[str, float]:
        """See `Lab`."""
        return times_of(open_bundle(self.output / bundle), self.sketcher.frames, checked=True)

    def _train(self, lesson: Lesson, folder: Path, report: Callable[[Progress], None]) -> float:
        """Train in a folder; the mIoU of the validation split."""
        each = lesson.configuration
        config = replace(
            self.config,
            epochs=lesson.epochs[-1],
            seed=self.config.seed + sum(lesson.epochs[:-1]),  # other crops than before
            validate_every=lesson.epochs[-1],
            patience=None,
            crop=self._crop(each.size),
        )
        card = train(
            self.model,
            self.dataset,
            folder,
            config=config,
            size=each.size,
            initial=None if lesson.start is None else self.output / lesson.start,
            device=self.device,
            workers=self.workers,
            report=report,
            **each.arguments,
        )
        miou: float = card.metrics["miou"]
        return miou

    def _crop(self, size: tuple[int, int]) -> tuple[int, int]:
        """The crops of a smaller input, as far as they fit into it, in multiples that nets take."""
        multiple = model_class(self.model).size_multiple
        height, width = (
            min(side, whole // multiple * multiple)
            for side, whole in zip(self.config.crop, size, strict=True)
        )
        return height, width

    def _evaluation(self, configuration: Configuration) -> float:
        """Seconds that batch statistics and validation take, from a few images."""
        sketcher = self.sketcher
        net, spec = sketcher.net(configuration), sketcher.input_of(configuration)
        images = len(self.dataset.samples("val"))
        images += min(STATISTICS_IMAGES, len(self.dataset.samples("train")))
        seconds = []
        for frame in sketcher.frames[:3]:
            started = time.monotonic()
            reference_mask(net, frame, spec)
            seconds.append(time.monotonic() - started)
        return images * min(seconds)


def _side(model: str) -> int:
    """Of a square input that any net of a variant takes."""
    return 4 * model_class(model).size_multiple


def _written(net: nn.Module, channels: int, side: int) -> int:
    """Values that the convolutions of a net on "meta" write for one square image."""
    written = 0

    def add(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal written
        written += output.numel()

    for each in net.modules():
        if isinstance(each, (nn.Conv2d, nn.ConvTranspose2d)):
            each.register_forward_hook(add)
    with torch.inference_mode():
        net(torch.empty(1, channels, side, side, device="meta"))
    return written
