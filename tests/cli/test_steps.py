"""What a long command shows of its steps."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from edgeunet.cli.steps import ShownSteps
from support.commands import succeeds

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of steps, in its only element."""
    now = [0.0]
    monkeypatch.setattr("edgeunet.steps.time.monotonic", lambda: now[0])
    return now


def work(steps: ShownSteps, clock: list[float]) -> None:
    with steps:
        steps("trace")
        clock[0] += 12.34
        steps("distance 0.1\x1b nats")
        steps("parity")
        for done in range(3):
            steps.count(done + 1, 3)
        clock[0] += 1


def test_each_step_is_a_line_with_its_time(clock: list[float], capsys: Captured) -> None:
    work(ShownSteps(), clock)
    assert capsys.readouterr() == (
        "",
        "    12.3 s  trace\n            distance 0.1\\x1b nats\n     1.0 s  parity\n",
    )


def test_a_terminal_shows_the_step_under_way_and_how_far_it_is(
    clock: list[float], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    work(ShownSteps(), clock)
    shown = capsys.readouterr().err
    before, after = shown.split("    12.3 s  trace\n")
    assert "trace …" in before
    assert "3/3" in after and "parity  [" in after
    assert "\x1b nats" not in shown
    assert shown.splitlines()[-1].endswith("     1.0 s  parity")


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_nothing_under_way_is_longer_than_the_terminal(
    columns: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("edgeunet.cli.steps._columns", lambda: columns)
    with ShownSteps() as steps:
        steps("choosing frames")
        for done in range(1, 702, 100):
            steps.count(done, 701)
        steps("a note " * 20)
        steps.count(7, None)
        shown = capsys.readouterr().err
    assert "101/701" in shown
    pieces = re.split(r"[\r\n]|\x1b\[\??\d+[A-Za-z]", shown)
    assert max(map(len, pieces)) < columns


def test_a_count_without_a_total_is_a_number(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ShownSteps() as steps:
        steps("parity")
        steps.count(7, None)
    assert "parity, 7" in capsys.readouterr().err


def test_beside_json_nothing_is_said(clock: list[float], capsys: Captured) -> None:
    work(ShownSteps(quiet=True), clock)
    assert capsys.readouterr() == ("", "")


def test_export_tells_its_steps_or_prints_json_alone(shallow: Path, tmp_path: Path) -> None:
    words = ("export", "--model", "unetpp", "--weights", shallow)
    told = succeeds(*words, "-o", tmp_path / "a").stderr
    assert [line[12:] for line in told.splitlines()] == [
        f"trace: {(tmp_path / 'a/model.fp32.onnx').stat().st_size / 1e6:.1f} MB",
        "lint",
        "golden frames",
        "parity",
    ]
    assert succeeds(*words, "-o", tmp_path / "b", "--json").stderr == ""
