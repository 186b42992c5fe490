"""What ONNX Runtime is given: options by what the CPU has, and only content that was checked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import BackendError, BundleError, GraphError
from edgeunet.runtime.backends import ort
from support.hostile_graphs import PLACES, external, model_of

WIDE = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("as_written", "lacking", "wide"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_wider_products_are_requested_only_without_vnni(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, as_written: bool, lacking: bool, wide: bool
) -> None:
    """With VNNI they would cost more than half of the speed."""
    monkeypatch.setattr(ort, "lacks_vnni", lambda: lacking)
    path = open_bundle(int8_bundle).model_path("int8.cpu")
    with ort.OrtNet(path, as_written=as_written) as net:
        options = net._first.get_session_options()
        if wide:
            assert options.get_session_config_entry(WIDE) == "1"
        else:
            with pytest.raises(RuntimeError, match=WIDE):
                options.get_session_config_entry(WIDE)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that sessions are opened of."""
    seen = []
    session = ort.onnxruntime.InferenceSession

    def spy(model: Any, *arguments: Any, **keywords: Any) -> Any:
        seen.append(model)
        return session(model, *arguments, **keywords)

    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", spy)
    return seen


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_graph_that_reads_other_files_is_refused_before_onnx_runtime(
    place: str, as_file: bool, tmp_path: Path, given: list[Any]
) -> None:
    content = PLACES[place]().SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match="tensor 'weights' in another file"):
        ort.OrtNet(path if as_file else content)
    assert given == []


def test_onnx_runtime_itself_would_read_the_file(tmp_path: Path) -> None:
    """Beside the model at least. So the check is what keeps it from that."""
    (tmp_path / "secret").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    path = tmp_path / "net.onnx"
    model = model_of(initializers=(external("kernel", "secret"),))
    del model.graph.initializer[0]
    path.write_bytes(model.SerializeToString())
    session = ort.onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (read,) = session.run(None, {"image": np.zeros(4, np.float32)})
    assert read.tolist() == [1, 2, 3, 4]
    with pytest.raises(GraphError, match="in another file"):
        ort.OrtNet(path)


def test_bundles_graphs_are_opened_from_the_bytes_that_were_hashed(
    gated_bundle: Path, given: list[Any]
) -> None:
    opened = open_bundle(gated_bundle)
    with ort.open_flavour(opened, "fp32") as backend:
        backend.net.lane()
    parts = [opened.part_path("fp32", part) for part in ("encoder", "decoder")]
    assert given == 2 * [part.read_bytes() for part in parts if part is not None]


def test_graph_that_changes_between_opening_and_use_is_refused(
    fp32_bundle: Path, tmp_path: Path, given: list[Any]
) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    opened = open_bundle(copy)
    opened.model_path("fp32").write_bytes(model_of().SerializeToString())
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx has SHA-256"):
        ort.open_flavour(opened, "fp32")
    assert given == []


def test_own_format_of_onnx_runtime_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if the check of the bytes missed it."""
    options = ort.onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "net.ort")
    ort.onnxruntime.InferenceSession(
        model_of().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    content = (tmp_path / "net.ort").read_bytes()
    assert content[4:8] == b"ORTM"
    with pytest.raises(GraphError, match="own format"):
        ort.OrtNet(content)
    monkeypatch.setattr(ort, "check_graph", lambda content, name: None)
    with pytest.raises(BackendError, match="cannot load the graph"):
        ort.OrtNet(content)
