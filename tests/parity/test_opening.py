"""What a bundle keeps to be compared with: a checkpoint, or its FP32 graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import UsageError
from edgeunet.parity import golden_samples, measure
from edgeunet.parity.opening import GraphReference, open_reference
from edgeunet.parity.torch_reference import TorchReference
from support.commands import succeeds


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "bundle"
    edgeunet.export(nn.Conv2d(3, 2, 3, padding=1).eval(), path, size=(32, 48))
    return path


def test_a_variant_is_compared_with_its_checkpoint(fp32_bundle: Path) -> None:
    assert isinstance(open_reference(open_bundle(fp32_bundle)), TorchReference)


def test_another_net_is_compared_with_its_graph(foreign: Path) -> None:
    bundle = open_bundle(foreign)
    reference = open_reference(bundle)
    assert isinstance(reference, GraphReference)
    golden = bundle.golden()
    for frame, mask in zip(golden.frames, golden.masks, strict=True):
        assert np.array_equal(reference.segment(frame)[1], mask)
    report, _ = measure(bundle, golden_samples(bundle), data="golden")
    assert report.reference == "its FP32 graph"
    assert report.first_failure is None


def test_command_names_the_reference(foreign: Path) -> None:
    result = succeeds("parity", foreign)
    assert "all stages agree with its FP32 graph" in result.output


def test_pytorch_cannot_run_a_net_whose_code_is_not_kept(foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no checkpoint: Conv2d is not one of our nets"):
        edgeunet.load(foreign, backend="pytorch")
