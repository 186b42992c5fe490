"""Engines with made-up speed, masks and failures, for what `auto` chooses from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, EdgeUNetError
from edgeunet.latency import Race
from edgeunet.runtime.backends import choice as choice_module
from edgeunet.runtime.backends import fallback as fallback_module
from edgeunet.runtime.backends import measuring as measuring_module
from edgeunet.runtime.backends.base import Net, NetBackend
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.frames import Batch, NetOutputs
from edgeunet.runtime.options import DEFAULTS, LoadOptions


@dataclass
class Engine:
    """A candidate. seconds: of a call. wrong: share of wrong mask pixels. error: of its opening."""

    candidate: Candidate
    seconds: float
    wrong: float = 0.0
    error: EdgeUNetError | None = None


@dataclass
class Machine:
    """Made-up engines and their clock. opened: labels of those that were opened, in order."""

    engines: Sequence[Engine]
    now: float = 0.0
    opened: list[str] = field(default_factory=list)

    def create(self, name: str, bundle: Bundle, options: LoadOptions = DEFAULTS) -> EngineBackend:
        precision = bundle.manifest.precision
        label = Candidate(name, precision).label
        (engine,) = (each for each in self.engines if each.candidate.label == label)
        self.opened.append(label)
        if engine.error is not None:
            raise engine.error
        return EngineBackend(bundle, engine, self)

    def spend(self, seconds: float) -> None:
        self.now += seconds


class EngineBackend(NetBackend):
    """Gives the golden masks, as far as its engine is right."""

    def __init__(self, bundle: Bundle, engine: Engine, machine: Machine) -> None:
        super().__init__(bundle, _Zeros(bundle), name=engine.candidate.backend)
        self.engine, self._machine = engine, machine

    def segment(self, batch: Batch) -> Batch:
        (run,) = batch.runs
        masks = self.bundle.golden().masks.copy()
        rows = masks.reshape(-1)
        rows[: round(self.engine.wrong * rows.size)] = 200
        run.masks = masks[[frame.index for frame in batch.frames]]
        return batch

    def net_alone(self, batch: Batch) -> Callable[[], object]:
        return partial(self._machine.spend, self.engine.seconds)


class _Zeros(Net):
    def __init__(self, bundle: Bundle) -> None:
        self._shape = len(bundle.manifest.classes), *bundle.manifest.logits_size

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return NetOutputs(np.zeros((len(images), *self._shape), np.float32), None)


def machine_of(patch: pytest.MonkeyPatch, *engines: Engine) -> Machine:
    """Let `auto` find these engines, time them by their own clock, and open them."""
    machine = Machine(engines)
    found = [each.candidate for each in engines]
    patch.delenv("EDGEUNET_MEASURE", raising=False)
    patch.setattr(
        choice_module,
        "candidates",
        lambda bundle, options: [
            each for each in found if options.precision in (None, each.precision)
        ],
    )
    patch.setattr(measuring_module, "Race", partial(Race, clock=lambda: machine.now))
    patch.setattr(measuring_module, "create_backend", machine.create)
    patch.setattr(fallback_module, "create_backend", machine.create)
    return machine


def broken(text: str = "its library cannot be loaded.") -> BackendError:
    """What an engine raises that is installed and does not work."""
    return BackendError(text)
