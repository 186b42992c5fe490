"""Compile kernels.cu with nvcc for one compute capability, load it, and keep the result."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgeunet.bundle.signing import NOT_OURS, SIGNATURE_BYTES, is_signed, sign
from edgeunet.errors import BackendError, EngineError
from edgeunet.files import read_file, write_bytes

from ..cuda import CudaDevice, Module

SOURCES = (
    Path(__file__).with_name("kernels.cu"),
    *sorted(Path(__file__).parent.glob("*.cuh")),
)
FLAGS = ("-cubin", "-std=c++17", "-fmad=false")
"""-fmad=false: the compiler must not fuse products and sums. pixels.cuh decides each rounding."""

_DIGEST_BYTES = 32
_MAX_BYTES = 1 << 28


def load_kernels(device: CudaDevice, folder: Path | None, *, trust: bool = False) -> Module:
    """Load the kernels on a device; compile them first if necessary.

    The file's name holds a hash of sources and flags. The file ends with this machine's signature
    and the SHA-256 of all that. A file that is outdated, damaged, of another machine or rejected by
    the driver is compiled again. Only kernels that the driver has loaded are saved.

    Args:
        folder: where the compiled kernels are kept, the bundle's `engines/`. None: nowhere.
        trust: also load kernels that another machine compiled.

    Raises:
        BackendError: nvcc is missing or fails, the driver rejects its output, or the folder cannot
            be written.
    """
    if folder is None:
        return _load_compiled(
            device, _compile(device.capability, "there is no folder to keep them in")
        )
    path = folder / image_name(device.capability)
    reason = "is not there"
    if path.exists():
        try:
            return device.load_module(_read(path, trust=trust))
        except (ValueError, EngineError) as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
        except BackendError as error:  # compiled by a toolkit that is newer than the driver
            reason = f"was rejected ({error})"
    image = _compile(device.capability, f"{path} {reason}")
    module = _load_compiled(device, image)
    try:
        content = image + sign(path.name, image)
        write_bytes(path, content + hashlib.sha256(content).digest())
    except EngineError:
        if not trust:
            raise
    except OSError as error:
        raise BackendError(
            f"the CUDA kernels were compiled, but {path} cannot be written: {error.strerror}. Make "
            f"{folder} writable for the first run, or copy the bundle to a writable folder."
        ) from None
    return module


def _read(path: Path, *, trust: bool) -> bytes:
    """The image in a file; ValueError, as the end of a sentence, if it is not to be used."""
    whole = read_file(path, most=_MAX_BYTES)
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    image, signature = content[:-SIGNATURE_BYTES], content[-SIGNATURE_BYTES:]
    if not image or hashlib.sha256(content).digest() != digest:
        raise ValueError("is damaged")
    if not trust and not is_signed(signature, path.name, image):
        raise ValueError(NOT_OURS)
    return image


def image_name(capability: str) -> str:
    """File name of the compiled kernels: `kernels-sm87-0123456789ab.cubin`."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return f"kernels-{capability}-{digest.hexdigest()[:12]}.cubin"


def _load_compiled(device: CudaDevice, image: bytes) -> Module:
    try:
        return device.load_module(image)
    except BackendError as error:
        raise BackendError(
            f"the driver (CUDA {device.driver}) rejects the kernels that {find_nvcc()} compiled: "
            f"{error} Install a newer driver, or set CUDA_HOME to an older toolkit."
        ) from error


def _compile(capability: str, reason: str) -> bytes:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            f"the CUDA kernels for {capability} must be compiled, because {reason}, and no nvcc "
            "was found on PATH, in CUDA_HOME or in /usr/local/cuda. Install the CUDA toolkit (`apt "
            "install` cuda-toolkit-12-6 on JetPack 6, cuda-toolkit-13-0 on JetPack 7). Or run the "
            "bundle on a machine with nvcc and the same kind of GPU, and copy its "
            f"engines/{image_name(capability)}; then pass --trust-engines."
        )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "kernels.cubin"
        architecture = f"-arch={capability.replace('sm', 'sm_')}"
        done = subprocess.run(  # noqa: S603 - the compiler is the user's choice
            [nvcc, *FLAGS, architecture, "-o", str(output), str(SOURCES[0])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not output.is_file():
            reason = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise BackendError(
                f"{nvcc} could not compile the CUDA kernels for {capability}: {reason}\n"
                f"Install a CUDA toolkit that supports {capability}, and a C++ compiler that the "
                "toolkit supports. PATH or CUDA_HOME chooses among several toolkits."
            )
        return output.read_bytes()


def find_nvcc() -> str | None:
    """Path of nvcc from PATH, CUDA_HOME or /usr/local/cuda. None if it is in none of them."""
    homes = [Path(home) for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    folders = os.pathsep.join(str(home / "bin") for home in homes)
    return shutil.which("nvcc") or shutil.which("nvcc", path=folders)
