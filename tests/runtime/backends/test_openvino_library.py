"""OpenVINO as a library: silent, of the known version; which devices are there, and which not."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError, UsageError
from edgeunet.runtime.backends import openvino_library
from edgeunet.runtime.backends.openvino_library import (
    Device,
    devices,
    find_device,
    load_openvino,
    openvino_precisions,
)
from edgeunet.runtime.options import LoadOptions

pytest.importorskip("openvino", reason="needs the extra [openvino]")
ROOT = Path(__file__).parents[3]

SILENT = """
import sys
from edgeunet.runtime.backends.openvino_library import load_openvino
load_openvino()
sent = [name for name in sys.modules if name.partition(".")[0] == "openvino_telemetry"]
assert not sent, sent
import openvino_telemetry  # others can still have it
"""


def test_it_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    """Which would also leave an identity of the user in the home folder."""
    pytest.importorskip("openvino_telemetry", reason="this OpenVINO has no telemetry")
    done = subprocess.run(
        [sys.executable, "-c", SILENT],
        cwd=ROOT, env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_another_version_or_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.SimpleNamespace(get_version=lambda: "2027.0.0-1-releases/2027/0")
    monkeypatch.setitem(sys.modules, "openvino", other)
    with pytest.raises(BackendError, match=r"OpenVINO 2027\.0\.0 is .* 2026\.x.*>=2026,<2027"):
        load_openvino()
    assert openvino_precisions() == ()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*openvino"):
        load_openvino()
    assert openvino_precisions() == ()


class FakeCore:
    """A machine with a CPU of Sapphire Rapids, two GPUs, and an NPU whose driver fails."""

    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")

    def get_property(self, name: str, key: str) -> Any:
        if name == "NPU":
            raise RuntimeError("Exception from src/npu.cpp:1:\nno driver\n")
        capabilities = {
            "CPU": ("FP32", "FP16", "INT8", "BIN", "BF16"),
            "GPU.0": ("FP32", "FP16", "INT8"),
            "GPU.1": ("FP16",),
        }
        return f"full {name}" if key == "FULL_DEVICE_NAME" else capabilities[name]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_library, "openvino_core", FakeCore)


@pytest.mark.usefixtures("machine")
def test_a_processor_and_an_index_name_a_device() -> None:
    assert find_device().title == "full CPU"
    assert find_device(LoadOptions(processor="cpu", threads=2)).name == "CPU"
    assert find_device(LoadOptions(processor="gpu")).name == "GPU.0"
    assert find_device(LoadOptions(processor="gpu", device=1)).name == "GPU.1"
    assert [each.name for each in devices()] == ["CPU", "GPU.0", "GPU.1"]
    assert openvino_precisions() == ("fp32", "fp16", "bf16", "int8")
    assert openvino_precisions(LoadOptions(processor="gpu", device=1)) == ("fp16",)
    assert openvino_precisions(LoadOptions(processor="npu")) == ()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (
            {"processor": "gpu", "device": 2},
            BackendError,
            "no GPU 2 here; it finds CPU, GPU.0, GPU",
        ),
        ({"processor": "npu"}, BackendError, "cannot use its NPU: no driver .*linux-npu-driver"),
        ({"device": 0}, UsageError, "device 0 for OpenVINO on the CPU; expected --processor gpu"),
        ({"processor": "gpu", "threads": 1}, UsageError, "threads for OpenVINO on the GPU"),
    ],
)
def test_what_is_not_there_is_told(
    options: dict[str, Any], kind: type[EdgeUNetError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        find_device(LoadOptions(**options))


def test_a_type_is_asked_for_by_name() -> None:
    """OpenVINO would take BF16 or FP16 wherever there is some; INT8 takes it for the rest."""
    plain = Device("CPU", "old", ("FP32", "INT8"))
    amx = Device("CPU", "new", ("FP32", "FP16", "BF16", "INT8"))
    gpu = Device("GPU.0", "card", ("FP32", "FP16", "INT8"))
    assert [plain.hint(each) for each in plain.precisions] == ["f32", "f32", "f32"]
    assert [amx.hint(each) for each in amx.precisions] == ["f32", "f16", "bf16", "bf16"]
    assert [gpu.hint(each) for each in gpu.precisions] == ["f32", "f16", "f16"]
    with pytest.raises(UsageError, match=r"CPU \(old\) does not .* BF16; it does in FP32, FP16, I"):
        plain.hint("bf16")


def test_signed_bytes_are_for_processors_with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = Device("CPU", "new", ("FP32", "INT8")), Device("GPU.0", "card", ("FP16", "INT8"))
    for found, wanted in (
        ({"INT8": ("AMX", "VNNI")}, True),
        ({"INT8": ("VNNI",), "BF16": ("AMX",)}, False),
        ({}, False),
    ):
        monkeypatch.setattr(openvino_library, "instructions", lambda found=found: found)
        assert cpu.prefers_signed is wanted
        assert not gpu.prefers_signed


def test_this_machine_has_a_processor() -> None:
    assert find_device().is_cpu
    assert {"fp32", "int8"} <= set(openvino_precisions())
    assert find_device() in devices()


SIGNAL_AFTER_ANOTHER_THREAD = """
import signal, threading
from edgeunet.runtime.backends.openvino_library import openvino_core

held = [openvino_core()]
held[0].get_property("CPU", "FULL_DEVICE_NAME")  # loads the CPU's part
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_is_handled_after_another_thread_left_the_core() -> None:
    code = [sys.executable, "-c", SIGNAL_AFTER_ANOTHER_THREAD]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
