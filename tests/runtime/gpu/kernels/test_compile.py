"""Compiling the CUDA kernels: what nvcc says of them, and what is kept beside a bundle."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu.cuda import CudaDevice
from edgeunet.runtime.gpu.kernels import compile as compiling
from edgeunet.runtime.gpu.kernels import load_kernels, shipped
from edgeunet.runtime.gpu.kernels.compile import FLAGS, SOURCES, find_nvcc, image_name
from edgeunet.runtime.gpu.kernels.shipped import CUBINS, OPTIONS, find_shipped

KERNELS = [
    "overlay",
    "postprocess_confidence_float16",
    "postprocess_confidence_float32",
    "postprocess_float16",
    "postprocess_float32",
    "preprocess_float16",
    "preprocess_float32",
    "preprocess_float32_float16",
    "preprocess_float32_float32",
    "preprocess_int16_float16",
    "preprocess_int16_float32",
    "preprocess_uint16_float16",
    "preprocess_uint16_float32",
    "preprocess_uint8_float16",
    "preprocess_uint8_float32",
    "resample_bytes_float16",
    "resample_bytes_float32",
    "resample_float32_float16",
    "resample_float32_float32",
    "resample_int16_float16",
    "resample_int16_float32",
    "resample_uint16_float16",
    "resample_uint16_float32",
    "resample_uint8_float16",
    "resample_uint8_float32",
    "upright_rgb",
]
# Every warning is an error, and so are registers or arrays that go to memory.
STRICT = ["-Werror", "all-warnings", "-Xptxas", "-warn-spills", "-Xptxas", "-warn-lmem-usage"]


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = find_nvcc()
    if found is None:
        pytest.skip("no nvcc to compile the kernels for a GPU")
    return found


@pytest.mark.parametrize("capability", ["sm75", "sm87", "sm120"])
def test_kernels_compile_without_a_warning(nvcc: str, capability: str, tmp_path: Path) -> None:
    """The oldest, a Jetson and the newest. `make cubins` is as strict with every one."""
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True)
    architecture = capability.replace("sm", "sm_")
    if architecture not in known.stdout.split():
        pytest.skip(f"this nvcc does not know {architecture}")
    output = tmp_path / "kernels.cubin"
    done = subprocess.run(
        [nvcc, *FLAGS, *STRICT, f"-arch={architecture}", "-o", str(output), str(SOURCES[0])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = set(re.findall(rb"\.text\.(\w+)", output.read_bytes()))
    assert sorted(name.decode() for name in names) == KERNELS


@dataclass
class Card:
    """A device that loads all but `refused`; what it loaded is its module.

    No kernels are shipped for the default one, a Xavier.
    """

    capability: str = "sm72"
    integrated: bool = True
    driver: str = "12.6"
    refused: tuple[bytes, ...] = ()

    def load_module(self, image: bytes) -> Any:
        if image in self.refused:
            raise BackendError("CUDA failed while loading kernels: device kernel image is invalid.")
        return image


def load(folder: Path | None, card: Card | None = None, *, trust: bool = False) -> Any:
    return load_kernels(cast("CudaDevice", card or Card()), folder, trust=trust)


def test_image_is_an_elf_file(nvcc: str, tmp_path: Path) -> None:
    card = Card("sm87", refused=(find_shipped("sm87", integrated=True).image(),))
    image = load(tmp_path, card)
    assert image.startswith(b"\x7fELF")
    assert image in (tmp_path / image_name("sm87")).read_bytes()


def test_nvcc_says_itself_what_it_does_not_know(nvcc: str) -> None:
    with pytest.raises(BackendError, match=r"kernels for sm12: nvcc fatal.*_12'"):
        load(None, Card("sm12"))


def test_shipped_kernels_need_no_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    card = Card("sm87")
    assert load(tmp_path / "engines", card) == find_shipped("sm87", integrated=True).image()
    assert load(None, card).startswith(b"\x7fELF")
    assert list(tmp_path.iterdir()) == []


# What is kept, with an nvcc that only counts


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PATH whose nvcc writes its arguments to `calls`, and a cubin of one word."""
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tools / "calls"
    log.touch()
    script = tools / "nvcc"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        'while [ "$1" != -o ]; do shift; done\nprintf machine-code > "$2"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    return log


def count(calls: Path) -> int:
    return len(calls.read_text().splitlines())


def test_image_is_compiled_once_a_capability(calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    for _ in range(2):
        assert load(folder) == b"machine-code"
    assert count(calls) == 1
    assert "-arch=sm_72" in calls.read_text()
    assert "-fmad=false" in calls.read_text()
    assert [path.name for path in folder.iterdir()] == [image_name("sm72")]
    load(folder, Card("sm62"))
    assert count(calls) == 2


def test_image_without_a_folder_is_not_kept(calls: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert load(None) == b"machine-code"
    assert count(calls) == 2


def test_kept_image_needs_no_nvcc(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    assert load(tmp_path) == b"machine-code"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[-32:],
        lambda content: content[-64:],
        lambda content: content[:-1],
        lambda content: content[1:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content + b"\0",
    ],
)
def test_damaged_image_is_compiled_anew(
    calls: Path, tmp_path: Path, damage: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(damage)
    load(tmp_path)
    path = tmp_path / image_name("sm72")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert load(tmp_path) == b"machine-code"
    assert path.read_bytes() == whole
    path.write_bytes(damage(whole))
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    with pytest.raises(BackendError, match=rf"{path.name} is damaged. But no nvcc was found"):
        load(tmp_path)


def test_image_of_another_machine_is_compiled_anew(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert load(tmp_path, trust=True) == b"machine-code"
    assert count(calls) == 1
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "find_nvcc", lambda: None)
        with pytest.raises(BackendError, match=r"was not built on this machine.*--trust-engines"):
            load(tmp_path)
    load(tmp_path)
    load(tmp_path)
    assert count(calls) == 2


def test_image_of_another_name_is_compiled_anew(calls: Path, tmp_path: Path) -> None:
    """Such as one of old sources, whose signature is right."""
    load(tmp_path, Card("sm62"))
    (tmp_path / image_name("sm62")).rename(tmp_path / image_name("sm72"))
    load(tmp_path)
    assert count(calls) == 2


def test_image_that_cannot_be_read_is_told(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / image_name("sm72")).mkdir()
    with pytest.raises(BackendError, match=r"were compiled, but .* cannot be written"):
        load(tmp_path)
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    with pytest.raises(BackendError, match=r"cannot be read \(it is a directory\)\. But no nvcc"):
        load(tmp_path)


def test_image_that_the_driver_refuses_is_compiled_anew(calls: Path, tmp_path: Path) -> None:
    nvcc = calls.with_name("nvcc")
    nvcc.write_text(nvcc.read_text().replace("machine-code", "newer-code"))
    assert load(tmp_path) == b"newer-code"
    nvcc.write_text(nvcc.read_text().replace("newer-code", "machine-code"))
    assert load(tmp_path) == b"newer-code"
    older = Card(refused=(b"newer-code",))
    assert load(tmp_path, older) == load(tmp_path) == b"machine-code"


def test_image_that_the_driver_refuses_is_not_kept(calls: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BackendError, match=r"driver \(CUDA 12\.6\) rejects .*/nvcc compiled: .*older"
    ):
        load(tmp_path, Card(refused=(b"machine-code",)))
    assert list(tmp_path.glob("*.cubin")) == []


def test_name_follows_sources_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = image_name("sm72")
    assert re.fullmatch(r"kernels-sm72-[0-9a-f]{12}\.cubin", name)
    with monkeypatch.context() as patch:
        patch.setattr(shipped, "OPTIONS", (*OPTIONS, "-G"))
        assert image_name("sm72") != name
    edited = tmp_path / "kernels.cu"
    edited.write_text(SOURCES[0].read_text() + "//")
    monkeypatch.setattr(shipped, "SOURCES", (edited, *SOURCES[1:]))
    assert image_name("sm72") != name


def test_missing_nvcc_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    with pytest.raises(BackendError, match=r"no nvcc was found.*Install the CUDA toolkit") as told:
        load(tmp_path)
    message = str(told.value)
    assert "for sm72 must be compiled: those that come with edgeunet are for sm75, sm80," in message
    assert f"and {tmp_path / image_name('sm72')} is not there" in message
    assert "cuda-toolkit-12-6 on JetPack 6, cuda-toolkit-13-0 on JetPack 7" in message
    assert f"copy its engines/{image_name('sm72')}" in message


def test_driver_that_is_too_old_for_the_shipped_kernels(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = find_shipped("sm90", integrated=False).image()
    card = Card("sm90", integrated=False, driver="11.0", refused=(image,))
    assert load(tmp_path, card) == b"machine-code"
    assert "nvcc compiles the CUDA kernels for sm90: the driver (CUDA 11.0) rejects" in caplog.text
    assert [path.name for path in tmp_path.glob("*.cubin")] == [image_name("sm90")]
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    assert load(tmp_path, card) == b"machine-code"
    with pytest.raises(BackendError) as told:
        load(None, card)
    message = str(told.value)
    assert "with edgeunet, which CUDA 11.8 compiled (CUDA failed while loading kernels" in message
    assert "Update the driver to CUDA 11.8 or newer. Or install the CUDA toolkit" in message


def test_changed_sources_are_compiled(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card("sm87")
    monkeypatch.setattr(shipped, "OPTIONS", (*OPTIONS, "-G"))
    assert load(None, card) == b"machine-code"
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    with pytest.raises(BackendError, match=r"kernels\.cu .* differs from what .*`make cubins`"):
        load(None, card)


def test_damage_to_the_package_is_an_error_even_with_nvcc(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CUBINS, tmp_path / "cubins")
    monkeypatch.setattr(shipped, "CUBINS", tmp_path / "cubins")
    (tmp_path / "cubins" / "sm87.cubin.xz").write_bytes(b"")
    with pytest.raises(BackendError, match=r"sm87\.cubin\.xz.* is damaged.*--force-reinstall"):
        load(None, Card("sm87"))
    assert count(calls) == 0


def test_nvcc_that_fails_is_quoted(calls: Path, tmp_path: Path) -> None:
    calls.with_name("nvcc").write_text("#!/bin/sh\necho 'no host compiler' >&2\nexit 1\n")
    with pytest.raises(BackendError, match="for sm72: no host compiler"):
        load(tmp_path / "engines")
    assert not (tmp_path / "engines").exists()


def test_nvcc_that_writes_nothing_is_an_error(calls: Path) -> None:
    calls.with_name("nvcc").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(BackendError, match="for sm72: exit code 0"):
        load(None)


def test_folder_that_cannot_be_written_is_named(calls: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_text("a file, where a folder should be")
    with pytest.raises(BackendError, match=r"cannot be written: .*Make .*bundle/engines writable"):
        load(bundle / "engines")


def test_nvcc_is_found_in_cuda_home(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = calls.parent.parent / "cuda"
    (home / "bin").mkdir(parents=True)
    calls.with_name("nvcc").rename(home / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert find_nvcc() == str(home / "bin" / "nvcc")
