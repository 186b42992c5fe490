"""Opening bundles: complete ones open; damaged, foreign and unsafe ones are refused."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle import bundle as bundles
from edgeunet.bundle.bundle import open_bundle, strangers_in
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import BundleError, UsageError
from support.hostile_graphs import PLACES

FILES = ("checkpoint.json", "checkpoint.safetensors", "golden.npz", "model.fp32.onnx")


@pytest.fixture
def bundle(fp32_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))


def manifest_of(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return manifest


def edit(bundle: Path, path: str, value: object) -> None:
    """Set one value of the manifest, such as `input.height`."""
    manifest = manifest_of(bundle)
    *parents, last = path.split(".")
    target = manifest
    for key in parents:
        target = target[key]
    target[last] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def list_file(bundle: Path, name: str, content: bytes) -> None:
    """Add `name` to the manifest, with the hash of `content`."""
    files = {**manifest_of(bundle)["files"], name: hashlib.sha256(content).hexdigest()}
    edit(bundle, "files", files)


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    return str(error.value)


# Valid bundles


def test_opens_and_describes_its_content(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    manifest = bundle.manifest
    assert bundle.root == fp32_bundle
    assert (manifest.model, manifest.precision) == ("mobile_unet", "fp32")
    assert manifest.input == InputSpec(64, 96)
    assert manifest.logits_size == (32, 48)  # half the input's: the runtime upsamples
    assert sorted(manifest.files) == sorted(FILES)
    assert bundle.model_path("fp32") == fp32_bundle / "model.fp32.onnx"


def test_opens_by_string_relative_path_and_link(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.parent / "link").symlink_to(bundle, target_is_directory=True)
    monkeypatch.chdir(bundle.parent)
    wanted = open_bundle(bundle).manifest
    for path in ("bundle", str(bundle), "link"):
        assert open_bundle(path).manifest == wanted


def test_golden_frames_round_trip(bundle: Path) -> None:
    rng = np.random.default_rng(0)
    written = {
        "frames": rng.integers(0, 256, (2, 5, 7, 3), np.uint8),
        "masks": rng.integers(0, 3, (2, 5, 7), np.uint8),
        "logits": rng.normal(size=(2, 3, 32, 48)).astype(np.float32),
    }
    np.savez_compressed(bundle / "golden.npz", **written)
    list_file(bundle, "golden.npz", (bundle / "golden.npz").read_bytes())
    golden = open_bundle(bundle).golden()
    for name, array in written.items():
        read = getattr(golden, name)
        assert read.dtype == array.dtype
        assert np.array_equal(read, array)


def test_golden_frames_of_an_export_fit_the_manifest(fp32_bundle: Path) -> None:
    golden = open_bundle(fp32_bundle).golden()
    count = len(golden.frames)
    assert count >= 1
    assert golden.frames.shape == (count, 64, 96, 3)
    assert golden.masks.shape == (count, 64, 96)
    assert golden.logits.shape == (count, 3, 32, 48)
    assert golden.masks.max() < 3
    assert np.isfinite(golden.logits).all()


@pytest.mark.parametrize(
    "flavour", ["fp16", "int8", "int8.fp16", "int8.cpu", "int8.openvino", "int8.qnn"]
)
def test_refuses_a_flavour_that_was_not_exported(fp32_bundle: Path, flavour: Any) -> None:
    with pytest.raises(UsageError) as error:
        open_bundle(fp32_bundle).model_path(flavour)
    message = str(error.value)
    assert f"expected a bundle with {flavour}, " in message
    assert "was exported for fp32 and holds fp32." in message
    assert "Export it again with --fp16 or --int8" in message


# Not a bundle


def test_refuses_a_missing_directory_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for name in ("nowhere", "file"):
        message = refusal(tmp_path / name)
        assert f"{tmp_path / name} is not a directory" in message
        assert "`edgeunet export` makes one" in message


def test_refuses_a_directory_without_a_manifest(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert f"{tmp_path} is not a bundle: it has no manifest.json" in message
    assert "`edgeunet export` writes one" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"precision: fp32"])
def test_refuses_a_manifest_that_is_not_json(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    assert f"{bundle / 'manifest.json'} cannot be read as JSON" in refusal(bundle)


@pytest.mark.parametrize("version", [0, 1, None, "2", [2], True])
def test_refuses_an_unknown_schema_version(bundle: Path, version: object) -> None:
    edit(bundle, "schema_version", version)
    message = refusal(bundle)
    assert f"has schema version {version!r}; this edgeunet reads 2" in message
    assert "Export the bundle again (`edgeunet export --model " in message
    assert "`), or install the edgeunet that wrote it" in message


@pytest.mark.parametrize("content", ["[]", "null", "{}", '"manifest"'])
def test_refuses_a_manifest_without_a_schema_version(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_text(content)
    assert "has schema version None; this edgeunet reads 2" in refusal(bundle)


# Wrong values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("precision", "int4", "$.precision: expected one of fp32, fp16, bf16, int8, got 'int4'"),
        ("precision", "bf16", "$.precision: expected one of fp32, fp16, int8, got 'bf16'"),
        ("classes", "abc", "$.classes: expected a list, got str"),
        ("classes", [1, 2, 3], "$.classes[0]: expected str, got 1"),
        ("palette", [[0, 0, 0]], "3 classes, but 1 colours"),
        ("palette", [[0, 0, 0], [1, 1, 1], [2, 2]], "$.palette[2]: expected 3 entries, got 2"),
        ("palette", [[0, 0, 0], [1, 1, 1], [2, 2, 300]], "palette"),
        ("palette", [[0, 0, 0], [1, 1, 1], [2, 2, -1]], "palette"),
        ("input.height", -64, "$.input: input is -64x96; sides must be positive"),
        ("input.width", 0, "$.input: input is 64x0; sides must be positive"),
        ("input.height", 10**9, "$.input: input is 1000000000x96; at most 67108864 pixels"),
        ("classes", [], "0 classes; 1 to 256 are possible"),
        ("classes", ["x"] * 257, "257 classes; 1 to 256 are possible"),
        ("logits_size", [32768, 32768], "logits_size is (32768, 32768); at most 67108864 pixels"),
        ("max_batch", 10**9, "max_batch is 1000000000; it must be at least 1 and at most 1024"),
        ("depths", {"10": ""}, "depths: expected numbers below the net's own depth, got '10'"),
        ("input.width", 96.0, "$.input.width: expected int, got 96.0"),
        ("input.depth", "uint7", "$.input.depth: expected one of uint8, uint16, int16, float32"),
        ("input.channels", ["gray"], "$.input: mean and std need 1 values for gray"),
        ("input.channels", ["red", "red", "blue"], "$.input: channels: 'red' occurs twice"),
        ("input.channels", ["a", "b\n", "c"], "$.input: channels: 'b\\n' is no name"),
        ("input.channels", [f"b{n}" for n in range(99)], "expected 1 to 64 names, got 99"),
        ("input.levels", [255, 0], "$.input: levels are 255, 0; expected two finite values"),
        ("input.levels", [0, math.nan], "$.input: levels are 0, nan"),
        ("input.fill", 3, "$.input: fill is 3.0 with resize 'stretch'; it is for padding"),
        (
            "input.resize",
            "crop",
            "$.input.resize: expected one of stretch, pad, pad_centre",
        ),
        ("input.mean", [0.5, 0.5], "$.input: mean and std need 3 values"),
        ("input.mean", [0.5, 0.5, math.nan], "$.input"),
        ("input.std", [0.2, 0, 0.2], "$.input: std is (0.2, 0.0, 0.2); it must be positive"),
        ("input.std", [0.2, -1, 0.2], "it must be positive"),
        ("input.std", [0.2, math.nan, 0.2], "it must be positive"),
        ("input.std", [0.2, 0.2, "0.2"], "$.input.std[2]: expected float, got '0.2'"),
        ("input", None, "$.input: expected an object, got NoneType"),
        ("logits_size", [32], "$.logits_size: expected 2 entries, got 1"),
        ("logits_size", [-32, 48], "logits_size"),
        ("max_batch", 0, "max_batch is 0; it must be at least 1"),
        ("max_batch", True, "$.max_batch: expected int, got True"),
        ("gate", [0.5], "3 classes, but 1 gate thresholds"),
        ("gate", [0.5, 1.5, 0.5], "thresholds of a probability go from 0 to 1"),
        ("gate", 0.5, "$.gate: expected a list, got float"),
        ("files", [], "$.files: expected an object, got list"),
        ("files", {"model.fp32.onnx": 3}, "$.files.model.fp32.onnx: expected str, got 3"),
        ("comment", "hello", "$ has unknown key 'comment'"),
    ],
)
def test_names_the_path_of_a_wrong_value_in_the_manifest(
    bundle: Path, path: str, value: object, words: str
) -> None:
    edit(bundle, path, value)
    message = refusal(bundle)
    assert f"{bundle / 'manifest.json'} is damaged: $" in message
    assert words in message


def test_every_key_except_gate_depths_and_frames_is_required(bundle: Path) -> None:
    whole = manifest_of(bundle)
    for key in set(whole) - {"schema_version", "gate", "depths", "frames"}:
        without = {name: value for name, value in whole.items() if name != key}
        (bundle / "manifest.json").write_text(json.dumps(without))
        assert f"$ lacks {key!r}" in refusal(bundle)
    del whole["gate"], whole["depths"]
    (bundle / "manifest.json").write_text(json.dumps(whole))
    opened = open_bundle(bundle)
    assert (opened.manifest.gate, opened.depths) == (None, ())


# Changed files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_detects_one_changed_bit(bundle: Path, name: str, place: float) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (bundle / name).write_bytes(content)
    message = refusal(bundle)
    assert f"{bundle / name} has SHA-256 {hashlib.sha256(content).hexdigest()[:12]}" in message
    assert "copy the bundle again, or export it again" in message


@pytest.mark.parametrize("name", FILES)
def test_names_a_missing_file(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"{bundle} lacks {name}. Copy the bundle again" in refusal(bundle)


def test_directory_in_place_of_a_file_counts_as_missing(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    (bundle / "golden.npz").mkdir()
    assert "lacks golden.npz" in refusal(bundle)


@pytest.mark.parametrize("name", sorted({*FILES} - {"checkpoint.json"}))
def test_refuses_a_file_without_a_hash(bundle: Path, name: str) -> None:
    files = manifest_of(bundle)["files"]
    del files[name]
    edit(bundle, "files", files)
    assert f"{bundle / 'manifest.json'} lists no hash for {name}" in refusal(bundle)


def test_refuses_a_precision_whose_graphs_are_not_listed(bundle: Path) -> None:
    edit(bundle, "precision", "int8")
    assert "lists no hash for model.fp16.onnx. Export the bundle again." in refusal(bundle)


def test_each_file_is_read_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noted(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(path: Path, **arguments: Any) -> Any:
            opened.append(path.name)
            return read(path, **arguments)

        return reading

    for name in ("read_file", "sha256"):
        monkeypatch.setattr(bundles, name, noted(getattr(bundles, name)))
    open_bundle(bundle)
    assert sorted(opened) == sorted(FILES)


# Golden frames


def put_golden(bundle: Path, **arrays: Any) -> None:
    """Other golden frames, with their hash."""
    np.savez_compressed(bundle / "golden.npz", **arrays)
    list_file(bundle, "golden.npz", (bundle / "golden.npz").read_bytes())


def test_refuses_a_bundle_without_golden_frames(bundle: Path) -> None:
    golden = open_bundle(bundle).golden()
    put_golden(bundle, **{name: array[:0] for name, array in vars(golden).items()})
    message = refusal(bundle)
    assert "golden.npz does not hold golden frames: its frames are uint8 (0, 64, 96, 3)" in message
    assert "Export the bundle again" in message


def test_refuses_golden_frames_of_another_net(bundle: Path) -> None:
    golden = vars(open_bundle(bundle).golden())
    put_golden(bundle, **{**golden, "logits": golden["logits"][:, :2]})
    assert "its logits are float32" in refusal(bundle)
    put_golden(bundle, **{**golden, "masks": golden["masks"][:, ::2]})
    assert "its masks are uint8" in refusal(bundle)


def test_golden_logits_that_are_no_numbers_are_refused(bundle: Path) -> None:
    golden = vars(open_bundle(bundle).golden())
    put_golden(bundle, **{**golden, "logits": golden["logits"] * np.nan})
    with pytest.raises(BundleError, match="its logits are not finite"):
        open_bundle(bundle).golden()


# Graphs that read other files


def put_graph(bundle: Path, content: bytes) -> None:
    """Another FP32 graph, with its hash."""
    (bundle / "model.fp32.onnx").write_bytes(content)
    list_file(bundle, "model.fp32.onnx", content)


@pytest.mark.parametrize("place", PLACES)
def test_refuses_a_graph_with_values_in_another_file(bundle: Path, place: str) -> None:
    put_graph(bundle, PLACES[place]().SerializeToString())
    message = refusal(bundle)
    assert f"{bundle / 'model.fp32.onnx'} keeps the values of tensor 'weights'" in message


def test_refuses_such_a_graph_that_no_precision_uses(bundle: Path) -> None:
    content = PLACES["initializer"]().SerializeToString()
    (bundle / "spare.onnx").write_bytes(content)
    list_file(bundle, "spare.onnx", content)
    assert "spare.onnx keeps the values" in refusal(bundle)


@pytest.mark.parametrize("change", ["content", "pipe", "missing"])
def test_file_that_changes_after_opening_is_refused(bundle: Path, change: str) -> None:
    opened = open_bundle(bundle)
    path = opened.model_path("fp32")
    content = opened.file(path).read()
    assert content == path.read_bytes()
    path.unlink()
    if change == "content":
        path.write_bytes(PLACES["initializer"]().SerializeToString())
    elif change == "pipe":
        os.mkfifo(path)
    words = "has SHA-256" if change == "content" else "cannot be read: "
    with pytest.raises(BundleError, match=words):
        opened.file(path).read()


# Bounds


def test_refuses_more_files_than_any_bundle_has(bundle: Path) -> None:
    edit(bundle, "files", {**manifest_of(bundle)["files"], **{f"{n}": "" for n in range(100)}})
    assert "lists 104 files; expected at most 100. Refused." in refusal(bundle)


def test_refuses_a_file_that_would_take_hours_to_read(bundle: Path) -> None:
    with (bundle / "checkpoint.safetensors").open("r+b") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    assert "checkpoint.safetensors is too large: a bundle has at most" in refusal(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "model.fp32.onnx", "golden.npz"])
def test_refuses_what_never_ends(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert name in refusal(bundle)


def test_names_are_escaped_in_errors(bundle: Path) -> None:
    edit(bundle, "files", {"\x1b[2J": 3})
    message = refusal(bundle)
    assert "$.files.\\x1b[2J: expected str, got 3" in message


# Names that leave the bundle


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "./golden.npz",
        "golden.npz/",
        "a/../golden.npz",
        "C:\\x",
        "C:x",
        "..\\x",
        "\\\\host\\share\\x",
    ],
)
def test_refuses_a_file_name_outside_the_bundle(bundle: Path, name: str) -> None:
    # If the name leads to a file, its hash is right: only the name is wrong.
    (bundle.parent / "x").write_bytes(b"content")
    (bundle / "a").mkdir()
    (bundle / "a" / "b").write_bytes(b"content")
    list_file(bundle, name, b"content")
    message = refusal(bundle)
    assert f"names the file {name!r}, which lies outside the bundle. Refused." in message


@pytest.mark.parametrize("name", ["x\0y", "\ud800", "x" * 300])
def test_refuses_an_impossible_file_name(bundle: Path, name: str) -> None:
    list_file(bundle, name, b"content")
    assert repr(name)[1:-1] in refusal(bundle)  # escaped for printing


@pytest.mark.parametrize("name", ["model.fp32.onnx", "golden.npz"])
def test_refuses_a_link_out_of_the_bundle(bundle: Path, name: str) -> None:
    outside = bundle.parent / name
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    message = refusal(bundle)  # although the content is right
    assert f"names the file {name!r}, which lies outside the bundle. Refused." in message


def test_refuses_a_link_to_itself(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    (bundle / "golden.npz").symlink_to("golden.npz")
    assert "golden.npz" in refusal(bundle)


# What else its folder may hold


def test_nothing_is_strange_in_a_bundle(int8_bundle: Path, depths_bundle: Path) -> None:
    assert strangers_in(int8_bundle) == strangers_in(depths_bundle) == []


def test_strange_names_in_a_bundle(bundle: Path) -> None:
    for name in ("engines/a.engine", "engines/a.json", "engines/.a.lock", "engines/k.cubin"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).touch()
    assert strangers_in(bundle) == []
    (bundle / "depths" / "1").mkdir(parents=True)
    for name in ("notes.txt", "engines/thesis.doc", "depths/1/photo.jpg", "depths/readme"):
        (bundle / name).touch()
    assert strangers_in(bundle) == [
        "notes.txt",
        "engines/thesis.doc",
        "depths/1/photo.jpg",
        "depths/readme",
    ]


def test_bundle_that_cannot_be_opened_is_still_one(bundle: Path) -> None:
    edit(bundle, "schema_version", 99)
    (bundle / "golden.npz").unlink()
    assert strangers_in(bundle) == []


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"files": 3}', '{"icons": []}', "[" * 100_000, "\0" * 2_000_000]
)
def test_all_is_strange_in_a_folder_that_is_no_bundle(tmp_path: Path, manifest: str) -> None:
    """Web applications have a file of that name too."""
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "index.html").touch()
    assert strangers_in(tmp_path) == ["index.html", "manifest.json"]


# Pickled code


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_golden_frames_are_never_unpickled(bundle: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    objects = np.array([Evil(ran)], dtype=object)
    np.savez(bundle / "golden.npz", frames=objects, masks=objects, logits=objects)
    list_file(bundle, "golden.npz", (bundle / "golden.npz").read_bytes())
    assert "golden.npz does not hold golden frames: its frames are Python objects" in refusal(
        bundle
    )
    assert not ran.exists()
    # Loading it with pickle runs the code: the test works.
    with np.load(bundle / "golden.npz", allow_pickle=True) as data:
        _ = data["frames"]
    assert ran.exists()
