"""Which precision to use: the highest, unless a lower one is faster and right."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Precision, flavour_file
from edgeunet.errors import ParityError, UsageError
from edgeunet.runtime import load
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.bench import PrecisionResult, compare_precisions, decide
from support.exports import edited_bundle


def results(**latencies: float | None) -> list[PrecisionResult]:
    """By precision, None for one that gives wrong masks."""
    names: dict[str, Precision] = {each: each for each in get_args(Precision)}
    return [
        PrecisionResult(names[name], ms, None, "wrong")
        if ms is None
        else PrecisionResult(names[name], ms, 0.99)
        for name, ms in latencies.items()
    ]


@pytest.mark.parametrize(
    ("latencies", "why"),
    [
        ({"fp32": 44.0, "int8": 21.0}, "FP32 44.0 ms, INT8 21.0 ms: use INT8"),
        (
            {"fp32": 44.0, "fp16": 20.0, "int8": 21.0},
            "FP32 44.0 ms, FP16 20.0 ms, INT8 21.0 ms: use FP16; INT8 would be slower",
        ),
        (
            {"fp32": 10.0, "fp16": 30.0, "int8": 20.0},
            "FP32 10.0 ms, FP16 30.0 ms, INT8 20.0 ms: use FP32; FP16 and INT8 would be slower",
        ),
        ({"fp32": 10.0, "int8": 9.8}, "FP32 10.0 ms, INT8 9.8 ms: use FP32; INT8 gains too little"),
        (
            {"fp32": 10.0, "fp16": None, "int8": 5.0},
            "FP32 10.0 ms, INT8 5.0 ms: use INT8; FP16 cannot be used here",
        ),
        ({"fp32": 10.0}, "FP32 10.0 ms: use FP32"),
        (
            {"fp32": 44.0, "fp16": 43.0, "bf16": 15.0, "int8": 14.5},
            "FP32 44.0 ms, FP16 43.0 ms, BF16 15.0 ms, INT8 14.5 ms: use BF16; INT8 gains too "
            "little",
        ),
        (
            {"fp32": 44.0, "bf16": 24.0, "int8": 14.0},
            "FP32 44.0 ms, BF16 24.0 ms, INT8 14.0 ms: use INT8",
        ),
        (
            {"fp32": 44.0, "bf16": None, "int8": 30.0},
            "FP32 44.0 ms, INT8 30.0 ms: use INT8; BF16 cannot be used here",
        ),
    ],
)
def test_the_verdict_and_its_reason(latencies: dict[str, float | None], why: str) -> None:
    verdict = decide(results(**latencies))
    assert verdict.why == why
    assert f"use {verdict.use.upper()}" in why


def spoil(copy: Path, flavour: str) -> str:
    path = copy / flavour_file(flavour)  # type: ignore[arg-type]
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
    onnx.save(model, path)
    return path.name


def test_a_precision_with_wrong_masks_is_not_timed(int8_bundle: Path, tmp_path: Path) -> None:
    copy = edited_bundle(int8_bundle, tmp_path, lambda root: spoil(root, "int8.cpu"))
    verdict = compare_precisions(open_bundle(copy), rounds=1)
    assert verdict.use != "int8"
    last = verdict.results[-1]
    assert (last.precision, last.latency_ms, last.agreement) == ("int8", None, None)
    assert last.problem is not None and "of the golden pixels agree" in last.problem


def test_a_bundle_with_wrong_masks_only_gets_none(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = edited_bundle(fp32_bundle, tmp_path, lambda root: spoil(root, "fp32"))
    with pytest.raises(ParityError, match="of the golden pixels agree"):
        compare_precisions(open_bundle(copy), rounds=1)


def test_a_bundle_runs_in_the_precisions_that_it_holds(
    int8_bundle: Path, fp32_bundle: Path
) -> None:
    frames = list(open_bundle(int8_bundle).golden().frames)
    with load(int8_bundle, precision="fp32") as exact, load(int8_bundle) as quantized:
        assert exact.manifest.precision == "fp32"
        first, second = (
            s.backend.net.infer(Preprocessor(s.manifest.input)(frames[:1]))
            for s in (exact, quantized)
        )
        assert not np.array_equal(first.logits, second.logits)
    with pytest.raises(UsageError, match=r"with int8, but .* was exported for fp32 and holds fp32"):
        load(fp32_bundle, precision="int8")
    with pytest.raises(UsageError, match="pytorch computes in FP32 and BF16; precision int8"):
        load(int8_bundle, "pytorch", precision="int8")


def test_every_bundle_can_be_run_in_bf16_by_who_computes_it(
    int8_bundle: Path, fp32_bundle: Path
) -> None:
    for path in (int8_bundle, fp32_bundle):
        at = open_bundle(path).at("bf16")
        assert (at.manifest.precision, at.manifest.flavours) == ("bf16", ("fp32",))
        with load(path, "pytorch", precision="bf16") as rounded, load(path, "pytorch") as exact:
            assert 0.98 < rounded.self_check() < 1 == exact.self_check()
        for backend in ("onnxruntime", "tensorrt", "rtx"):
            with pytest.raises(UsageError, match=f"{backend} does not compute in BF16.* pytorch"):
                load(path, backend, precision="bf16")
