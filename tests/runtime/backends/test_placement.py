"""Providers that start, that cannot, and that only seem to; on a stand-in."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import BackendError, EdgeUNetError, ParityError, UsageError
from edgeunet.parity.stages import open_stages
from edgeunet.runtime.backends import create_backend, hexagon, placement, providers
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.segmenter import Segmenter
from support.commands import data
from support.fake_providers import Fault, fake_provider
from support.small_bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("placement") / "bundle", precision="int8")


def load(bundle: Path, provider: Any, precision: Any = "fp16", **options: Any) -> Segmenter:
    return edgeunet.load(bundle, "onnxruntime", provider=provider, precision=precision, **options)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("left out", BackendError, "provider cuda cannot be started: ONNX Runtime left it out"),
        ("raises", BackendError, "provider cuda cannot be started: .* CUDA failure 100: no device"),
        ("takes nothing", BackendError, "provider cuda takes none of the net's [0-9]+ nodes"),
        ("stops", BackendError, r"ONNX Runtime failed on \(.*\): CUDA failure 700"),
        ("is wrong", ParityError, "on onnxruntime cuda: .* of the golden pixels agree"),
    ],
)
def test_provider_that_fails_is_an_error_and_never_the_cpu(
    bundle: Path, fault: Fault, error: type[EdgeUNetError], message: str
) -> None:
    with fake_provider("cuda", fault) as fake, pytest.raises(error, match=message) as caught:
        load(bundle, "cuda")
    assert "\n" not in str(caught.value)
    assert [each["enable_fallback"] for each in fake.given] == [0]
    if "cannot be started" in message:
        assert "this machine shows no NVIDIA GPU" in str(caught.value)
        assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)


@pytest.mark.parametrize("gated", [False, True])
def test_outputs_are_those_of_the_cpu(
    tmp_path: Path, gated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a provider that gets the images of a batch one by one, and in both parts of a net."""
    opened = open_bundle(write_bundle(tmp_path / "bundle", precision="int8", gated=gated))
    opened = opened.at("fp32")
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    images[1] -= 9  # its gate is closed
    with create_backend("onnxruntime", opened) as cpu:
        wanted = cpu.net.infer(images), cpu.net.infer_gated(images)
    with (
        fake_provider("tensorrt") as fake,
        create_backend("onnxruntime", opened, LoadOptions(provider="tensorrt")) as backend,
    ):
        assert backend.net.lane() is backend.net
        found = backend.net.infer(images), backend.net.infer_gated(images)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.presence, other.presence)
    assert not gated or not found[1].logits[1].any()
    assert set(fake.batches) == {1}
    assert fake.settings[0]["trt_int8_enable"] == "0"
    assert not caplog.records


def test_user_hears_which_nodes_the_cpu_computes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gated = write_bundle(tmp_path / "bundle", precision="fp32", gated=True)
    with fake_provider("openvino", "takes a part") as fake:
        load(gated, "openvino", "fp32", threads=3).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(r"openvino computes 2 of the net's \d nodes, the CPU .* \(1 ", record.message)
    assert fake.settings[0]["num_of_threads"] == "3"


def test_bench_and_parity_run_on_the_provider(tmp_path: Path) -> None:
    small = write_bundle(tmp_path / "bundle")  # FP16
    with fake_provider("cuda"), ExitStack() as stack:
        shown = data(
            "bench", small, "--repeats", "1", "--backend", "onnxruntime", "--provider", "cuda"
        )
        options = LoadOptions(provider="cuda")
        stages = open_stages(open_bundle(small), "onnxruntime", options, stack, False)
        assert {name: each.name for name, each in stages.items()} == {"fp16": "onnxruntime cuda"}
    assert shown["backend"] == "onnxruntime cuda"
    assert [each["precision"] for each in shown["verdict"]["results"]] == ["fp32", "fp16"]


# Plug-ins


def test_plug_in_runs_on_the_best_device_that_it_finds(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_provider("qnn", devices=("CPU", "NPU")) as fake:
        for _ in range(2):  # a library is registered once a process
            load(bundle, "qnn").close()
    assert fake.chosen == ["NPU", "NPU"]
    assert not caplog.records
    with fake_provider("qnn", devices=("CPU",)):
        load(bundle, "qnn").close()
    assert "provider qnn finds no NPU; it computes on a CPU." in caplog.text


def test_board_that_does_not_reach_its_npu_hears_why(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = hexagon.Hexagon("qcs6490", "offline", None)
    for module in (hexagon, providers):
        monkeypatch.setattr(module, "find_hexagon", lambda: board)
    with fake_provider("qnn", devices=("CPU",)):
        load(bundle, "qnn").close()
    assert "finds no NPU (its firmware is not running but offline: " in caplog.text
    with (
        fake_provider("qnn", devices=()),
        pytest.raises(BackendError, match=r"finds no NPU or CPU .*; its firmware is not running"),
    ):
        load(bundle, "qnn")


def test_npu_that_computes_something_else_is_told_with_versions_and_remedy(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board = hexagon.Hexagon("qcs6490", "running", tmp_path)
    for module in (hexagon, providers):
        monkeypatch.setattr(module, "find_hexagon", lambda: board)
    with fake_provider("qnn", "is wrong", devices=("NPU",)), pytest.raises(ParityError) as caught:
        load(bundle, "qnn")
    message = str(caught.value)
    assert re.search(r"of the golden pixels agree .* logits are off by up to \d+\.\d% of", message)
    assert "Here are qcs6490, onnxruntime " in message and "update it" in message


@pytest.mark.parametrize(
    ("devices", "options", "message"),
    [
        ((), {}, "it finds no GPU that it can run on; this machine shows no NVIDIA GPU"),
        (("CPU",), {}, "it finds no GPU"),
        (("GPU", "GPU"), {"device": 2}, "expected a device 2, it finds 2"),
    ],
)
def test_plug_in_without_its_device_is_refused(
    bundle: Path, devices: tuple[str, ...], options: dict[str, int], message: str
) -> None:
    with (
        fake_provider("nvtensorrtrtx", devices=devices),
        pytest.raises(BackendError, match=f"nvtensorrtrtx cannot be started: {message}"),
    ):
        load(bundle, "nvtensorrtrtx", **options)


def test_library_of_a_plug_in_that_cannot_be_loaded_is_named(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, library: str) -> None:
        raise RuntimeError("FAIL : Failed to load x.so with error: libcuda.so.1: cannot open it")

    with fake_provider("nvtensorrtrtx", devices=("GPU",)):
        monkeypatch.setattr(placement.onnxruntime, "register_execution_provider_library", fail)
        with pytest.raises(BackendError) as caught:
            load(bundle, "nvtensorrtrtx")
    assert ": libcuda.so.1: cannot open it; this" in str(caught.value)


# What is refused before anything is started


@pytest.mark.parametrize(
    ("provider", "precision", "options", "message"),
    [
        ("cuda", "int8", {}, "provider cuda does not compute in INT8: .* Pass --precision fp16."),
        ("qnn", "fp32", {}, "provider qnn does not compute in FP32: .* Pass --precision int8."),
        ("openvino", "fp32", {"device": 1}, "openvino has no devices to choose from. Leave it out"),
        (None, "fp32", {"device": 1}, "ONNX Runtime runs on the CPU. Pass --provider too"),
        ("cpu", "fp32", {"device": 1}, "ONNX Runtime runs on the CPU. Pass --provider too"),
        ("cuda", "bf16", {}, "does not compute in BF16"),
        ("nothing", "fp32", {}, "unknown provider 'nothing'. Known: coreml, cpu, cuda, dml,"),
    ],
)
def test_what_a_provider_does_not_do_is_refused(
    bundle: Path, provider: str, precision: str, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(bundle, provider, precision, **options)


def test_precision_that_the_bundle_must_be_exported_for_is_named(tmp_path: Path) -> None:
    small = write_bundle(tmp_path / "bundle", precision="fp32")
    with pytest.raises(UsageError, match=r"FP32: .* Export the bundle with --fp16\."):
        load(small, "qnn", "fp32")


def test_missing_provider_is_told_with_those_there_and_its_package(bundle: Path) -> None:
    with fake_provider("openvino"), pytest.raises(BackendError) as caught:
        load(bundle, "xnnpack", "fp32")
    assert "has no provider xnnpack here, only openvino, cpu. No wheel has it" in str(caught.value)
    with pytest.raises(BackendError, match=r"pip install 'onnxruntime-directml', in a Python with"):
        load(bundle, "dml", "fp32")


def test_old_onnx_runtime_that_cannot_tell_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_provider("cuda"):
        sessions = type(placement.onnxruntime.InferenceSession)
        monkeypatch.delattr(sessions, "get_provider_graph_assignment_info")
        with pytest.raises(BackendError, match=r"expected ONNX Runtime 1\.24\.1 or newer"):
            load(bundle, "cuda", "fp32")


def test_provider_needs_the_backend_that_has_it(bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"one of ONNX Runtime's\. Pass --backend onnxruntime"):
        edgeunet.load(bundle, provider="cuda")
    with pytest.raises(UsageError, match="backend pytorch has no provider"):
        edgeunet.load(bundle, "pytorch", precision="fp32", provider="cuda")


def test_cpu_by_name_is_the_default(bundle: Path) -> None:
    with load(bundle, "cpu", "fp32") as segmenter:
        assert segmenter.backend.name == "onnxruntime"
