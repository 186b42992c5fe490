"""`--backend auto`: what it chooses, and that no frame is lost where the first choice fails."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import (
    BackendError,
    EngineError,
    MissingDependencyError,
    SourceError,
    UsageError,
)
from edgeunet.runtime.backends import Backend, create_backend, fallback, ort
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.fallback import FallbackBackend
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.gpu.cuda import CudaDevice, Module
from edgeunet.runtime.gpu.kernels import compile as compiling
from edgeunet.runtime.gpu.kernels import shipped
from edgeunet.runtime.options import LoadOptions
from support.gpu_machine import gpu_machine
from support.nets import Means
from support.small_bundle import write_bundle


def means(bundle: Bundle, options: LoadOptions) -> Backend:
    return Means(bundle)


@pytest.fixture(scope="module")
def bundle(fp32_bundle: Path) -> Bundle:
    return open_bundle(fp32_bundle)


def frames(count: int) -> list[Frame]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 255, (6, 9, 3), np.uint8) for _ in range(count)]


def batches(images: Sequence[Frame], size: int = 2) -> Iterator[Batch]:
    for start in range(0, len(images), size):
        yield Batch.of(images[start : start + size])


# A GPU whose kernels are missing


@pytest.fixture
def own_bundle(tmp_path: Path) -> Bundle:
    """One that engines may be written into."""
    return open_bundle(write_bundle(tmp_path / "bundle", precision="fp32"))


def opened_on(bundle: Bundle, caplog: pytest.LogCaptureFixture, **gpu: object) -> str:
    """The warnings of opening a bundle on a GPU that has no nvcc, and ends on ONNX Runtime."""
    with gpu_machine(**gpu), pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "find_nvcc", lambda: None)
        patch.setattr("edgeunet.runtime.backends.tensorrt.load_kernels", compiling.load_kernels)
        with create_backend("auto", bundle) as backend:
            assert backend.name == "onnxruntime"
            assert backend.segment(Batch.of(frames(2))).masks.shape == (2, 6, 9)
    assert not (bundle.root / "engines").exists(), "an engine was built for nothing"
    return caplog.text


def test_gpu_outside_the_list_without_nvcc(
    own_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    said = opened_on(own_bundle, caplog, name="Xavier", capability=(7, 2))
    assert "kernels for sm72 must be compiled: those that come with edgeunet are for sm75" in said
    assert "Install the CUDA toolkit" in said and "Going on with ONNX Runtime" in said


def test_damaged_kernels_of_the_package(
    own_bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(shipped.CUBINS, tmp_path / "cubins")
    monkeypatch.setattr(shipped, "CUBINS", tmp_path / "cubins")
    (tmp_path / "cubins" / "sm87.cubin.xz").write_bytes(b"half")
    said = opened_on(own_bundle, caplog)
    assert "sm87.cubin.xz, a part of edgeunet, is damaged. Install edgeunet again" in said
    assert "Going on with ONNX Runtime" in said


def test_driver_older_than_the_kernels(
    own_bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: CudaDevice, image: bytes) -> Module:
        raise BackendError("CUDA failed while loading kernels: device kernel image is invalid.")

    monkeypatch.setattr(CudaDevice, "load_module", refuse)
    said = opened_on(own_bundle, caplog)
    assert "rejects the kernels that come with edgeunet, which CUDA 11.8 compiled" in said
    assert "Update the driver to CUDA 11.8 or newer" in said
    assert "Going on with ONNX Runtime" in said


# The choice


KINDS = {"tensorrt": "open_tensorrt", "tensorrt_rtx_bindings": "open_rtx"}
Install = Callable[..., None]
NO_FALLBACK = r"There is no fallback: onnxruntime is not installed.*pip install"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a machine where the modules that are named are installed, and no other TensorRT.

    `backend` stands in for the backend of each; `without` are missing. gpu: it has an NVIDIA GPU.
    """
    find = importlib.util.find_spec
    fallback._warn.cache_clear()

    def install(
        *modules: str,
        backend: Callable[..., Backend],
        without: Sequence[str] = (),
        gpu: bool = False,
    ) -> None:
        monkeypatch.setattr(fallback, "has_gpu", lambda: gpu)
        known = [*KINDS, *without]
        specs = {name: ModuleSpec(name, None) if name in modules else None for name in known}
        if "onnxruntime" in without:
            monkeypatch.delitem(sys.modules, "edgeunet.runtime.backends.ort", raising=False)
            monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: specs[name] if name in specs else find(name)
        )
        module = ModuleType("edgeunet.runtime.backends.tensorrt")
        for name in KINDS.keys() & set(modules):
            setattr(module, KINDS[name], backend)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def test_without_either_it_is_onnx_runtime_and_nothing_is_said(
    fp32_bundle: Path,
    int8_bundle: Path,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install(backend=pytest.fail)
    opened: list[str] = []
    open_flavour = ort.open_flavour

    def noted(bundle: Bundle, flavour: Flavour, **settings: Any) -> NetBackend:
        opened.append(flavour)
        return open_flavour(bundle, flavour, **settings)

    monkeypatch.setattr(ort, "open_flavour", noted)
    for path, flavour in ((fp32_bundle, "fp32"), (int8_bundle, "int8.cpu")):
        with create_backend("auto", open_bundle(path)) as backend:
            assert backend.name == "onnxruntime"
            assert opened == [flavour]
            opened.clear()
    assert caplog.records == []


@pytest.mark.parametrize("module", list(KINDS))
@pytest.mark.parametrize(
    "error",
    [
        BackendError("there is no GPU 0."),
        EngineError("engines cannot be written."),
        MissingDependencyError("tensorrt", "trt"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_keeps_the_gpu_from_running_is_told_once(
    bundle: Bundle,
    module: str,
    error: Exception,
    install: Install,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(bundle: Bundle, options: LoadOptions) -> Backend:
        raise error

    install(module, backend=refuse, gpu=True)
    with create_backend("auto", bundle) as backend:
        assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{error} Going on with ONNX Runtime on the CPU."


@pytest.mark.parametrize("module", list(KINDS))
def test_the_one_that_is_installed_is_chosen_where_it_runs(
    bundle: Bundle, module: str, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(module, backend=means, gpu=True)
    with create_backend("auto", bundle) as backend:
        assert backend.name == "means"
    assert caplog.records == []


def test_tensorrt_rtx_that_only_builds_for_other_machines_is_left_alone(
    fp32_bundle: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("tensorrt_rtx_bindings", backend=pytest.fail)
    with create_backend("auto", open_bundle(fp32_bundle)) as backend:
        assert backend.name == "onnxruntime"
    assert caplog.records == []


def test_tensorrt_rtx_is_tried_without_a_gpu_if_one_is_asked_for(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(bundle: Bundle, options: LoadOptions) -> Backend:
        raise BackendError("no NVIDIA driver.")

    install("tensorrt_rtx_bindings", backend=refuse)
    with create_backend("auto", bundle, LoadOptions(trust_engines=True)) as backend:
        assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert record.getMessage() == "no NVIDIA driver. Going on with ONNX Runtime on the CPU."


@pytest.mark.parametrize("module", list(KINDS))
@pytest.mark.parametrize("given", [{"device": 1}, {"dla": 0}])
def test_a_gpu_that_was_named_and_does_not_start_is_an_error(
    bundle: Bundle, module: str, given: dict[str, int], install: Install
) -> None:
    def refuse(bundle: Bundle, options: LoadOptions) -> Backend:
        raise BackendError("no NVIDIA driver.")

    install(module, backend=refuse)
    with pytest.raises(BackendError, match=r"^no NVIDIA driver\.$"):
        create_backend("auto", bundle, LoadOptions(**given))


def test_a_gpu_that_nothing_is_installed_for_is_told_once(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(backend=pytest.fail, gpu=True)
    for _ in range(2):
        with create_backend("auto", bundle) as backend:
            assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "an NVIDIA GPU, but TensorRT is not installed" in record.getMessage()
    assert "`edgeunet doctor`" in record.getMessage()


def test_tensorrt_goes_before_tensorrt_rtx(
    bundle: Bundle, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(*KINDS, backend=means, gpu=True)
    rtx = sys.modules["edgeunet.runtime.backends.tensorrt"]
    monkeypatch.setattr(rtx, "open_rtx", pytest.fail)
    with create_backend("auto", bundle) as backend:
        assert backend.name == "means"


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("onnxruntime", "device", r"device is 0, but ONNX Runtime runs on the CPU\."),
        ("onnxruntime", "dla", r"has no dla; it takes provider, device, threads\.$"),
        ("pytorch", "device", r"backend pytorch has no device; it takes no options\.$"),
        ("pytorch", "dla", r"backend pytorch has no dla; it takes no options\.$"),
    ],
)
def test_a_backend_of_the_cpu_refuses_what_is_a_gpus(
    bundle: Bundle, name: str, option: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        create_backend(name, bundle, LoadOptions(**{option: 0}))


@pytest.mark.parametrize("module", list(KINDS))
@pytest.mark.parametrize("given", [{}, {"device": 0}, {"device": 1, "dla": 0}])
def test_the_gpus_backend_gets_what_was_given_and_the_cpus_nothing(
    bundle: Bundle, module: str, given: dict[str, int], install: Install
) -> None:
    got: list[LoadOptions] = []

    def on_a_gpu(bundle: Bundle, options: LoadOptions) -> Backend:
        got.append(options)
        return Means(bundle, 0)

    install(module, backend=on_a_gpu, gpu=True)
    with create_backend("auto", bundle, LoadOptions(**given)) as backend:
        assert got == [LoadOptions(**given)]
        backend.segment(Batch.of(frames(1)))
        assert backend.name == "onnxruntime"


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("given", [{"device": 0}, {"dla": 0}, {"device": 1, "dla": 0}])
def test_a_gpu_that_was_named_is_an_error_if_nothing_can_use_it(
    bundle: Bundle, install: Install, given: dict[str, int], gpu: bool
) -> None:
    install(backend=pytest.fail, gpu=gpu)
    words = f"{' and '.join(given)} was given, but TensorRT is not installed"
    with pytest.raises(UsageError, match=words):
        create_backend("auto", bundle, LoadOptions(**given))


def test_engines_to_trust_are_told_to_be_of_no_use_without_a_gpu(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(backend=pytest.fail)
    with create_backend("auto", bundle, LoadOptions(trust_engines=True)) as backend:
        assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert "trust_engines was given, but TensorRT is not installed" in record.getMessage()


def test_no_fallback_is_told_once_at_the_start(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("tensorrt", backend=means, without=["onnxruntime"])
    for _ in range(2):
        with create_backend("auto", bundle) as backend:
            assert backend.name == "means"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "onnxruntime is not installed" in record.getMessage()
    assert "nothing takes over if the GPU fails" in record.getMessage()


def test_a_gpu_that_does_not_start_and_no_fallback_are_one_error(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(bundle: Bundle, options: LoadOptions) -> Backend:
        raise EngineError("engines cannot be written.")

    install("tensorrt", backend=refuse, without=["onnxruntime"])
    with pytest.raises(BackendError, match=NO_FALLBACK) as caught:
        create_backend("auto", bundle)
    assert str(caught.value).startswith("engines cannot be written. ")
    assert isinstance(caught.value.__cause__, EngineError)
    assert caplog.records == []


# The change


@settings(deadline=None, max_examples=40)
@given(limit=st.integers(0, 8), count=st.integers(0, 13))
def test_stream_loses_no_frame_and_repeats_none(bundle: Bundle, limit: int, count: int) -> None:
    images = frames(count)
    with Means(bundle) as sound:
        wanted = [result.masks for result in sound.stream(batches(images))]
    first, second = Means(bundle, limit), Means(bundle)
    with FallbackBackend(first, lambda _: second) as backend:
        found = [result.masks for result in backend.stream(batches(images))]
    assert len(found) == len(wanted) == -(-count // 2)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    failed = limit < len(wanted)
    assert (first.closed, second.closed) == (True, failed)


def test_segment_and_infer_go_on(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    second = Means(bundle)
    with FallbackBackend(Means(bundle, 1), lambda _: second) as backend:
        before = backend.segment(Batch.of(frames(2))).masks
        np.testing.assert_array_equal(backend.segment(Batch.of(frames(2))).masks, before)
        images = Preprocessor(bundle.manifest.input)(frames(2))
        assert backend.net.infer(images).logits.shape[0] == 2
    assert second.calls == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the GPU is lost. Going on with ONNX Runtime on the CPU."
    ]


def test_the_second_backends_own_failure_is_raised(bundle: Bundle) -> None:
    with FallbackBackend(Means(bundle, 0), lambda _: Means(bundle, 1)) as backend:
        results = backend.stream(batches(frames(4)))
        assert next(results).masks.shape == (2, 6, 9)
        with pytest.raises(BackendError, match="the GPU is lost"):
            next(results)


def test_a_lost_gpu_without_a_fallback_is_the_same_error_each_time(
    bundle: Bundle, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("tensorrt", backend=lambda bundle, options: Means(bundle, 1), without=["onnxruntime"])
    images = Preprocessor(bundle.manifest.input)(frames(2))
    with create_backend("auto", bundle) as backend:
        backend.segment(Batch.of(frames(2)))
        caplog.clear()
        for lose in (
            lambda: backend.segment(Batch.of(frames(2))),
            lambda: backend.net.infer(images),
            lambda: list(backend.stream(batches(frames(4)))),
        ):
            with pytest.raises(BackendError, match=rf"^the GPU is lost\. {NO_FALLBACK}") as caught:
                lose()
            assert str(caught.value.__cause__) == "the GPU is lost."
    assert caplog.records == []


def test_the_first_backend_is_not_freed_under_another_thread(bundle: Bundle) -> None:
    first, second = Means(bundle, 0), Means(bundle)
    with FallbackBackend(first, lambda bundle: second) as backend:
        assert backend.segment(Batch.of(frames(2))).masks.shape == (2, 6, 9)
        assert not first.closed
    assert first.closed and second.closed


def test_a_fault_of_the_source_changes_nothing(bundle: Bundle) -> None:
    def broken() -> Iterator[Batch]:
        yield Batch.of(frames(2))
        raise SourceError("the camera is gone.")

    with FallbackBackend(Means(bundle), lambda _: pytest.fail("changed")) as backend:
        results = backend.stream(broken())
        next(results)
        with pytest.raises(SourceError, match="the camera is gone"):
            next(results)
        assert backend.name == "means"


def test_a_consumer_that_leaves_early_leaves_nothing_running(bundle: Bundle) -> None:
    first = Means(bundle)
    with FallbackBackend(first, lambda _: pytest.fail("changed")) as backend:
        results = backend.stream(batches(frames(40)))
        next(results)
        results.close()
        calls = first.calls
    assert first.calls == calls < 20
