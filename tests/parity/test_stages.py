"""Stages of a comparison by backend: the closer precisions first, the bundle's own last."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import UsageError
from edgeunet.parity import golden_samples, measure
from edgeunet.parity import stages as stages_module
from edgeunet.parity.stages import open_stages
from edgeunet.runtime.options import DEFAULTS, LoadOptions
from support.commands import data, fails


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Backends and precisions that were opened, none of them in fact."""
    seen: list[tuple[str, str]] = []

    def open_one(name: str, bundle: Any, options: LoadOptions) -> Any:
        seen.append((name, bundle.manifest.precision))
        return ExitStack()

    monkeypatch.setattr(stages_module, "create_backend", open_one)
    return seen


@pytest.mark.parametrize(
    ("able", "precision", "names"),
    [
        (("fp32", "fp16", "bf16", "int8"), "int8", ["fp32", "fp16", "bf16", "int8"]),
        (("fp32", "fp16", "bf16", "int8"), "bf16", ["fp32", "bf16"]),
        (("fp32", "fp16", "int8"), "int8", ["fp32", "fp16", "int8"]),
        (("fp16", "int8"), "fp16", ["fp16"]),
    ],
)
def test_openvino_has_a_stage_for_what_it_can_compute_in(
    able: Any, precision: Any, names: list[str], int8_bundle: Path,
    opened: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stages_module, "precisions_of", lambda name, options: able)
    bundle = open_bundle(int8_bundle).at(precision)
    with ExitStack() as stack:
        assert list(open_stages(bundle, "openvino", DEFAULTS, stack, False)) == names
    assert opened == [("openvino", name) for name in names]


def test_openvino_agrees_stage_by_stage(int8_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra [openvino]")
    bundle = open_bundle(int8_bundle)
    report, _ = measure(
        bundle, golden_samples(bundle), data="golden", backend="openvino",
        options=LoadOptions(threads=1),
    )  # fmt: skip
    names = [stage.name for stage in report.stages]
    assert names[:4] == ["preprocessing", "postprocessing", "fp32", "fp16"]
    assert (names[-1], report.backend) == ("int8", "openvino")
    fp32, fp16 = report.stages[2:4]
    assert fp32.ok and fp16.ok
    assert fp32.logit_max < fp16.logit_max < report.candidate.logit_max


def test_the_loss_of_bf16_shows_on_every_machine(fp32_bundle: Path) -> None:
    shown = data("parity", fp32_bundle, "--backend", "pytorch", "--precision", "bf16")
    last = shown["stages"][-1]
    assert (shown["precision"], last["name"], last["ok"]) == ("bf16", "bf16", True)
    assert 0.99 < last["agreement"] < 1 and last["logit_max"] > 1e-3
    message = fails(2, "parity", fp32_bundle, "--precision", "bf16")
    assert "backend onnxruntime does not compute in BF16; openvino and pytorch can" in message
    with pytest.raises(UsageError, match="onnxruntime has no processor"):
        measure(open_bundle(fp32_bundle), [], data="", options=LoadOptions(processor="gpu"))


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_options_for_onnx_runtime_are_used_or_refused(
    backend: str, fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, given = open_bundle(fp32_bundle), list[Any]()
    with pytest.raises(UsageError, match="device is 1, but ONNX Runtime runs on the CPU"):
        measure(bundle, [], data="", backend=backend, options=LoadOptions(device=1))
    opened = stages_module.open_flavour
    monkeypatch.setattr(
        stages_module,
        "open_flavour",
        lambda *args, **named: given.append(named["threads"]) or opened(*args, **named),
    )
    with ExitStack() as stack:
        open_stages(bundle, backend, LoadOptions(threads=1), stack, simulate=False)
    assert given == [1]
