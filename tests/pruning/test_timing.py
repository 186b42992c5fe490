"""Nets on the engines of this machine: which ones there are, and how two nets compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.errors import BackendError, CalibrationError
from edgeunet.models import SegmentationNet, create_model
from edgeunet.pruning import timing
from edgeunet.pruning.timing import REFERENCE, Timer, engines_here, fastest_engine, ratio_of
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.preprocess import Preprocessor

SPEC = InputSpec(64, 96)
FRAME = next(iter(snapshots(1, height=64, width=96, seed=1))).image


def net(width: int, **arguments: Any) -> SegmentationNet:
    torch.manual_seed(0)
    return create_model("unetpp", num_classes=3, width=width, depth=1, **arguments).eval()


def test_engines_are_those_of_the_cpu() -> None:
    found = engines_here()
    assert found[0].precision == "fp32"
    assert {REFERENCE, Candidate("onnxruntime", "int8")} <= set(found)
    assert all(each.provider is None and each.precision != "fp16" for each in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("engine", engines_here(), ids=lambda engine: engine.label)
def test_wide_net_takes_longer_than_a_narrow_one(engine: Candidate) -> None:
    with Timer(engine, SPEC, FRAME).against(net(64)) as share:
        assert share(net(8)) < 0.6


@pytest.mark.parametrize("engine", engines_here(), ids=lambda engine: engine.label)
def test_call_runs_the_net_on_a_frame_in_the_engines_precision(engine: Candidate) -> None:
    """What is rounded shows in the logits, which are close to the net's all the same."""
    gated = net(8, cgm=True)
    image = torch.from_numpy(Preprocessor(SPEC)([FRAME]))
    with torch.inference_mode():
        wanted = [each.numpy() for each in gated.predict(image) if each is not None]
    with Timer(engine, SPEC, FRAME).opened(gated) as call:
        found = call()
    assert isinstance(found, list)
    assert [each.shape for each in found] == [each.shape for each in wanted]
    error = np.abs(found[0] - wanted[0]).max() / np.abs(wanted[0]).max()
    low, high = {"fp32": (0.0, 1e-4), "bf16": (1e-4, 0.1), "int8": (1e-4, 0.3)}[engine.precision]
    assert low <= error < high


def test_fastest_engine_is_one_of_them_and_one_that_fails_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.1)
    broken = Candidate("onnxruntime", "int8")
    monkeypatch.setattr(timing, "engines_here", lambda: [REFERENCE, broken])

    def refuse(*given: Any, **more: Any) -> None:
        raise CalibrationError("activation x is not finite.")

    monkeypatch.setattr(timing, "observe", refuse)
    said: list[str] = []
    assert fastest_engine(net(8), SPEC, FRAME, report=said.append) == REFERENCE
    assert said == ["onnxruntime INT8: activation x is not finite."]
    monkeypatch.setattr(timing, "engines_here", lambda: [broken])
    with pytest.raises(BackendError, match=r"nothing here can run .*: onnxruntime INT8: .*finite"):
        fastest_engine(net(8), SPEC, FRAME)


def test_fastest_engine_is_the_one_whose_calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Candidate("openvino", "fp32")
    monkeypatch.setattr(timing, "engines_here", lambda: [slow, REFERENCE])

    @contextmanager
    def opened(timer: Timer, net: SegmentationNet) -> Iterator[Callable[[], object]]:
        yield partial(time.sleep, 0.004 if timer.engine == slow else 0.001)

    monkeypatch.setattr(Timer, "opened", opened)
    assert fastest_engine(net(8), SPEC, FRAME) == REFERENCE


def test_ratio_of_two_calls() -> None:
    assert 0.2 < ratio_of(partial(time.sleep, 0.002), partial(time.sleep, 0.006)) < 0.6
