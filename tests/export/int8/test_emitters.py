"""The INT8 graphs of a bundle."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgeunet.bundle.manifest import flavour_file


@pytest.mark.parametrize(("flavour", "opset"), [("int8", 17), ("int8.fp16", 19), ("int8.cpu", 17)])
def test_opset_is_what_the_consumer_reads(int8_bundle: Path, flavour: str, opset: int) -> None:
    model = onnx.load(int8_bundle / flavour_file(flavour))  # type: ignore[arg-type]
    assert {e.version for e in model.opset_import if e.domain == ""} == {opset}
