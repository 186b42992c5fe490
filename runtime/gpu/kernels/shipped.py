"""The CUDA kernels that come compiled with the package: one cubin for each kind of GPU.

`make cubins` compiles them (tools/build_cubins.py). Beside them lies an index: a hash of the
sources that they were compiled from, and for each cubin its hash and the version of CUDA that
compiled it.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from edgeunet.errors import BackendError

from ..cuda import CudaDevice, Module

SOURCES = (
    Path(__file__).with_name("kernels.cu"),
    *sorted(Path(__file__).parent.glob("*.cuh")),
)
OPTIONS = ("-std=c++17", "-fmad=false")
"""Of every compiler. -fmad=false: it must not fuse products and sums. pixels.cuh decides each
rounding."""
CUBINS = Path(__file__).with_name("cubins")
INDEX = "index.json"

# NVIDIA's rule, from the CUDA C++ Programming Guide, "Binary Compatibility": a cubin for compute
# capability X.y runs on X.z if z >= y. Not so with Tegra, the chips of Jetsons: they run their own
# cubins alone, and no other GPU runs those.
_TEGRA = ("sm87", "sm110")


class UnfitError(Exception):
    """Why no shipped kernels run on a GPU, as the end of a sentence. remedy: what to do, or ""."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class ShippedKernels:
    """A cubin for a compute capability, "sm87", compiled by a version of CUDA, "11.8"."""

    capability: str
    cuda: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the cubin is, compressed."""
        return CUBINS / f"{self.capability}.cubin.xz"

    def image(self) -> bytes:
        """The cubin.

        Raises:
            BackendError: the file is missing or damaged.
        """
        try:
            image = lzma.decompress(self.path.read_bytes())
        except OSError as error:
            raise _broken(self.path, f"cannot be read ({error.strerror or error})") from None
        except lzma.LZMAError:
            raise _broken(self.path, "is damaged") from None
        if hashlib.sha256(image).hexdigest() != self.sha256:
            raise _broken(self.path, f"is damaged: it is not the one that {INDEX} beside it lists")
        return image


def load_shipped(device: CudaDevice) -> Module:
    """Load the shipped kernels on a device.

    Raises:
        UnfitError: there are none for this GPU or this driver, or the sources were changed.
        BackendError: the package is damaged.
    """
    kernels = find_shipped(device.capability, integrated=device.integrated)
    image = kernels.image()
    try:
        return device.load_module(image)
    except BackendError as error:
        raise UnfitError(
            f"the driver (CUDA {device.driver}) rejects the kernels that come with edgeunet, which "
            f"CUDA {kernels.cuda} compiled ({error})",
            f"Update the driver to CUDA {kernels.cuda} or newer.",
        ) from error


def find_shipped(capability: str, *, integrated: bool) -> ShippedKernels:
    """The shipped kernels that run on a GPU.

    Args:
        capability: "sm89". integrated: the GPU shares the host's memory, as those of Jetsons do.

    Raises:
        UnfitError: there are none for this GPU, or the sources were changed.
        BackendError: the package is damaged.

    Example:
        >>> from edgeunet.runtime.gpu.kernels.shipped import find_shipped
        >>> find_shipped("sm87", integrated=True).capability
        'sm87'
        >>> find_shipped("sm103", integrated=False).capability
        'sm100'
    """
    sources, shipped = _read_index()
    if sources != sources_digest():
        raise UnfitError(
            f"{' or '.join(source.name for source in SOURCES)} differs from what those that come "
            "with edgeunet were compiled from",
            f"{_REINSTALL} In a checkout of edgeunet, run `make cubins`.",
        )
    if capability in shipped:
        return shipped[capability]
    number = int(capability.removeprefix("sm"))
    lower = [
        each
        for each in map(int, (name.removeprefix("sm") for name in shipped if name not in _TEGRA))
        if each // 10 == number // 10 and each < number
    ]
    if integrated or not lower:
        raise UnfitError(f"those that come with edgeunet are for {', '.join(shipped)}")
    return shipped[f"sm{max(lower)}"]


def list_shipped() -> dict[str, ShippedKernels]:
    """Compute capability -> the shipped kernels for it, in ascending order.

    Raises:
        BackendError: the package is damaged.
    """
    return _read_index()[1]


def _read_index() -> tuple[str, dict[str, ShippedKernels]]:
    """The hash of the sources that were compiled, and what came of them."""
    path = CUBINS / INDEX
    try:
        index = json.loads(path.read_bytes())
        sources = str(index["sources"])
        shipped = {
            str(capability): ShippedKernels(capability, str(entry["cuda"]), str(entry["sha256"]))
            for capability, entry in index["cubins"].items()
        }
    except OSError as error:
        raise _broken(path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _broken(path, "is damaged") from None
    return sources, shipped


def sources_digest() -> str:
    """SHA-256 of the sources and options, in hex."""
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()


_REINSTALL = "Install edgeunet again: pip install --force-reinstall --no-deps edgeunet."


def _broken(path: Path, what: str) -> BackendError:
    return BackendError(f"{path}, a part of edgeunet, {what}. {_REINSTALL}")
