"""All passes for ONNX Runtime together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeunet.export.graphs.passes.cancel_transposes import cancel_transposes
from edgeunet.export.graphs.passes.graph import origin
from edgeunet.export.int8.quantize import FOR_CPU
from edgeunet.models import list_models
from support.graphs import run, traced


@pytest.mark.parametrize("name", list_models())
def test_all_passes_leave_every_variant_its_function(name: str, tmp_path: Path) -> None:
    model = rewritten = onnx.load(traced(name, tmp_path))
    for rewrite in (*FOR_CPU, cancel_transposes):
        rewritten = rewrite(rewritten)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-4)
    names = {node.name for node in model.graph.node}
    assert {origin(node.name) for node in rewritten.graph.node} <= names
