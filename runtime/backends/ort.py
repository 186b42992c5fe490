"""ONNX Runtime on the CPU, the default where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BackendError, MissingDependencyError
from edgeunet.manifest import Flavour, Precision

from ..bundle import Bundle
from ..vnni import lacks_vnni
from .base import Backend, NetOutputs

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
    leaves more than one class open.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, *, flavour: Flavour | None = None, threads: int | None = None
    ) -> None:
        super().__init__(bundle)
        self.flavour = flavour or _FLAVOUR[bundle.manifest.precision]
        encoder = bundle.part_path(self.flavour, "encoder")
        decoder = bundle.part_path(self.flavour, "decoder")
        whole = bundle.model_path(self.flavour)
        self._session = self._open(encoder or whole, threads)
        self._decoder = None if decoder is None else self._open(decoder, threads)

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        outputs = self._run_session(self._session, [images])
        if self._decoder is None:
            return NetOutputs(*outputs) if len(outputs) > 1 else NetOutputs(outputs[0], None)
        presence, *features = outputs
        return NetOutputs(self._run_session(self._decoder, features)[0], presence)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        if self._decoder is None:
            return self.infer(images)
        presence, *features = self._run_session(self._session, [images])
        undecided = np.flatnonzero(self.postprocess.open_classes(presence).sum(axis=1) > 1)
        manifest = self.bundle.manifest
        shape = (len(images), len(manifest.classes), *manifest.logits_size)
        logits = np.zeros(shape, np.float32)
        if len(undecided) == len(images):
            logits = self._run_session(self._decoder, features)[0]
        elif len(undecided):
            chosen = [feature[undecided] for feature in features]
            logits[undecided] = self._run_session(self._decoder, chosen)[0]
        return NetOutputs(logits, presence)

    def _open(self, path: Path, threads: int | None) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; its warnings are about its own optimiser
        if self.flavour in _OF_TENSORRT:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.flavour == "int8.cpu" and lacks_vnni():
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            return onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error

    def _run_session(self, session: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
        names = [value.name for value in session.get_inputs()]
        try:
            outputs: Arrays = session.run(None, dict(zip(names, inputs, strict=True)))
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on {inputs[0].shape}: {error}") from error
        return outputs
