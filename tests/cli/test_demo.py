"""`edgeunet demo`; the demo itself is tested in `tests/test_demo.py`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.commands import fails, succeeds


def test_demo_prints_results_and_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Path, bool]] = []

    def demo(output: Path, *, force: bool, report: Any) -> Any:
        called.append((output, force))
        report("exporting")
        parity = SimpleNamespace(table=lambda: "the parity table")
        return SimpleNamespace(parity=parity, bench=None, run=SimpleNamespace(frames=60, rate=12.3))

    monkeypatch.setattr("edgeunet.cli.demo.demo", demo)
    monkeypatch.setattr("edgeunet.cli.demo.table", lambda bench: "the table of the benchmark")
    told = succeeds("demo", "-o", tmp_path / "new", "--force")
    assert called == [(tmp_path / "new", True)]
    assert "exporting" in told.stderr
    for words in ("the parity table", "the table of the benchmark", "60 frames", "12 frames/s"):
        assert words in told.stdout
    assert f"{tmp_path}/new/overlay.mp4" in told.stdout


def test_demo_refuses_an_existing_directory(tmp_path: Path) -> None:
    assert "--force" in fails(2, "demo", "-o", tmp_path)
