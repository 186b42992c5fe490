"""A Hub, and a bundle for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.hub_server import hub  # noqa: F401 - a fixture
from support.small_bundle import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")
