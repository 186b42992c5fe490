"""Load the CUDA kernels: those that come with the package, or else nvcc's for this GPU.

Kernels that nvcc compiled are kept beside the bundle.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgeunet.bundle.signing import NOT_OURS, SIGNATURE_BYTES, is_signed, sign
from edgeunet.errors import BackendError, EngineError
from edgeunet.files import read_file, write_bytes

from ..cuda import CudaDevice, Module
from .shipped import OPTIONS, SOURCES, UnfitError, load_shipped, sources_digest

FLAGS = ("-cubin", *OPTIONS)

_DIGEST_BYTES = 32
_MAX_BYTES = 1 << 28

_log = logging.getLogger(__name__)


def load_kernels(device: CudaDevice, folder: Path | None, *, trust: bool = False) -> Module:
    """Load the kernels on a device.

    The package has kernels for most GPUs (`shipped`). For any other GPU, or if the driver rejects
    them, nvcc compiles the kernels, once for a bundle.

    The name of the file that keeps them holds a hash of sources and options. The file ends with
    this machine's signature and the SHA-256 of all that. A file that is outdated, damaged, of
    another machine or rejected by the driver is compiled again. Only kernels that the driver has
    loaded are saved.

    Args:
        folder: where compiled kernels are kept, the bundle's `engines/`. None: nowhere.
        trust: also load kernels that another machine compiled.

    Raises:
        BackendError: the package is damaged. Or kernels must be compiled, and nvcc is missing or
            fails, the driver rejects its output, or the folder cannot be written.
    """
    try:
        return load_shipped(device)
    except UnfitError as error:
        unfit = error
    if folder is None:
        return _load_compiled(device, _compile(device.capability, unfit))
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
    image = _compile(device.capability, unfit, f", and {path} {reason}")
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
    """File name of compiled kernels: `kernels-sm72-0123456789ab.cubin`."""
    return f"kernels-{capability}-{sources_digest()[:12]}.cubin"


def _load_compiled(device: CudaDevice, image: bytes) -> Module:
    try:
        return device.load_module(image)
    except BackendError as error:
        raise BackendError(
            f"the driver (CUDA {device.driver}) rejects the kernels that {find_nvcc()} compiled: "
            f"{error} Install a newer driver, or set CUDA_HOME to an older toolkit."
        ) from error


def _compile(capability: str, unfit: UnfitError, kept: str = "") -> bytes:
    """Compile with nvcc. The reasons why that must be are two ends of a sentence."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(nvcc_is_missing(capability, unfit, kept))
    _log.warning("%s compiles the CUDA kernels for %s: %s%s", nvcc, capability, unfit, kept)
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


def nvcc_is_missing(capability: str, unfit: UnfitError, kept: str = "") -> str:
    """The message that kernels must be compiled, why, and what to do."""
    advice = f"{unfit.remedy} Or install" if unfit.remedy else "Install"
    return (
        f"the CUDA kernels for {capability} must be compiled: {unfit}{kept}. But no nvcc was found "
        f"on PATH, in CUDA_HOME or in /usr/local/cuda. {advice} the CUDA toolkit (`apt install` "
        "cuda-toolkit-12-6 on JetPack 6, cuda-toolkit-13-0 on JetPack 7). Or run the bundle on a "
        "machine with nvcc and the same kind of GPU, and copy its "
        f"engines/{image_name(capability)}; then pass --trust-engines."
    )


def find_nvcc() -> str | None:
    """Path of nvcc from PATH, CUDA_HOME or /usr/local/cuda. None if it is in none of them."""
    homes = [Path(home) for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    folders = os.pathsep.join(str(home / "bin") for home in homes)
    return shutil.which("nvcc") or shutil.which("nvcc", path=folders)
