"""What is opened, timed and checked of the candidates of `auto`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.runtime.backends import measuring
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.measuring import measure
from support.engines import Engine, Machine, broken, machine_of

PLAIN, INT8 = Candidate("onnxruntime", "fp32"), Candidate("openvino", "int8")
FP32, FP16, BF16 = (
    Candidate("openvino", "fp32"),
    Candidate("openvino", "fp16"),
    Candidate("openvino", "bf16"),
)
ALL = [PLAIN, FP32, FP16, BF16, INT8]


@pytest.fixture
def bundle(int8_bundle: Path) -> Bundle:
    return open_bundle(int8_bundle)


def machine(patch: pytest.MonkeyPatch, bf16: float) -> Machine:
    speeds = {PLAIN: 0.030, FP32: 0.028, FP16: 0.035, BF16: bf16, INT8: 0.010}
    return machine_of(patch, *(Engine(each, seconds) for each, seconds in speeds.items()))


def checked(patch: pytest.MonkeyPatch) -> list[str]:
    """Precisions in the order of their golden checks."""
    found: list[str] = []
    check = measuring.golden_agreement

    def note(backend: measuring.Backend) -> float:
        found.append(backend.bundle.manifest.precision)
        return check(backend)

    patch.setattr(measuring, "golden_agreement", note)
    return found


def test_wider_precisions_are_left_out_if_bf16_is_far_behind(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine(monkeypatch, bf16=0.0135)
    results, use = measure(bundle, ALL)
    assert ALL[use] == INT8
    assert made.opened == ["openvino INT8", "openvino BF16", "onnxruntime FP32"]
    times = {(each.backend, each.precision): each.latency_ms for each in results}
    assert [times[each[:2]] is None for each in ALL] == [False, True, True, False, False]
    assert {each.problem for each in results} == {None}


def test_they_are_tried_if_bf16_is_near_or_fails_or_all_are_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine(monkeypatch, bf16=0.012)
    measure(bundle, ALL)
    assert len(made.opened) == 5
    made = machine(monkeypatch, bf16=0.05)
    made.engines[3].error = broken()
    measure(bundle, ALL)
    assert len(made.opened) == 5
    made = machine(monkeypatch, bf16=0.05)
    results, _ = measure(bundle, ALL, thorough=True)
    assert len(made.opened) == 5
    assert [each.agreement for each in results] == [1.0] * 5


def test_only_what_is_used_is_checked(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, bf16=0.0101)
    order = checked(monkeypatch)
    results, use = measure(bundle, ALL)
    assert (ALL[use], order) == (BF16, ["bf16"])
    assert [each.agreement for each in results] == [None, None, None, 1.0, None]


def test_what_wins_with_wrong_masks_is_out_and_the_others_race_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that had left, or were left out, because of it."""
    made = machine(monkeypatch, bf16=0.0135)
    made.engines[3].wrong = made.engines[4].wrong = 0.5
    order = checked(monkeypatch)
    results, use = measure(bundle, ALL)
    assert (ALL[use], order) == (FP32, ["int8", "bf16", "fp32"])
    assert "50.00% of the golden pixels agree" in str(results[4].problem)
    assert results[4].latency_ms is None
    assert results[use].latency_ms == pytest.approx(28)


def test_one_that_is_left_is_checked_and_not_timed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine(monkeypatch, bf16=0.01)
    left_out = dict.fromkeys(ALL[1:], "it ended the process")
    results, use = measure(bundle, ALL, problems=left_out)
    assert (ALL[use], made.opened) == (PLAIN, ["onnxruntime FP32"])
    assert (results[0].agreement, results[0].latency_ms) == (1.0, None)
    assert [each.problem for each in results[1:]] == ["it ended the process"] * 4
