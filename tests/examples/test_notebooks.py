"""The notebooks run from their first cell to their last, and their outputs stay small."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from support.commands import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
LARGEST = 128 * 1024


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Kinds of what each cell with code shows."""
    return [
        [kind for output in cell.outputs for kind in output.get("data", {"text": ""})]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = read(path)
    kept = outputs(notebook)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    for cell, (before, after) in enumerate(zip(kept, outputs(notebook), strict=True)):
        assert set(before) <= set(after), f"cell {cell} shows something else now"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_and_ran_in_order(path: Path) -> None:
    assert path.stat().st_size <= LARGEST
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert not re.search(r"/(home|root|tmp)/", path.read_text(encoding="utf-8"))
