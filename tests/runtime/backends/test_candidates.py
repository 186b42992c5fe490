"""What `auto` chooses from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.errors import UsageError
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends.candidates import Candidate, candidates
from edgeunet.runtime.options import DEFAULTS, LoadOptions


def test_every_precision_of_the_bundle_is_a_candidate(int8_bundle: Path, fp32_bundle: Path) -> None:
    found = candidates(open_bundle(int8_bundle), DEFAULTS)
    ours = [each.label for each in found if each.backend == "onnxruntime"]
    assert ours == ["onnxruntime FP32", "onnxruntime FP16", "onnxruntime INT8"]
    assert Candidate("onnxruntime", "fp32") in candidates(open_bundle(fp32_bundle), DEFAULTS)


def test_a_named_precision_is_the_only_one(int8_bundle: Path, fp32_bundle: Path) -> None:
    found = candidates(open_bundle(int8_bundle), LoadOptions(precision="int8"))
    assert {each.precision for each in found} == {"int8"}
    with pytest.raises(UsageError, match="holds fp32"):
        candidates(open_bundle(fp32_bundle), LoadOptions(precision="int8"))


def test_a_processor_is_one_of_openvinos(int8_bundle: Path) -> None:
    options = LoadOptions(processor="cpu", threads=1)
    found = candidates(open_bundle(int8_bundle), options)
    assert {each.backend for each in found} == {"openvino"}
    assert found[0].options(options) == options
    other = LoadOptions(device=1, dla=0, trust_engines=True)
    assert found[0].options(other) == DEFAULTS, "they are the GPU's by TensorRT"
