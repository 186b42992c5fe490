"""ONNX Runtime on the CPU, the default where there is no GPU."""

from __future__ import annotations

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


class OnnxRuntimeBackend(Backend):
    """Runs the graph of the bundle's precision, or `flavour`, on all cores, or on `threads`."""

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, *, flavour: Flavour | None = None, threads: int | None = None
    ) -> None:
        super().__init__(bundle)
        self.flavour = flavour or _FLAVOUR[bundle.manifest.precision]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; its warnings are about its own optimiser
        if self.flavour in _OF_TENSORRT:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.flavour == "int8.cpu" and lacks_vnni():
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        path = bundle.model_path(self.flavour)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        self._gated = len(self._session.get_outputs()) > 1

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        try:
            outputs = self._session.run(None, {"image": images})
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on {images.shape}: {error}") from error
        return NetOutputs(outputs[0], outputs[1] if self._gated else None)
