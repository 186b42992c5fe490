"""What `auto` chooses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import BackendError, UsageError
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends import candidates as candidates_module
from edgeunet.runtime.backends import measuring as measuring_module
from edgeunet.runtime.backends.candidates import Candidate, candidates
from edgeunet.runtime.backends.choice import choose
from edgeunet.runtime.backends.openvino_library import Device
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import DEFAULTS, LoadOptions
from support.engines import Engine, EngineBackend, Machine, broken, machine_of

FP32, INT8 = Candidate("onnxruntime", "fp32"), Candidate("onnxruntime", "int8")
OTHER_FP32, OTHER_INT8 = Candidate("openvino", "fp32"), Candidate("openvino", "int8")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_of(
        monkeypatch,
        Engine(FP32, 0.020),
        Engine(OTHER_FP32, 0.030),
        Engine(INT8, 0.011),
        Engine(OTHER_INT8, 0.010),
    )


# Candidates that cannot be used


@pytest.mark.parametrize("measures", [False, True])
def test_a_precision_that_no_engine_has_is_refused(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch, measures: bool
) -> None:
    if measures:
        monkeypatch.delenv("EDGEUNET_MEASURE")
    device = Device("CPU", "a processor without BF16", ("FP32", "INT8"))
    monkeypatch.setattr(candidates_module, "find_device", lambda options: device)
    with pytest.raises(UsageError, match="openvino do not compute in BF16 on this machine"):
        choose(open_bundle(fp32_bundle), LoadOptions(precision="bf16"))


def test_an_engine_that_is_broken_is_a_candidate_that_says_why(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find(options: LoadOptions) -> Any:
        raise BackendError("OpenVINO 2031.1 is installed; expected 2026.x.")

    monkeypatch.delenv("EDGEUNET_MEASURE")
    monkeypatch.setattr(measuring_module, "SECONDS", 0.1)
    monkeypatch.setattr(candidates_module, "find_device", find)
    monkeypatch.setattr("edgeunet.runtime.backends.openvino.find_device", find)
    found = candidates(open_bundle(int8_bundle), DEFAULTS)
    assert [each.label for each in found if each.backend == "openvino"] == ["openvino FP32"]
    choice = choose(open_bundle(int8_bundle), LoadOptions(threads=1), tell=lambda why: None)
    assert choice.use.backend == "onnxruntime"
    assert "openvino FP32 fails (OpenVINO 2031.1 is installed; expected 2026.x.)" in choice.why


def test_a_provider_that_cannot_be_started_is_told(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime for the CPU has no CUDA, whatever says that it is usable."""
    monkeypatch.delenv("EDGEUNET_MEASURE")
    monkeypatch.setattr(measuring_module, "SECONDS", 0.1)
    monkeypatch.setattr("edgeunet.runtime.backends.providers.usable_providers", lambda: ["cuda"])
    choice = choose(open_bundle(fp32_bundle), LoadOptions(threads=1), tell=lambda why: None)
    assert choice.use.provider is None
    (cuda,) = (each for each in choice.results if each.provider == "cuda")
    assert cuda.problem is not None
    assert f"onnxruntime cuda FP32 fails ({cuda.problem})" in choice.why
    on_cpu = candidates(open_bundle(fp32_bundle), LoadOptions(provider="cpu"))
    assert {each.provider for each in on_cpu} == {None}


# The choice


def test_the_fastest_is_measured_once_and_kept(int8_bundle: Path, machine: Machine) -> None:
    bundle, told = open_bundle(int8_bundle), list[str]()
    choice = choose(bundle, tell=told.append)
    assert (choice.use, choice.is_new) == (OTHER_INT8, True)
    assert choice.path is not None
    assert told == [
        "openvino INT8 10.0 ms, onnxruntime INT8 11.0 ms, onnxruntime FP32 20.0 ms, openvino FP32 "
        f"30.0 ms: openvino INT8 is used (measured on this machine, kept in {choice.path})"
    ]
    assert machine.now < 3
    machine.opened.clear()
    again = choose(bundle, tell=told.append)
    assert (again.use, again.results) == (OTHER_INT8, choice.results)
    assert again.is_kept
    assert (machine.opened, len(told)) == ([], 1)
    assert choose(bundle, again=True, tell=told.append).is_new
    assert len(told) == 2


def test_the_table_has_every_candidate(int8_bundle: Path, machine: Machine) -> None:
    machine.engines[1].error = broken()
    choice = choose(open_bundle(int8_bundle), thorough=True, tell=lambda why: None)
    lines = choice.table.splitlines()
    assert lines[0].split() == ["onnxruntime", "FP32", "20.00", "ms", "100.00%"]
    assert lines[1].split(maxsplit=2) == ["openvino", "FP32", "its library cannot be loaded."]
    assert lines[3].startswith("* openvino INT8")
    assert "openvino FP32 fails (its library cannot be loaded.)" in lines[4]


@pytest.mark.parametrize(
    ("closer", "use"), [(0.0101, FP32), (0.0106, INT8)], ids=["as fast", "slower by 6 %"]
)
def test_a_closer_precision_is_used_if_it_is_as_fast(
    closer: float, use: Candidate, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_of(monkeypatch, Engine(FP32, closer), Engine(INT8, 0.010))
    choice = choose(open_bundle(int8_bundle), tell=lambda why: None)
    assert choice.use == use
    assert ("closer than onnxruntime INT8" in choice.why) == (use == FP32)


def test_nothing_is_used_for_its_speed_if_its_masks_are_wrong(
    int8_bundle: Path, machine: Machine
) -> None:
    for each, wrong in zip(machine.engines, (0.0, 0.0005, 0.03, 0.5), strict=True):
        each.wrong = wrong
    choice = choose(open_bundle(int8_bundle), tell=lambda why: None)
    assert choice.use == FP32
    problems = {each.backend: each.problem for each in choice.results if each.precision == "int8"}
    assert "97.00% of the golden pixels agree" in str(problems["onnxruntime"])
    assert "50.00% of the golden pixels agree" in str(problems["openvino"])


def test_what_fails_while_it_is_timed_gives_way(
    int8_bundle: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {"openvino INT8"}

    def fail(backend: EngineBackend, batch: Batch) -> Any:
        def call() -> None:
            machine.spend(backend.engine.seconds)
            if backend.engine.candidate.label in lost and machine.now > 0.3:
                raise BackendError("the device was lost.")

        return call

    monkeypatch.setattr(EngineBackend, "net_alone", fail)
    choice = choose(open_bundle(int8_bundle), tell=lambda why: None)
    assert choice.use == INT8
    assert "openvino INT8 fails (the device was lost.)" in choice.why
    lost |= {each.candidate.label for each in machine.engines}
    with pytest.raises(BackendError, match=r"nothing here can run .* onnxruntime FP32: the device"):
        choose(open_bundle(int8_bundle), again=True)


def test_candidates_that_all_fail_are_listed(int8_bundle: Path, machine: Machine) -> None:
    for each in machine.engines[:3]:
        each.error = broken(f"{each.candidate.label} is broken.")
    machine.engines[3].wrong = 0.5
    with pytest.raises(BackendError) as error:
        choose(open_bundle(int8_bundle))
    for each in machine.engines[:3]:
        assert f"{each.candidate.label}: {each.candidate.label} is broken." in str(error.value)
    assert "openvino INT8" in str(error.value)
    assert "50.00% of the golden pixels agree" in str(error.value)


def test_one_candidate_alone_is_not_measured(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machine_of(monkeypatch, Engine(FP32, 0.01))
    choice = choose(open_bundle(fp32_bundle))
    assert (choice.use, choice.path, machine.opened) == (FP32, None, [])


def test_measuring_can_be_switched_off(
    int8_bundle: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEUNET_MEASURE", "0")
    assert choose(open_bundle(int8_bundle)).use == INT8
    assert choose(open_bundle(int8_bundle), LoadOptions(precision="fp32")).use == FP32
    assert machine.opened == []


# What is kept


CHANGES: dict[str, Any] = {
    "another processor": ("machine", "processor", "Pentium", "other machine: processor was Pen"),
    "fewer cores": ("machine", "cores", "1", "other machine: cores was 1"),
    "another version": ("versions", "onnxruntime", "0.1", "other versions: onnxruntime was 0.1"),
    "another bundle": ("", "bundle", "0" * 64, "other bundle: 000000000000…"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_kept_of_something_else_is_measured_again(
    change: str, int8_bundle: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = open_bundle(int8_bundle)
    path = choose(bundle, tell=lambda why: None).path
    assert path is not None
    kept = json.loads(path.read_text())
    where, key, value, words = CHANGES[change]
    (kept["asked"][where] if where else kept["asked"])[key] = value
    path.write_text(json.dumps(kept))
    machine.opened.clear()
    assert choose(bundle, tell=lambda why: None).is_new
    assert len(machine.opened) == 4
    assert words in caplog.text
    assert choose(bundle).is_kept


def test_options_that_matter_have_choices_of_their_own(int8_bundle: Path, machine: Machine) -> None:
    bundle = open_bundle(int8_bundle)
    all_options = (DEFAULTS, LoadOptions(threads=1), LoadOptions(precision="fp32"))
    made = [choose(bundle, options, tell=lambda why: None) for options in all_options]
    assert len({choice.path for choice in made}) == 3
    assert made[2].use == FP32
    assert all(choose(bundle, options).is_kept for options in all_options)


def test_a_folder_that_cannot_be_written_is_told_once(
    int8_bundle: Path,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        choice = choose(open_bundle(int8_bundle), tell=lambda why: None)
        assert (choice.use, choice.path, choice.is_new) == (OTHER_INT8, None, True)
    assert caplog.text.count("choices cannot be kept in") == 1


def test_engines_of_this_machine_are_measured(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing made up: what is installed here, on the real clock."""
    monkeypatch.delenv("EDGEUNET_MEASURE")
    monkeypatch.setattr(measuring_module, "SECONDS", 0.5)
    caplog.set_level(logging.INFO)
    choice = choose(open_bundle(int8_bundle), LoadOptions(threads=1), thorough=True)
    good = [each for each in choice.results if each.problem is None]
    assert {each.backend for each in good} == {"onnxruntime", "openvino"}
    assert "onnxruntime FP16" not in choice.table, "it is FP32 with more rounding"
    assert all(each.latency_ms and each.agreement for each in good)
    assert min(each.latency_ms or 0 for each in good) * 1.03 > next(
        each.latency_ms or 0 for each in good if (each.backend, each.precision) == choice.use[:2]
    )
    assert f"{int8_bundle.name}: {choice.why}" in caplog.text, "there may be several bundles"
    assert choice.is_new
    assert choice.path is not None
    assert choice.path.is_file()
