"""Runs the bundle beside this file in Triton's Python backend, by edgeunet's own runtime.

Reads two parameters of `config.pbtxt`: `backend`, as of `edgeunet.load`, and `precision`.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

import edgeunet

_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
_USED = b"used_dltensor"  # a capsule keeps the address


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle. If its masks are wrong on this machine, the server gets the error."""
        config = json.loads(args["model_config"])
        given = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._outputs = [output["name"] for output in config["output"]]
        on_gpu = args["model_instance_kind"] == "GPU"
        self._segmenter = edgeunet.load(
            Path(args["model_repository"], args["model_version"], "bundle"),
            given["backend"],
            precision=given["precision"],
            device=int(args["model_instance_device_id"]) if on_gpu else None,
            checked=True,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, whose frames the server chose to be of one size, by one call."""
        inputs = [triton.get_input_tensor_by_name(request, "frames") for request in requests]
        # `as_numpy` of older servers misreads memory if NumPy is of version 2.
        frames = [np.from_dlpack(each) for each in inputs]
        try:
            result = self._segmenter(
                np.concatenate(frames), confidence="confidence" in self._outputs
            )
        except Exception as error:
            if len(requests) == 1:
                return [triton.InferenceResponse(error=triton.TritonError(str(error)))]
            # One client's mistake is not the others'.
            return [answer for request in requests for answer in self.execute([request])]
        ends = np.cumsum([len(each) for each in frames])[:-1]
        parts = [np.split(getattr(result, name), ends) for name in self._outputs]
        return [
            triton.InferenceResponse(list(map(_tensor, self._outputs, values)))
            for values in zip(*parts, strict=True)
        ]

    def finalize(self) -> None:
        """Free the net."""
        self._segmenter.close()


def _tensor(name: str, array: Any) -> Any:
    """An output. Made of an array without DLPack, it is empty in older servers with NumPy 2."""
    capsule = np.require(array, requirements=["C", "W"]).__dlpack__()
    tensor = triton.Tensor.from_dlpack(name, capsule)
    # Triton's name for a capsule that is used up is not that of the standard, so NumPy complains.
    _rename(capsule, _USED)
    return tensor
