"""Fixtures for tests of the nets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edgeunet.models.checkpoints import save_checkpoint
from support.checkpoints import make_card, make_net


@pytest.fixture
def no_gradients() -> Iterator[None]:
    """Tests that need gradients switch them on."""
    with torch.no_grad():
        yield


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, make_net(), make_card())
    return path
