"""ONNX Runtime on the CPU, the default where there is no GPU."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Flavour, Precision
from edgeunet.doctor import cores
from edgeunet.errors import BackendError, MissingDependencyError

from ..frames import Frame
from .base import Backend, NetOutputs, Result
from .smoothing import Smoother

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("onnxruntime", "cpu") from None

# INT8 has a graph of its own here: ONNX Runtime is fast with unsigned, asymmetric activations.
_FLAVOUR: dict[Precision, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8.cpu"}
# Run as written they round where TensorRT does; fused for this CPU they would round elsewhere.
_OF_TENSORRT = ("int8", "int8.fp16")

Arrays = list[npt.NDArray[Any]]


class OnnxRuntimeBackend(Backend):
    """Runs the graph of the bundle's precision, or `flavour`, on all cores, or on `threads`.

    Where the graph comes in parts, the decoder runs for those frames of a batch only whose gate
    leaves more than one class open. A stream runs two batches at once, each on half of the threads:
    what one of them cannot spread over the cores, the other fills.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, *, flavour: Flavour | None = None, threads: int | None = None
    ) -> None:
        super().__init__(bundle)
        self.flavour = flavour or _FLAVOUR[bundle.manifest.precision]
        self._net = self._open(threads)
        available = threads or cores()
        self.lanes = min(2, available)
        self._lane_threads = available // self.lanes
        self._opening = threading.Lock()
        self._lane_net: Net | None = None

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        return self._net.run(images)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._gated(self._net, images)

    def infer_in_lane(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._gated(self._lane(), images)

    def stream(
        self, batches: Iterable[Sequence[Frame]], *, smoother: Smoother | None = None
    ) -> Generator[Result, None, None]:
        """See `Backend`."""
        self._lane()  # opened before the first frame is timed
        yield from super().stream(batches, smoother=smoother)

    def _lane(self) -> Net:
        """The net that streams share; opened when it is first needed."""
        with self._opening:
            if self._lane_net is None:
                self._lane_net = self._open(self._lane_threads)
            return self._lane_net

    def _gated(self, net: Net, images: npt.NDArray[np.float32]) -> NetOutputs:
        if net.decoder is None:
            return net.run(images)
        presence, *features = net.encode(images)
        undecided = np.flatnonzero(self.postprocess.open_classes(presence).sum(axis=1) > 1)
        manifest = self.bundle.manifest
        shape = (len(images), len(manifest.classes), *manifest.logits_size)
        logits = np.zeros(shape, np.float32)
        if len(undecided) == len(images):
            logits = net.decode(features)
        elif len(undecided):
            logits[undecided] = net.decode([feature[undecided] for feature in features])
        return NetOutputs(logits, presence)

    def _open(self, threads: int | None) -> Net:
        encoder = self.bundle.part_path(self.flavour, "encoder")
        decoder = self.bundle.part_path(self.flavour, "decoder")
        options = self._options(threads)
        return Net(
            _session(encoder or self.bundle.model_path(self.flavour), options),
            None if decoder is None else _session(decoder, options),
        )

    def _options(self, threads: int | None) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; its warnings are about its own optimiser
        if self.flavour in _OF_TENSORRT:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.flavour == "int8.cpu" and lacks_vnni():
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        return options


@dataclass(frozen=True)
class Net:
    """Sessions: `first` is the whole net, or encoder and gate where there is a decoder."""

    first: onnxruntime.InferenceSession
    decoder: onnxruntime.InferenceSession | None

    def run(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """All of it, whatever the gate says."""
        outputs = self.encode(images)
        if self.decoder is not None:
            presence, *features = outputs
            return NetOutputs(self.decode(features), presence)
        return NetOutputs(outputs[0], outputs[1] if len(outputs) > 1 else None)

    def encode(self, images: npt.NDArray[np.float32]) -> Arrays:
        """Outputs of `first`: presence and features, where there is a decoder."""
        return _run(self.first, [images])

    def decode(self, features: Arrays) -> npt.NDArray[np.float32]:
        """Logits of those features."""
        logits: npt.NDArray[np.float32] = _run(self.decoder, features)[0]
        return logits


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error


def _run(session: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    names = [value.name for value in session.get_inputs()]
    try:
        outputs: Arrays = session.run(None, dict(zip(names, inputs, strict=True)))
    except Exception as error:  # as above
        raise BackendError(f"ONNX Runtime failed on {inputs[0].shape}: {error}") from error
    return outputs


CPUINFO = Path("/proc/cpuinfo")


def lacks_vnni(cpuinfo: Path = CPUINFO) -> bool:
    """True on x86-64 without VNNI, as Linux tells it; elsewhere False.

    There ONNX Runtime adds pairs of INT8 products in 16 bits, which overflow with large values
    (its documentation, "Quantize ONNX models", on U8S8), unless it is asked for wider ones.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")  # ARM has "Features"
    return bool(flags) and "vnni" not in flags


def open_session(graph: Path | bytes, *, as_written: bool = False) -> onnxruntime.InferenceSession:
    """Session on the CPU that logs errors only; its warnings are about its own optimiser.

    Args:
        graph: file, or a serialised model.
        as_written: run node by node without optimisation, to simulate a graph for TensorRT.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
