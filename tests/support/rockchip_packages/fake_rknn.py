"""What stands in for a .rknn file: an ONNX graph that remembers how bytes become its input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime


def pack(graph: bytes, mean: list[float], std: list[float]) -> bytes:
    """A file that `Session` runs."""
    model = onnx.load_from_string(graph)
    for name, values in (("mean", mean), ("std", std)):
        model.metadata_props.add(key=name, value=" ".join(map(repr, values)))
    content: bytes = model.SerializeToString()
    return content


class Session:
    """Runs a file on bytes (1, H, W, C)."""

    def __init__(self, content: bytes) -> None:
        self._session = onnxruntime.InferenceSession(content)
        held = self._session.get_modelmeta().custom_metadata_map
        self._mean, self._std = (
            np.array(held[name].split(), np.float32) for name in ("mean", "std")
        )

    def run(self, frame: Any) -> list[Any]:
        assert frame.dtype == np.uint8 and frame.shape[0] == 1, frame.shape
        image = ((frame - self._mean) / self._std).astype(np.float32).transpose(0, 3, 1, 2)
        return list(self._session.run(None, {"image": np.ascontiguousarray(image)}))
