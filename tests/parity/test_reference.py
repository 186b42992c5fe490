"""What every reference does around its net: PyTorch's way and the plain one are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeunet.bundle.bundle import open_bundle
from edgeunet.parity.opening import GraphReference, open_reference


def test_graph_and_pytorch_agree(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    torch_reference = open_reference(bundle)
    graph = GraphReference(bundle.model_path("fp32"), torch_reference.card, "graph")
    for frame in bundle.golden().frames:
        wanted, found = torch_reference.segment(frame), graph.segment(frame)
        np.testing.assert_allclose(found[0].logits, wanted[0].logits, rtol=0, atol=1e-3)
        assert np.mean(found[1] == wanted[1]) >= 0.9999
