"""What ONNX Runtime is given: only content that was checked; and what comes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import PARTS, Flavour, flavour_file, part_file
from edgeunet.errors import BackendError, BundleError, GraphError
from edgeunet.files import sha256
from edgeunet.runtime.backends import ort, parts
from edgeunet.runtime.backends.tiling import TiledBackend
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import Tiling
from support.hostile_graphs import PLACES, external, model_of
from support.small_bundle import write_bundle

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("flavour", "rounds"),
    [("fp32", False), ("int8.cpu", False), ("fp16", True), ("int8", True), ("int8.fp16", True)],
)
@pytest.mark.parametrize("gated", [False, True])
def test_graphs_of_engines_get_and_give_what_an_engine_does(
    tmp_path: Path, flavour: Flavour, rounds: bool, gated: bool
) -> None:
    """All that enters or leaves is FP16, features between two parts too."""
    bundle = write_bundle(tmp_path / "bundle", precision="fp32", gated=gated)
    names = [part_file("fp32", part) for part in PARTS] if gated else [flavour_file("fp32")]
    paths = [bundle / name for name in names]
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)

    def ends(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float16 if rounds else np.float32)

    wanted = ends(ends(images).astype(np.float32).sum(1, keepdims=True))
    # Whatever the flavour, the graph is FP32, so that nothing else is rounded.
    with ort.OrtNet(paths[0], decoder=paths[1] if gated else None, flavour=flavour) as net:
        logits, presence = net.infer(images)
    assert logits.dtype == np.float32
    # A sum of three depends on their order by some 1e-7, which seldom moves a rounding.
    assert np.isclose(logits, wanted, rtol=0, atol=1e-6).mean() > 0.99
    assert np.array_equal(ends(logits), logits)
    assert presence is None or np.array_equal(ends(presence), presence)


def test_an_image_beyond_fp16_is_infinite_as_in_an_engine(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", precision="fp32")
    with ort.OrtNet(bundle / flavour_file("fp32"), flavour="int8") as net:
        logits = net.infer(np.full((1, 3, 16, 16), 1e5, np.float32)).logits
    assert np.isposinf(logits).all()


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
    monkeypatch.setattr(parts, "check_graph", lambda content, name: None)
    with pytest.raises(BackendError, match="cannot load the graph"):
        ort.OrtNet(content)


# Graphs that do not fit their manifest


def with_graph(bundle: Path, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    """A bundle whose FP32 graph was changed, whole by its hashes."""
    path = bundle / "model.fp32.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][path.name] = sha256(path)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return open_bundle(bundle)


@pytest.fixture
def copy(fp32_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))


def _append(*nodes: onnx.NodeProto, shape: Any, kind: int = onnx.TensorProto.FLOAT) -> Any:
    """A change: nodes behind the logits, whose output is declared like this."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = [f"{n}_before" if n == "logits" else n for n in node.output]
        model.graph.node.extend(nodes)
        output = onnx.helper.make_tensor_value_info("logits", kind, shape)
        model.graph.output[0].CopyFrom(output)

    return change


FLAT = onnx.helper.make_node("Flatten", ["logits_before"], ["logits"])
HALF = onnx.helper.make_node("Cast", ["logits_before"], ["logits"], to=onnx.TensorProto.FLOAT16)
COPY = onnx.helper.make_node("Identity", ["logits_before"], ["logits"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_append(FLAT, shape=["n", "m"]), r"tensor\(float\) \['n', 4608\]"),
        (_append(HALF, shape=["n", 3, 32, 48], kind=10), r"tensor\(float16\)"),
        (lambda model: model.graph.output.append(model.graph.output[0]), "has|cannot load"),
        (
            lambda model: model.graph.input.append(
                onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1])
            ),
            r"expected one image .*, the graph has .*, tensor\(float\) \[1\]",
        ),
    ],
)
def test_ends_that_the_manifest_does_not_tell_are_refused(
    copy: Path, change: Any, found: str
) -> None:
    with pytest.raises((BundleError, BackendError), match=found):
        ort.open_flavour(with_graph(copy, change), "fp32")


def test_manifest_of_another_net_is_refused(copy: Path) -> None:
    opened = open_bundle(copy)
    two = {"classes": ("a", "b"), "palette": ((0, 0, 0), (1, 1, 1))}
    for change in (two, {"logits_size": (16, 48)}, {"gate": (0.5,) * 3}):
        with pytest.raises(BundleError, match=r"expected one (logits|presence) tensor"):
            ort.open_flavour(replace(opened, manifest=replace(opened.manifest, **change)), "fp32")


def test_output_of_a_shape_that_the_graph_does_not_declare_is_refused(copy: Path) -> None:
    """A shape that is computed from the image is not known before."""
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        node("Constant", [], ["zero"], value=tensor(np.float32(0))),
        node("Constant", [], ["sides"], value=tensor(np.int64([-1, 3, 16, 96]))),
        node("Mul", ["image", "zero"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["nothing"], to=onnx.TensorProto.INT64),
        node("Add", ["sides", "nothing"], ["shape"]),
        node("Reshape", ["logits_before", "shape"], ["logits"]),
    ]
    opened = with_graph(copy, _append(*nodes, shape=None))
    with ort.open_flavour(opened, "fp32") as backend:
        frame = opened.golden().frames[0]
        with pytest.raises(BackendError, match=r"expected logits float32 \(1, 3, 32, 48\)"):
            backend.segment(Batch.of([frame]))
        tiled = TiledBackend(backend, Tiling())
        with pytest.raises(BackendError, match=r"got float32 \(1, 3, 16, 96\)"):
            tiled.segment(Batch.of([frame]))


SILENT = """
import sys
from edgeunet.runtime import load
load(sys.argv[1], "onnxruntime").close()
"""


def test_it_runs_without_its_telemetry(tmp_path: Path) -> None:
    """Which would also leave an identity of the user in the home folder."""
    bundle = write_bundle(tmp_path / "bundle", precision="fp32", gated=False)
    home = tmp_path / "home"
    home.mkdir()
    # Without CI, which switches it off too.
    environment = {"HOME": str(home), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", SILENT, bundle],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
