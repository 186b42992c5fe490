"""Errors quote TensorRT's messages and say what to do."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import flavour_file
from edgeunet.runtime.gpu.engine.log import Shortage, error_text, read_shortage
from support.commands import succeeds
from support.engine_builds import refused
from support.fake_tensorrt import OUT_OF_MEMORY, ParserFault
from support.small_bundle import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_too_small_a_workspace_is_reported(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.needs_workspace = 2 << 20
    message = refused(bundle, workspace_mb=1)
    assert "Could not find any implementation for node" in message
    assert "A larger --workspace" in message
    assert succeeds("build", bundle, "--runtime", "tensorrt", "--workspace", 2)


def test_out_of_memory_is_reported_with_advice(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.build_errors = OUT_OF_MEMORY
    message = refused(bundle)
    assert "cannot build" in message and "(out of memory)" in message
    assert "smaller --workspace" in message and "--max-batch" in message


def test_parser_errors_name_the_node(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.parser_faults = (
        ParserFault("no convolutions today", node=0),
        ParserFault("nor anything else", code="INVALID_GRAPH"),
    )
    message = refused(bundle, precision="fp32")
    place = "node 0" if trt.__version__ == "8.6.0" else "node 'conv' (Conv)"
    assert message == (
        f"TensorRT cannot parse {bundle / flavour_file('fp32')}: {place}: UNSUPPORTED_NODE, no "
        "convolutions today; INVALID_GRAPH, nor anything else."
    )


def test_parser_without_errors_is_explained_by_the_log(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.scenario.parser_faults = (ParserFault("no convolutions today", node=0),)
    monkeypatch.setattr(trt.OnnxParser, "num_errors", property(lambda self: 0))
    assert re.search(r"cannot parse .*\.onnx: no convolutions today\.$", refused(bundle))


def test_failed_build_quotes_the_builder(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.build_errors = ("Error Code 9: the moon is full",)
    message = refused(bundle)
    assert re.search(r"cannot build .*onnx: Error Code 9: the moon is full\.$", message)


def test_builder_that_does_not_start_is_reported(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.gpu = False
    assert "cannot start its builder: CUDA initialization failure" in refused(bundle)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("CUDA initialization failure with error: 35. Please check it", "update the driver"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the driver"),
        ("Cuda Runtime (cudaErrorInsufficientDriver)", "update the driver"),
        ("CUDA initialization failure with error: 999", "Check GPU and driver"),
    ],
)
def test_advice_about_the_driver(said: str, advice: str) -> None:
    words = error_text(SimpleNamespace(errors=[], warnings=[said]))
    assert words.startswith(f"{said}. ")
    assert [text for text in ("update the driver", "Check GPU and driver") if text in words] == [
        advice
    ]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Tactic Device request: 143MB Available: 112MB. Device memory is insufficient to use "
         "tactic.", (143, 112)),
        ("Skipping tactic 3 due to insuficient memory on requested size of 449 detected for tactic "
         "4.\nTry decreasing the workspace size with IBuilderConfig::setMaxWorkspaceSize().",
         (449, None)),
        ("UNSUPPORTED_STATESkipping tactic 4 due to insufficient memory on requested size of 66048 "
         "detected for tactic 0x000000000000001f.", (66048, None)),
        ("UNSUPPORTED_STATE: Skipping tactic 33 due to insufficient memory on requested size of "
         "629145600 detected for tactic 0xa5a46bfbd719d757.", (600, None)),
        ("Requested amount of GPU memory (268435456 bytes) could not be allocated. There may not "
         "be enough free memory for allocation to succeed.", (256, None)),
        ("Error Code 2: OutOfMemory (Requested size was 2833252352 bytes.)", (2702, None)),
        ("Skipping tactic 0x1 due to exception Assertion failed", None),
        ("the moon is full", None),
    ],
)  # fmt: skip
def test_memory_that_a_tactic_lacked_is_read_as_each_version_tells_it(
    said: str, wanted: tuple[int, int | None] | None
) -> None:
    assert read_shortage(said) == (wanted and Shortage(*wanted))


@given(st.text())
def test_any_message_is_read(said: str) -> None:
    read_shortage(said)
