"""TensorRT-RTX on a simulated GPU: engines of other machines, and what is compiled on the card."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.signing import NOT_OURS
from edgeunet.errors import BackendError, EngineError, MissingDependencyError, UsageError
from edgeunet.runtime import load
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.tensorrt import RtxBackend
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.gpu.engine import build_bundle_engine
from edgeunet.runtime.options import LoadOptions
from support.fake_tensorrt.plan import Plan
from support.gpu_machine import GpuMachine, gpu_machine
from support.small_bundle import names, write_bundle

VERSION = "rtx-1.7.1"
STEM = "rtx1.7.1.116-fp16"
CARD = "nvidia-geforce-rtx-4090"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "bundle"))


@pytest.fixture
def machine() -> Iterator[GpuMachine]:
    with gpu_machine(VERSION) as made:
        yield made


def frames(count: int = 1) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (16, 16, 3), np.uint8) for _ in range(count)]


def start(bundle: Bundle, *counts: int) -> list[str]:
    """What a start tells that segments batches of these sizes."""
    told: list[str] = []
    with RtxBackend(bundle, report=told.append) as backend:
        for count in counts:
            backend.segment(Batch.of(frames(count)))
    return told


def engines(bundle: Bundle) -> list[str]:
    return [name for name in names(bundle.root / "engines") if name.endswith(".engine")]


# Engines that were built ahead of time


def test_an_engine_built_for_this_gpu_among_others_is_run_as_it_is(bundle: Bundle) -> None:
    with gpu_machine(VERSION) as builder:
        builder.trt.scenario.gpu = False
        built = build_bundle_engine(bundle, runtime="rtx")
    before = built.path.stat().st_mtime_ns
    for capability in ((8, 6), (8, 9), (12, 0)):
        with gpu_machine(VERSION, capability=capability):
            assert start(bundle, 1) == []
    assert engines(bundle) == [f"sm86-sm89-sm120-{STEM}.engine"] == [built.path.name]
    assert built.path.stat().st_mtime_ns == before


def test_one_that_is_for_other_gpus_is_left_and_one_built_for_this(
    machine: GpuMachine, bundle: Bundle
) -> None:
    build_bundle_engine(bundle, runtime="rtx", targets=["sm86", "sm120"])
    assert start(bundle) == [
        f"building sm89-{STEM}.engine: sm86-sm120-{STEM}.engine has targets sm86, sm120; expected "
        "sm89"
    ]
    assert engines(bundle) == [f"sm86-sm120-{STEM}.engine", f"sm89-{STEM}.engine"]
    plan = Plan.from_bytes((bundle.root / "engines" / f"sm89-{STEM}.engine").read_bytes())
    assert plan is not None and plan.targets == ("sm89",)
    assert start(bundle) == []


def test_its_own_goes_before_one_that_it_shares(machine: GpuMachine, bundle: Bundle) -> None:
    for targets in (None, ["sm89"]):
        build_bundle_engine(bundle, runtime="rtx", targets=targets)
    (bundle.root / "engines" / f"sm86-sm89-sm120-{STEM}.engine").write_bytes(b"not looked at")
    assert start(bundle) == []


def test_a_build_for_targets_that_are_named_keeps_no_engine_for_more(
    machine: GpuMachine, bundle: Bundle
) -> None:
    build_bundle_engine(bundle, runtime="rtx")
    assert build_bundle_engine(bundle, runtime="rtx", targets=["sm89"]).built


def truncate(plan: Path) -> str:
    plan.write_bytes(plan.read_bytes()[:100])
    return r"sm86-sm89-sm120-\S+\.engine has SHA-256 \w+…, its sidecar says \w+…"


def alter(plan: Path) -> str:
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    return r"sm86-sm89-sm120-\S+\.engine has SHA-256 \w+…, its sidecar says \w+…"


def lose_sidecar(plan: Path) -> str:
    plan.with_suffix(".json").unlink()
    return r"sm86-sm89-sm120-\S+\.json is missing"


def age(plan: Path) -> str:
    """As if an older TensorRT-RTX had built it."""
    for path in (plan, plan.with_suffix(".json")):
        path.rename(path.with_name(path.name.replace("1.7.1.116", "1.6.0.1")))
    card = plan.with_name(plan.name.replace("1.7.1.116", "1.6.0.1")).with_suffix(".json")
    card.write_text(card.read_text().replace('"1.7.1.116"', '"1.6.0.1"'))
    return r"sm86-sm89-sm120-rtx1\.6\.0\.1\S+ has version 1\.6\.0\.1; expected 1\.7\.1\.116"


@pytest.mark.parametrize("damage", [truncate, alter, lose_sidecar, age])
def test_one_that_does_not_fit_is_told_and_replaced_by_its_own(
    machine: GpuMachine, bundle: Bundle, damage: Any
) -> None:
    reason = damage(build_bundle_engine(bundle, runtime="rtx").path)
    (told,) = start(bundle, 1)
    assert re.fullmatch(rf"building sm89-{re.escape(STEM)}\.engine: {reason}", told)
    assert start(bundle, 1) == []


def test_one_of_another_graph_is_told_and_replaced(machine: GpuMachine, bundle: Bundle) -> None:
    build_bundle_engine(bundle, runtime="rtx")
    changed = open_bundle(write_bundle(bundle.root, weight=2.0))
    (told,) = start(changed)
    assert told.endswith(f"the graph has changed since sm86-sm89-sm120-{STEM}.engine was built")


def test_one_that_rtx_refuses_is_told_and_replaced_by_its_own(
    machine: GpuMachine, bundle: Bundle
) -> None:
    build_bundle_engine(bundle, runtime="rtx")
    machine.trt.scenario.refuses_plan = "CUDA driver too old"
    told: list[str] = []
    with pytest.raises(EngineError, match=r"TensorRT-RTX rejected .*: CUDA driver too old"):
        RtxBackend(bundle, report=told.append)
    assert machine.driver.memory == machine.driver.count("retained") == 0
    refused, building = told
    assert refused.endswith("CUDA driver too old. It is built again.")
    assert building == f"building sm89-{STEM}.engine: --force was given"
    machine.trt.scenario.refuses_plan = None
    assert start(bundle, 1) == []


def test_int8_is_remarked_on_where_it_is_built_and_not_at_each_start(
    machine: GpuMachine, tmp_path: Path
) -> None:
    int8 = open_bundle(write_bundle(tmp_path / "int8", precision="int8"))
    assert any("no INT8 convolution" in step for step in start(int8))
    assert start(int8) == []


# What another machine built


def test_bundle_with_code_of_another_machine_is_run_only_if_it_is_trusted(
    machine: GpuMachine, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = LoadOptions(trust_engines=True)
    start(bundle, 1)
    plan, cache = (bundle.root / "engines" / f"sm89-{STEM}.engine", cache_of(bundle))
    before = plan.stat().st_ino
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    with create_backend("rtx", bundle, trusting) as backend:
        backend.segment(Batch.of(frames(1)))
    assert len(machine.trt.compiled) == 1
    assert plan.stat().st_ino == before
    engine, kernels = start(bundle, 1)
    assert engine == f"building {plan.name}: {plan.name} {NOT_OURS}"
    assert kernels == f"runtime cache {cache} dropped: it {NOT_OURS}"
    assert plan.stat().st_ino != before
    assert len(machine.trt.compiled) == 2
    assert start(bundle, 1) == []


@pytest.mark.parametrize("name", ["onnxruntime", "pytorch"])
def test_backends_without_engines_take_no_trust(bundle: Bundle, name: str) -> None:
    with pytest.raises(UsageError, match=f"backend {name} has no trust_engines"):
        create_backend(name, bundle, LoadOptions(trust_engines=True))


# What is compiled on the card


def test_what_was_compiled_once_is_not_compiled_at_the_next_start(
    machine: GpuMachine, bundle: Bundle
) -> None:
    start(bundle, 1, 3, 1)
    assert len(machine.trt.compiled) == 2
    assert f"sm89-{STEM}-{CARD}.cache" in names(bundle.root / "engines")
    start(bundle, 3, 1, 2)
    assert len(machine.trt.compiled) == 3
    start(bundle, 1, 2, 3)
    assert len(machine.trt.compiled) == 3


def test_the_slots_of_a_stream_compile_once(machine: GpuMachine, bundle: Bundle) -> None:
    """With the slot that judges a new engine: there is one golden frame."""
    with create_backend("rtx", bundle) as backend:
        assert len(list(backend.stream(Batch.of(frames(1)) for _ in range(9)))) == 9
    assert len(machine.trt.compiled) == 1


def test_what_was_compiled_is_kept_when_it_is_and_not_at_the_end(
    machine: GpuMachine, bundle: Bundle
) -> None:
    with create_backend("rtx", bundle) as backend:
        backend.segment(Batch.of(frames(2)))
        assert any(name.endswith(".cache") for name in names(bundle.root / "engines"))


def cache_of(bundle: Bundle) -> Path:
    (path,) = (bundle.root / "engines").glob("*.cache")
    return path


def test_a_damaged_cache_is_dropped_and_why(machine: GpuMachine, bundle: Bundle) -> None:
    start(bundle, 1)
    path = cache_of(bundle)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert start(bundle, 1) == [f"runtime cache {path} dropped: it is damaged"]
    assert len(machine.trt.compiled) == 2
    assert path.read_bytes() == whole


def test_a_cache_that_rtx_refuses_is_dropped_and_why(machine: GpuMachine, bundle: Bundle) -> None:
    start(bundle, 1)
    machine.trt.scenario.card = "NVIDIA GeForce RTX 4090 D"
    (told,) = start(bundle, 1)
    assert told.startswith(f"runtime cache {cache_of(bundle)} dropped: TensorRT-RTX rejected it")
    assert len(machine.trt.compiled) == 2
    assert start(bundle, 1) == []


def test_cards_that_share_an_engine_have_caches_of_their_own(bundle: Bundle) -> None:
    with gpu_machine(VERSION) as builder:
        builder.trt.scenario.gpu = False
        build_bundle_engine(bundle, runtime="rtx")
    for name, capability in (("RTX 3090", (8, 6)), ("RTX 5090", (12, 0))):
        for compiled in (1, 0):
            with gpu_machine(VERSION, name=name, capability=capability) as machine:
                assert start(bundle, 1) == []
                assert len(machine.trt.compiled) == compiled
    assert len(list((bundle.root / "engines").glob("*.cache"))) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(
    machine: GpuMachine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    start(bundle)
    monkeypatch.setattr("edgeunet.runtime.gpu.engine.caches.write_cache", refuse)
    told = start(bundle, 2, 2)  # 1 was compiled when the engine was judged
    assert [step.partition(",")[0] for step in told] == ["runtime cache not saved"]
    assert "Read-only file system" in told[0]


def test_each_batch_size_is_captured_as_a_graph(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("rtx", bundle) as backend:
        for count in (1, 3, 1, 3, 1):
            backend.segment(Batch.of(frames(count)))
        assert machine.driver.graphs == 2


def test_an_engine_that_allocates_as_it_runs_is_not_captured(
    machine: GpuMachine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_backend("rtx", bundle) as backend:
        wanted = backend.segment(Batch.of(frames(2))).masks
    monkeypatch.setattr(
        machine.trt.IExecutionContext, "is_stream_capturable", lambda self, stream: False
    )
    with create_backend("rtx", bundle) as backend:
        np.testing.assert_array_equal(backend.segment(Batch.of(frames(2))).masks, wanted)
        assert machine.driver.graphs == 0


def test_nothing_stays_on_the_device(machine: GpuMachine, bundle: Bundle) -> None:
    start(bundle, 1, 2)
    assert machine.driver.memory == machine.driver.pinned == 0
    assert machine.driver.count("retained") == 0


# Machines that it does not run on


def test_a_card_without_engines_is_told_with_what_to_use(bundle: Bundle) -> None:
    with (
        gpu_machine(VERSION, name="NVIDIA H100 PCIe", capability=(9, 0)) as machine,
        pytest.raises(BackendError) as error,
    ):
        create_backend("rtx", bundle)
    assert re.search(
        r"TensorRT-RTX 1\.7\.1\.116 has no engines for the NVIDIA H100 PCIe \(sm90\), only for "
        r"sm75, .*sm89.* Use --backend tensorrt",
        str(error.value),
    )
    assert machine.driver.count("retained") == 0
    assert not (bundle.root / "engines").exists()


def test_no_gpu(bundle: Bundle) -> None:
    with (
        gpu_machine(VERSION, devices=0),
        pytest.raises(BackendError, match="no CUDA-capable device"),
    ):
        create_backend("rtx", bundle)


def test_no_such_gpu_of_several(bundle: Bundle) -> None:
    with gpu_machine(VERSION, devices=2):
        with create_backend("rtx", bundle, LoadOptions(device=1)) as backend:
            assert backend.segment(Batch.of(frames(1))).masks.shape == (1, 16, 16)
        with pytest.raises(BackendError, match="there is no GPU 2; found GPUs 0 to 1"):
            create_backend("rtx", bundle, LoadOptions(device=2))


@pytest.mark.parametrize("option", ["dla", "workspace_mb"])
def test_what_tunes_an_engine_is_refused(machine: GpuMachine, bundle: Bundle, option: str) -> None:
    with pytest.raises(UsageError, match="--dla and --workspace are for --runtime tensorrt"):
        RtxBackend(bundle, **{option: 1})


def test_missing_rtx_names_the_extra(machine: GpuMachine, bundle: Bundle) -> None:
    sys.modules["tensorrt_rtx_bindings"] = None  # type: ignore[assignment]
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[rtx\]'"):
        create_backend("rtx", bundle)
    assert machine.driver.count("retained") == 0


def test_rtx_that_does_not_load_says_why(
    machine: GpuMachine, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_rtx_bindings.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    del sys.modules["tensorrt_rtx_bindings"]
    with pytest.raises(EngineError, match=r"TensorRT-RTX is installed, but .*libfoo\.so"):
        create_backend("rtx", bundle)


def test_gpu_lost_midway_is_told(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("rtx", bundle) as backend:
        results = backend.stream(Batch.of(frames(1)) for _ in range(20))
        next(results)
        machine.driver.lost = True
        with pytest.raises(BackendError, match=r"launch failure.*restart the program"):
            list(results)


def test_failed_runs_and_contexts_carry_the_words_of_rtx(
    machine: GpuMachine, bundle: Bundle
) -> None:
    with create_backend("rtx", bundle) as backend:
        machine.trt.scenario.context_errors = ("no room",)
        with pytest.raises(BackendError, match="TensorRT-RTX cannot create a context: no room"):
            backend.segment(Batch.of(frames(1)))
        machine.trt.scenario.context_errors = ()
        machine.trt.scenario.enqueue_errors = ("Myelin graph execution failed",)
        with pytest.raises(BackendError, match="Myelin graph execution failed"):
            backend.segment(Batch.of(frames(1)))


# The automatic choice


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("edgeunet.runtime.backends.fallback.has_gpu", lambda: True)


@pytest.mark.usefixtures("no_tensorrt")
def test_auto_runs_rtx_and_goes_on_without_a_gpu_that_was_lost(
    fp32_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    with gpu_machine(VERSION) as machine, load(copy) as segmenter:
        assert segmenter.backend.name == "rtx"
        assert segmenter.self_check() > 0.999
        machine.driver.lost = True
        assert segmenter.self_check() > 0.999
        assert segmenter.backend.name == "onnxruntime"
    assert re.search(r"launch failure.* Going on with ONNX Runtime on the CPU\.", caplog.text)


@pytest.mark.usefixtures("no_tensorrt")
@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ({"devices": 0}, "no CUDA-capable device is detected"),
        ({"name": "Orin", "capability": (8, 7)}, "has no engines for the Orin (sm87)"),
    ],
)
def test_auto_tells_once_why_rtx_does_not_run(
    fp32_bundle: Path, gpu: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with gpu_machine(VERSION, **gpu), create_backend("auto", open_bundle(fp32_bundle)) as backend:
        assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert words in record.getMessage() and "Going on with ONNX Runtime" in record.getMessage()
