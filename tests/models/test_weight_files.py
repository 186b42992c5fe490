"""Files of weights: what is read, and what each file is that is refused."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgeunet.errors import CheckpointError
from edgeunet.models.weight_files import check_tensors, read_weight_file
from support.checkpoints import make_net

STATE = {"head.weight": torch.arange(6.0).reshape(2, 3)}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        check_tensors(path, read_weight_file(path))
    message = str(error.value)
    assert str(path) in message
    assert "\x1b" not in message
    assert "weights_only" not in message
    assert "\n" not in message
    return message


def written(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


# What is read


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net"])
def test_both_formats_of_pytorch_are_read(tmp_path: Path, name: str, new: bool) -> None:
    path = written(tmp_path / name, {"epoch": 3, **STATE}, _use_new_zipfile_serialization=new)
    content = read_weight_file(path)
    assert content["epoch"] == 3
    assert torch.equal(content["head.weight"], STATE["head.weight"])


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert torch.equal(read_weight_file(tmp_path / name)["head.weight"], STATE["head.weight"])


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.3), np.float32(0.3), np.int64(3), np.bool_(True), np.float16(1),
        np.arange(5), {"best": [np.float64(1)]}, argparse.Namespace(lr=1e-3, best=np.float64(1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("new", [True, False])
def test_plain_values_beside_the_weights_are_passed_over(
    tmp_path: Path, value: Any, new: bool
) -> None:
    content, allowed = {"best": value, "net": STATE}, torch.serialization.get_safe_globals()
    path = written(tmp_path / "net.pth", content, _use_new_zipfile_serialization=new)
    assert torch.equal(read_weight_file(path)["net"]["head.weight"], STATE["head.weight"])
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def test_names_of_old_numpy_are_known(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", {"best": np.float64(0.3), **STATE})
    edit(path, lambda data: data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.equal(read_weight_file(path)["head.weight"], STATE["head.weight"])


# Other files, by name


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the pickle inside an archive."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


def archive_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"1,2")
    return path


def tar_of(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return path


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.0.1"
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "Git LFS": (lambda path: path.write_bytes(LFS), "is a Git LFS pointer.*Run `git lfs pull`"),
    "HTML": (lambda path: path.write_bytes(b"\n<!DOCTYPE html>\n<html>"), "is a web page"),
    "XML": (lambda path: path.write_bytes(b'<?xml version="1.0"?><Error>'), "is a web page"),
    "JSON": (lambda path: path.write_bytes(b'{"weight_map": {}}'), "is JSON"),
    "ONNX": (lambda path: path.write_bytes(ONNX), "is an ONNX graph"),
    "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(99)), "Unpack it"),
    "tar": (tar_of, "is a compressed file or an archive.*Unpack it"),
    "empty": (lambda path: path.write_bytes(b""), "is empty. Copy or download it again"),
    "directory": (lambda path: path.mkdir(), "is a directory; expected one file"),
    "pipe": (os.mkfifo, "is not a file"),
    "zip": (lambda path: archive_of(path, "a.csv"), "is a zip archive without PyTorch's data.pkl"),
    "empty zip": (archive_of, "is a zip archive without PyTorch's data.pkl"),
    "no data": (lambda path: archive_of(path, "net/data.pkl"), "cannot be read as weights"),
    "script": (
        lambda path: torch.jit.script(torch.nn.Conv2d(3, 2, 1)).save(path),
        r"is TorchScript: it holds code, not weights alone. .*net.state_dict\(\)",
    ),
    "whole net": (
        lambda path: written(path, torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))),
        r"holds code \(torch.nn.modules.container.Sequential, .*\), not weights alone.*state_dict",
    ),
    "plain pickle": (
        lambda path: path.write_bytes(pickle.dumps({"epoch": 3})),
        "is a pickle of protocol 4; expected 2",
    ),
    "old pickle": (
        lambda path: path.write_bytes(pickle.dumps({"epoch": 3}, protocol=2)),
        "cannot be read as weights: ",
    ),
    "list": (lambda path: written(path, [torch.zeros(1)]), "holds a list; expected a state dict"),
    "tensor": (lambda path: written(path, torch.zeros(1)), "holds a Tensor; expected a state"),
    "settings": (lambda path: written(path, argparse.Namespace(lr=1)), "not weights alone"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_other_files_are_told_by_name(tmp_path: Path, kind: str, name: str) -> None:
    make, words = OTHERS[kind]
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=words):
        read_weight_file(tmp_path / name)
    refusal(tmp_path / name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "net.pth") == f"{tmp_path / 'net.pth'} does not exist."


@pytest.mark.parametrize("kind", ["safetensors", "new", "old"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.9999])
def test_truncated_weights_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    path, state = tmp_path / "net.pth", make_net().state_dict()
    if kind == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "new")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(path)
    assert "cannot be read as weights: " in message
    assert "Expected .safetensors, or a PyTorch state dict without any code in it" in message


@given(content=st.binary(max_size=40))
@settings(max_examples=50)
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "net.pth"
    path.write_bytes(content)
    refusal(path)


@pytest.fixture(scope="module", params=["new", "old", "safetensors"])
def sound(request: pytest.FixtureRequest) -> bytes:
    """A small file of weights, with NumPy's values in it."""
    if request.param == "safetensors":
        from safetensors.torch import save

        return save(STATE)
    buffer = io.BytesIO()
    content = {"best": np.float64(1), "net": STATE, "old": {"a": torch.zeros(3).half()}}
    torch.save(content, buffer, _use_new_zipfile_serialization=request.param == "new")
    return buffer.getvalue()


@given(data=st.data())
@settings(max_examples=150)
def test_damaged_files_end_in_a_result_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "net.pth"
    path.write_bytes(damaged)
    with suppress(CheckpointError):
        read_weight_file(path)


# Code


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle", "old pickle"])
def test_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    path, ran = tmp_path / "net.pt", tmp_path / "ran"
    content = {"weight": torch.zeros(1), "evil": Evil(ran)}
    if "pickle" in form:
        path.write_bytes(pickle.dumps(content, protocol=2 if form == "old pickle" else 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    message = refusal(path)
    assert ("is a pickle of protocol 4" if form == "pickle" else "holds code (") in message
    assert "net.state_dict()" in message
    assert not ran.exists()
    # The file is loaded: the trap was set.
    pickle.loads(pickle.dumps(content))
    assert ran.exists()


def test_names_of_classes_are_shown_with_escapes(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", {"best": np.float64(0.3), **STATE})
    edit(path, lambda data: data.replace(b"cnumpy\ndtype", b"cmy\x1b[2Jnet\ndtype"))
    assert r"holds code (my\x1b[2Jnet.dtype)" in refusal(path)


# Memory


def peak(path: Path) -> int:
    """Bytes that Python took at most while a file was refused."""
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def pickled(path: Path, operations: bytes) -> Path:
    """An archive of PyTorch's with this program in it, which leaves its value on the stack."""
    written(path, STATE)
    edit(path, lambda data: b"\x80\x02" + operations + b".")
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


BOMBS: dict[str, tuple[bytes, str]] = {
    # encode(encode(... "a" ..., "hex"), "hex"), 40 times: 2^40 bytes.
    "doubling": (
        b"c_codecs\nencode\nq\x00" * 41 + text("a") + text("latin1") + b"\x86R"
        + (text("hex") + b"\x86R") * 40,
        "could fill the memory",
    ),
    "repeating": (
        b"(" + b"c_codecs\nencode\nq\x00" + text("a" * 100_000) + b"q\x01"
        + text("utf-32") + b"q\x02\x86R" + b"h\x00h\x01h\x02\x86R" * 10_000 + b"t",
        "could fill the memory",
    ),
    "bytearray": (b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R", "holds code"),
    "device tensor": (
        b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n)R", "holds code",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_files_that_would_fill_the_memory_are_refused(tmp_path: Path, kind: str) -> None:
    operations, words = BOMBS[kind]
    path = pickled(tmp_path / "net.pth", operations)
    assert words in refusal(path)
    assert peak(path) < 2**24


def test_compressed_bombs_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", STATE)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data/1", bytes(2**26))
    assert "is compressed to less than a tenth" in refusal(path)
    assert peak(path) < 2**24


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(2**40),
        torch.zeros(4).as_strided((2**20, 2**20), (0, 0)),
        torch.zeros(16).as_strided((4, 4, 4), (2, 2, 1)),
        torch.zeros(2, 1).expand(2, 8),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_tensors_that_claim_more_than_the_file_are_refused(
    tmp_path: Path, tensor: torch.Tensor, new: bool
) -> None:
    content = {"head.weight": tensor}
    path = written(tmp_path / "net.pth", content, _use_new_zipfile_serialization=new)
    assert "is damaged: head.weight claims (" in refusal(path)


def test_one_tensor_under_many_names_is_refused(tmp_path: Path) -> None:
    one = torch.zeros(10_000)
    path = written(tmp_path / "net.pth", {f"{index}.weight": one for index in range(100)})
    assert "which is more than its bytes in the file" in refusal(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("meta", lambda: torch.zeros(2**20, 2**20, device="meta")),
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("sparse", lambda: torch.eye(3).to_sparse_csr()),
        ("quantized", lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)),
    ],
)
def test_tensors_that_are_not_dense_are_refused(
    tmp_path: Path, kind: str, make: Callable[[], torch.Tensor]
) -> None:
    path = written(tmp_path / "net.pth", {"head.weight": make()})
    assert f"holds head.weight as a {kind} tensor; expected FP32" in refusal(path)
