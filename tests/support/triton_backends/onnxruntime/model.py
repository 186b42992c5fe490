"""Stands in for Triton's ONNX Runtime backend, which no wheel holds: it runs `model.onnx`.

The server reads the model's configuration, checks requests and makes batches as for the real one.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
_USED = b"used_dltensor"


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path)
        self.names = [output.name for output in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        inputs = [triton.get_input_tensor_by_name(request, "frames") for request in requests]
        frames = [np.from_dlpack(each) for each in inputs]
        ends = np.cumsum([len(each) for each in frames])[:-1]
        outputs = self.session.run(self.names, {"frames": np.concatenate(frames)})
        parts = [np.split(output, ends) for output in outputs]
        return [
            triton.InferenceResponse(list(map(tensor, self.names, values)))
            for values in zip(*parts, strict=True)
        ]


def tensor(name: str, array: Any) -> Any:
    """As in the program that is deployed."""
    capsule = np.ascontiguousarray(array).__dlpack__()
    made = triton.Tensor.from_dlpack(name, capsule)
    _rename(capsule, _USED)
    return made
