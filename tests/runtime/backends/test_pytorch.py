"""The backend of PyTorch; `test_base.py` holds it to the contract of all backends."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeunet.bundle.bundle import CHECKPOINT_NAME, open_bundle
from edgeunet.errors import CheckpointError
from edgeunet.models import Checkpoint
from edgeunet.runtime.backends.pytorch import open_pytorch
from edgeunet.runtime.options import LoadOptions


def test_logits_are_those_of_the_checkpoint(fp32_bundle: Path) -> None:
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    net = Checkpoint.open(fp32_bundle / CHECKPOINT_NAME).net.eval()
    with torch.inference_mode():
        expected = net(torch.from_numpy(images)).numpy()
    with open_pytorch(open_bundle(fp32_bundle), LoadOptions()) as backend:
        outputs = backend.net.infer(images)
    np.testing.assert_array_equal(outputs.logits, expected)
    assert outputs.presence is None


def test_damaged_checkpoint_is_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(shutil.copytree(fp32_bundle, tmp_path / "bundle"))
    (bundle.root / CHECKPOINT_NAME).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        open_pytorch(bundle, LoadOptions())
