"""Progress, heartbeat and Ctrl-C during a build."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.gpu.engine.progress import ShareOfPhases
from support.engine_builds import MACHINE, Install, build
from support.small_bundle import names, start, write_bundle

TWICE = """
number = int(sys.argv[2])
def press(step):
    signal.raise_signal(number)
    print("once", flush=True)
    signal.raise_signal(number)
    print("twice", flush=True)
trt.scenario.before_step = press
build_bundle_engine(sys.argv[1])
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_versions_with_a_progress_monitor_report_progress(bundle: Path, install: Install) -> None:
    install("10.3.0")
    told: list[float] = []
    build(bundle, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1.0


def test_version_without_a_progress_monitor_has_a_heartbeat(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.gpu.engine.progress.HEARTBEAT_SECONDS", 0.01)
    trt, beat = install("8.6.0"), threading.Event()
    trt.scenario.before_step = lambda step: beat.wait(60)

    def report(step: str) -> None:
        if re.fullmatch(r"still building after \d+ s", step):
            beat.set()

    assert build(bundle, report=report).built
    assert beat.is_set()
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_without_a_progress_monitor_stops_at_the_end_and_says_so(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.gpu.engine.progress.HEARTBEAT_SECONDS", 0.01)
    trt, told = install("8.6.0"), threading.Event()

    def press(step: int) -> None:
        if step == 0:
            signal.raise_signal(signal.SIGINT)
            assert told.wait(60)

    def report(step: str) -> None:
        if "interrupted" in step and "press Ctrl-C again" in step:
            told.set()

    trt.scenario.before_step = press
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, report=report)
    assert names(bundle / "engines") == []
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_with_a_progress_monitor_stops_at_the_next_step(
    bundle: Path, install: Install, number: signal.Signals
) -> None:
    trt, steps = install("11.4.0"), list[int]()

    def press(step: int) -> None:
        steps.append(step)
        if step == 0:
            signal.raise_signal(number)

    trt.scenario.before_step = press
    with pytest.raises(KeyboardInterrupt):
        build(bundle)
    assert steps == [0]
    assert names(bundle / "engines") == []


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process(bundle: Path, number: signal.Signals) -> None:
    process = start(MACHINE + TWICE, bundle, int(number))
    assert process.communicate(timeout=60) == ("once\n", "")
    assert process.returncode == -number
    assert names(bundle / "engines") == []


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 2**32))
def test_share_of_nested_phases_rises_from_0_to_1(steps: list[int], seed: int) -> None:
    share = ShareOfPhases()
    told: list[float] = []

    def play(depth: int) -> None:
        name, parent = f"phase {depth}", f"phase {depth - 1}" if depth else None
        share.start(name, parent, steps[depth])
        for index in range(steps[depth]):
            if depth + 1 < len(steps) and (seed >> index) & 1:
                play(depth + 1)
            told.append(share.step(name, index))
        share.finish(name)

    play(0)
    assert told == sorted(told)
    assert told[0] > 0 and told[-1] == 1.0
