"""New engines are judged by the golden frames, once, and FP16 engines improved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import EngineCard, read_card
from edgeunet.errors import BundleError, ParityError
from edgeunet.runtime import load
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.tensorrt_engines import Engines
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.commands import fails, succeeds
from support.engine_builds import STRONG, VERSIONS, WEAK, Install, ends, plan_of
from support.fake_tensorrt import NoTactic
from support.gpu_machine import GpuMachine, gpu_machine
from support.small_bundle import write_bundle

RTX = "rtx-1.7.1"
# Of the 256 pixels of the only golden frame.
ONE, FEW, MANY = 1 / 256, 3 / 256, 30 / 256


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", precision="int8")


def judged(root: Path, precision: Any = "fp16") -> tuple[list[str], EngineCard]:
    """What is told of a bundle's last engine while it is opened, and its card on disk."""
    told: list[str] = []
    bundle = open_bundle(root).at(precision)
    with (
        CudaDevice(0) as gpu,
        Engines(bundle, gpu, kind="tensorrt", report=told.append) as engines,
    ):
        (*_, last) = engines.built
        assert len({each.card.agreement for each in engines.built}) == 1
    assert read_card(last.path) == last.card
    assert last.card.is_ours
    return told, last.card


def test_good_engine_is_judged_once_and_nothing_is_told(bundle: Path, install: Install) -> None:
    trt = install("10.3.0")
    told, card = judged(bundle)
    assert (card.agreement, card.fp16_head_agreement) == (1.0, None)
    assert not any("agree" in step for step in told)
    trt.scenario.enqueue_errors = ("it was run again",)
    assert judged(bundle) == ([], card)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_head_of_a_bad_fp16_engine_runs_in_fp32(
    version: str, gated: bool, tmp_path: Path, install: Install
) -> None:
    # A black frame is negative, so this weight opens the gate.
    root = write_bundle(tmp_path / "bundle", gated=gated, weight=-1.0)
    trt = install(version)
    trt.scenario.wrong_in_fp16 = FEW
    told, card = judged(root)
    assert (card.agreement, card.fp16_head_agreement) == (1.0, 1 - FEW)
    text = " ".join(told)
    assert "FP16 agrees with PyTorch on 98.83% of the golden pixels; expected 99.9%." in text
    assert (
        "with the head in FP32, 100.00% of the golden pixels agree; with it in FP16, 98.83% d"
        in (text)
    )
    assert not any("only" in step for step in told)
    head = "decode" if gated else "conv"
    assert head in card.changes.fp32_layers
    remark = "100.00% of the golden pixels agree with PyTorch with the head in FP32, 98.83% with it"
    assert remark in succeeds("inspect", root).stdout
    assert judged(root) == ([], card)


@pytest.mark.parametrize("version", VERSIONS)
def test_precision_of_the_head_is_that_of_the_network(
    version: str, tmp_path: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    root = write_bundle(tmp_path / "bundle")
    trt = install(version)
    trt.scenario.wrong_in_fp16 = FEW
    with CudaDevice(0) as gpu, Engines(open_bundle(root), gpu, kind="tensorrt") as engines:
        (built,) = engines.built
    if version in WEAK:
        network, _ = configured[-1]
        assert network.get_layer(0).precision == trt.DataType.FLOAT
        assert {"FP16", "OBEY_PRECISION_CONSTRAINTS"} <= set(plan_of(built).flags)
        assert ends(built) == {"image": "HALF", "logits": "FLOAT"}
    else:
        model = onnx.load_from_string(plan_of(built).onnx)
        onnx.checker.check_model(model, full_check=True)
        assert [node.op_type for node in model.graph.node] == ["Cast", "Cast", "Conv", "Cast"]


def test_engine_that_stays_bad_is_told_and_not_built_at_each_start(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.16.1")
    trt.scenario.wrong_in_fp16 = ONE
    monkeypatch.setattr("support.fake_tensorrt.builder.precision_of", lambda *_: "HALF")
    told, card = judged(bundle)
    assert card.changes.fp32_layers and card.agreement == card.fp16_head_agreement == 1 - ONE
    assert "in FP16 agrees with PyTorch on only 99.61% of the golden pixels" in told[-1]
    assert judged(bundle) == ([], card)


@pytest.mark.parametrize("version", [WEAK[0], STRONG[0]])
def test_head_that_cannot_run_in_fp32_stays(version: str, bundle: Path, install: Install) -> None:
    trt = install(version)
    trt.scenario.wrong_in_fp16 = FEW
    trt.scenario.no_tactics = (NoTactic("conv", precision="FLOAT"),)
    told, card = judged(bundle)
    assert (card.agreement, card.changes.fp32_layers) == (1 - FEW, ())
    assert any("the head stays in FP16: TensorRT cannot build" in step for step in told)
    assert "on only 98.83%" in told[-1]


@pytest.mark.parametrize(("precision", "promised"), [("int8", "99.0%"), ("fp32", "99.9%")])
def test_other_precisions_are_only_judged(
    precision: str,
    promised: str,
    bundle: Path,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trt = install("10.3.0")
    trt.scenario.wrong_in_fp16 = FEW
    monkeypatch.setattr("support.fake_tensorrt.builder.precision_of", lambda *_: "HALF")
    told, card = judged(bundle, precision)
    assert (card.agreement, card.fp16_head_agreement) == (1 - FEW, None)
    assert f"on only 98.83% of the golden pixels; expected {promised}" in told[-1]


def test_logits_that_are_not_finite_agree_nowhere(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("10.3.0")
    monkeypatch.setattr(
        "support.fake_tensorrt.context._spoil", lambda logits, share: logits.fill(float("nan"))
    )
    _, card = judged(bundle, "fp32")
    assert card.agreement == 0.0


def test_engine_of_another_machine_is_judged_but_not_signed(
    bundle: Path, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be ours then: code that this machine runs without `--trust-engines`."""
    install("10.3.0")
    succeeds("build", bundle, "--runtime", "tensorrt", "--precision", "fp16")
    (plan,) = (bundle / "engines").glob("*.engine")
    path, opened = plan.with_suffix(".json"), open_bundle(bundle).at("fp16")
    path.write_text(path.read_text().replace('"agreement": 1.0', '"agreement": null'))
    before = path.read_bytes()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    with (
        CudaDevice(0) as gpu,
        Engines(opened, gpu, kind="tensorrt", trust_engines=True) as engines,
    ):
        assert engines.built[0].card.agreement == 1.0
    assert path.read_bytes() == before


# The command, and the backend


def test_build_judges_what_it_built(bundle: Path, install: Install) -> None:
    trt = install("10.3.0")
    trt.scenario.wrong_in_fp16 = FEW
    call = ("build", bundle, "--runtime", "tensorrt", "--precision", "fp16")
    made = succeeds(*call)
    assert "built again with its head in FP32" in made.stderr.replace("\n", " ")
    wrote, remark = made.stdout.splitlines()
    assert wrote.startswith("wrote ")
    assert remark.startswith("  100.00% of the golden pixels agree with PyTorch with the head in")
    trt.scenario.enqueue_errors = ("it was run again",)
    kept, again = succeeds(*call).stdout.splitlines()
    assert kept.startswith("kept ") and again == remark


def test_build_fails_where_run_would_refuse(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    trt.scenario.wrong_in_fp16 = MANY
    monkeypatch.setattr("support.fake_tensorrt.builder.precision_of", lambda *_: "HALF")
    call = ("build", bundle, "--runtime", "tensorrt")
    for _ in range(2):
        message = fails(1, *call)
        assert "88.28% of the golden pixels agree with PyTorch; expected 98.0%" in message


@pytest.fixture(params=["10.3.0", RTX])
def machine(request: pytest.FixtureRequest) -> Iterator[GpuMachine]:
    with gpu_machine(request.param) as made:
        yield made


def test_backend_judges_what_it_built_and_runs_the_better_engine(
    machine: GpuMachine, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.trt.scenario.wrong_in_fp16 = FEW
    kind = "rtx" if machine.trt.__name__ == "tensorrt_rtx_bindings" else "tensorrt"
    with load(bundle, kind, precision="fp16") as segmenter:
        assert segmenter.self_check() == 1.0
    assert "with the head in FP32, 100.00% of the golden pixels agree" in caplog.text
    caplog.clear()
    with load(bundle, kind, precision="fp16") as segmenter:
        assert segmenter.self_check() == 1.0
    assert caplog.text == ""


def test_backend_leaves_the_refusal_to_the_check_of_its_caller(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.fake_tensorrt.builder.precision_of", lambda *_: "HALF")
    with gpu_machine() as machine:
        machine.trt.scenario.wrong_in_fp16 = MANY
        with load(bundle, "tensorrt") as segmenter:
            assert "in INT8 agrees with PyTorch on only 88.28%" in caplog.text
            with pytest.raises(ParityError, match=r"88\.28% of the golden pixels"):
                segmenter.self_check()


def test_gated_bundle_is_not_run_whole(tmp_path: Path) -> None:
    opened = open_bundle(write_bundle(tmp_path / "gated", gated=True))
    for name in [name for name in opened.manifest.files if ".decoder." in name]:
        del opened.manifest.files[name]
    with gpu_machine(), pytest.raises(BundleError, match="has a gate, but no decoder"):
        create_backend("tensorrt", opened)
    with gpu_machine(), pytest.raises(BundleError, match="has a gate, but no decoder"):
        create_backend("auto", opened)
