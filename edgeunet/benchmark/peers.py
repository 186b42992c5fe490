"""Other people's runtimes and quantizers on a bundle's FP32 net: `edgeunet bench --all --peers`.

Each is used as its own documentation does, at its defaults, and calibrated on the same frames.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import BackendError, first_line
from ..extras import requirement
from ..native_output import stdout_to_stderr
from ..runtime.backends.base import Net
from ..runtime.frames import NetOutputs
from . import tools
from .tools import Images, Made, Run

_UNKNOWN_TO_EXTRAS = ("nncf", "MNN")  # packages that no extra installs
_DONE = "made"  # names the model of a conversion that was not interrupted


@dataclass(frozen=True)
class Peer:
    """A runtime, or a quantizer on a runtime.

    precision: that it computes in. modules: what must be installed. install: the command for that.
    convert: makes a model of the FP32 graph and frames to calibrate with, (N, C, H, W), in a
    folder, and returns its path. open: loads that on so many threads; 0 for all cores.
    """

    name: str
    precision: Literal["fp32", "int8"]
    modules: tuple[str, ...]
    install: str
    convert: Callable[[Path, Images, Path], Path]
    open: Callable[[Made, int], Run]

    @property
    def label(self) -> str:
        """Such as "NNCF INT8"."""
        return f"{self.name} {self.precision.upper()}"

    @property
    def missing(self) -> str | None:
        """What to install before it can take part; None if all is there."""
        # ExecuTorch has no code of its own at the top, so `is_installed` would not find it.
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"not installed: {self.install}" if absent else None

    def make(self, graph: Path, images: Images, folder: Path) -> Path:
        """Convert a graph, or take what lies in the folder from an earlier call.

        Raises:
            BackendError: the peer does not take the graph.
        """
        done = folder / _DONE
        if done.exists():
            return folder / done.read_text(encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            with _quiet():
                path = self.convert(graph.resolve(), images, folder.resolve())
            done.write_text(path.name, encoding="utf-8")
            return folder / path.name
        except Exception as error:  # converters raise errors of every kind
            raise BackendError(f"{self.name} does not take the graph: {_reason(error)}") from error


class PeerNet(Net):
    """A peer's model as a net of the runtime, so that it gets the same frames and makes masks.

    Args:
        made: opened for batches of its shape; smaller ones are filled up.
        threads: None for all cores.

    Raises:
        BackendError: the peer does not load the model or, later, run it.
    """

    def __init__(self, peer: Peer, made: Made, *, threads: int | None = None) -> None:
        self._name, self._made = peer.name, made
        try:
            with _quiet():
                self._run = peer.open(made, threads or 0)
        except Exception as error:
            raise BackendError(f"{peer.name} does not load it: {_reason(error)}") from error

    def infer(self, images: Images) -> NetOutputs:
        """See `Net`."""
        batch = self._made.shape[0]
        if len(images) <= batch:
            found = self._part(images)
        else:  # a runtime may write its next answer over the last one
            starts = range(0, len(images), batch)
            parts = [[each.copy() for each in self._part(images[i : i + batch])] for i in starts]
            found = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return NetOutputs(found[0], found[1] if len(found) > 1 else None)

    def close(self) -> None:
        """Forget the model."""
        self._run = lambda images: []

    def _part(self, images: Images) -> list[npt.NDArray[np.float32]]:
        count, batch = len(images), self._made.shape[0]
        if count < batch:
            images = np.concatenate([images, np.repeat(images[-1:], batch - count, axis=0)])
        try:
            found = self._run(np.ascontiguousarray(images))
        except Exception as error:
            raise BackendError(f"{self._name} failed: {_reason(error)}") from error
        return [np.asarray(each, np.float32)[:count] for each in found[: self._made.outputs]]


def peer_versions() -> dict[str, str]:
    """Versions of the installed packages that `environment` does not know."""
    found = {}
    for name in _UNKNOWN_TO_EXTRAS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what libraries print, such as NNCF's bar of progress, which would break into our steps.

    What they write to stdout past Python goes to stderr.
    """
    with stdout_to_stderr(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


PEERS = (
    Peer(
        "NNCF on OpenVINO",
        "int8",
        ("openvino", "nncf"),
        "pip install openvino nncf",
        tools.convert_nncf,
        tools.open_openvino,
    ),
    Peer(
        "onnxruntime's quantizer",
        "int8",
        ("onnxruntime", "onnx"),
        "pip install onnxruntime onnx",
        tools.convert_ort,
        tools.open_ort,
    ),
    Peer(
        "ncnn",
        "fp32",
        ("ncnn", "pnnx", "torch"),
        f"pip install {requirement('ncnn')}",
        tools.convert_ncnn,
        tools.open_ncnn,
    ),
    Peer("MNN", "fp32", ("MNN",), "pip install MNN", tools.convert_mnn, tools.open_mnn),
    Peer(
        "LiteRT",
        "fp32",
        ("litert_torch", "ai_edge_litert"),
        f"pip install {requirement('litert')}",
        tools.convert_litert,
        tools.open_litert,
    ),
    Peer(
        "ExecuTorch",
        "fp32",
        ("executorch",),
        f"pip install {requirement('executorch')}",
        tools.convert_executorch,
        tools.open_executorch,
    ),
)
"""Those that take part where they are installed."""
