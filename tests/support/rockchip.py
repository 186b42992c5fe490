"""Rockchip's toolkit and runtime as stand-ins, which need neither a board nor a network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Precision
from edgeunet.bundle.rknn import RKNN_CARD_NAME, RKNN_NAME, RknnCard, mean_and_std
from edgeunet.bundle.schema import encode
from edgeunet.exporting.npu import rknn_toolkit
from edgeunet.exporting.npu.rknn_graph import rknn_graph
from edgeunet.files import sha256, write_json
from edgeunet.runtime.backends import rknn

PACKAGES = Path(__file__).with_name("rockchip_packages")
_STARTED = "import runpy, sys; sys.path.insert(0, {!r}); runpy.run_path({!r}, run_name='__main__')"


def with_toolkit(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let edgeunet find the stand-in for rknn-toolkit2, and keep logs in a folder."""
    worker = folder / "worker.py"
    worker.write_text(_STARTED.format(str(PACKAGES), str(rknn_toolkit._WORKER)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(rknn_toolkit, "_WORKER", worker)
    monkeypatch.setattr(rknn_toolkit, "ensure_environment", lambda report: sys.executable)


def compiled(source: Bundle, folder: Path, precision: Precision, soc: str = "rk3588") -> Bundle:
    """A copy of a bundle with what stands in for a compiled net."""
    with on_path():
        from fake_rknn import pack

    root = shutil.copytree(source.root, folder / "bundle")
    graph = source.model_path("int8.qnn" if precision == "int8" else "fp32")
    model = rknn_graph(onnx.load_from_string(source.file(graph).read()))
    mean, std = (list(each) for each in mean_and_std(source.manifest.input))
    (root / RKNN_NAME).write_bytes(pack(model.SerializeToString(), mean, std))
    card = RknnCard(
        soc=soc,
        precision=precision,  # type: ignore[arg-type]
        toolkit="2.5.0",
        outputs=tuple(output.name for output in model.graph.output),
        layers={},
        on_cpu=(),
        cycles=1,
    )
    write_json(root / RKNN_CARD_NAME, encode(card))
    added = {name: sha256(root / name) for name in (RKNN_NAME, RKNN_CARD_NAME)}
    manifest = open_bundle(root).manifest
    listed = replace(manifest, precision=precision, files={**manifest.files, **added})
    write_json(root / MANIFEST_NAME, encode(listed))
    return open_bundle(root)


@contextmanager
def on_path() -> Iterator[None]:
    """Lets the stand-ins be imported, and forgets them."""
    before = set(sys.modules)
    sys.path.insert(0, str(PACKAGES))
    try:
        yield
    finally:
        sys.path.remove(str(PACKAGES))
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("rknnlite", "fake_rknn"):
                del sys.modules[name]


@contextmanager
def board(soc: str | None = "rk3588") -> Iterator[Any]:
    """A board with an NPU and rknn-toolkit-lite2; yields its class RKNNLite."""
    with on_path(), pytest.MonkeyPatch.context() as patch:
        from rknnlite.api import RKNNLite

        patch.setattr(rknn, "find_npu", lambda: rknn.Npu(soc, "0.9.8"))
        before = list(RKNNLite.opened)  # of a board around this one
        yield RKNNLite
        RKNNLite.faults.clear()
        assert RKNNLite.opened == before, "contexts were not released"
