"""Small graphs put through a TensorRT module, the stand-in or a real one."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def graph(precision: str = "fp32", *, nodes: int = 2) -> bytes:
    """ONNX of convolutions of one kernel, (batch, 3, 4, 6) to (batch, 3, 4, 6)."""
    elem, kind = {
        "fp32": (TensorProto.FLOAT, np.float32),
        "fp16": (TensorProto.FLOAT16, np.float16),
    }[precision]
    weights = np.linspace(-1, 1, 9).reshape(3, 3, 1, 1).astype(kind)
    names = ["image", *(f"between{index}" for index in range(1, nodes)), "logits"]
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", [names[n], "kernel"], [names[n + 1]], name=f"conv{n}")
                for n in range(nodes)
            ],
            "net",
            [helper.make_tensor_value_info("image", elem, ["batch", 3, 4, 6])],
            [helper.make_tensor_value_info("logits", elem, ["batch", 3, 4, 6])],
            [numpy_helper.from_array(weights, "kernel")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return model.SerializeToString()


def collecting_logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

    return Log()


class Build:
    """A parsed network with a profile for batches 1 to 4, and what is needed to build it."""

    def __init__(self, trt: Any, content: bytes | None = None, *, strong: bool = False) -> None:
        self.trt = trt
        self.log = collecting_logger(trt)
        self.builder = trt.Builder(self.log)
        kinds = trt.NetworkDefinitionCreationFlag.__members__
        name = "STRONGLY_TYPED" if strong else "EXPLICIT_BATCH"
        flags = 1 << int(kinds[name]) if name in kinds else 0
        self.network = self.builder.create_network(flags)
        self.parser = trt.OnnxParser(self.network, self.log)
        self.parsed = self.parser.parse(content or graph())
        self.config = self.builder.create_builder_config()

    def add_profile(self, least: int = 1, most: int = 4, name: str = "image") -> int:
        profile = self.builder.create_optimization_profile()
        profile.set_shape(name, *((batch, 3, 4, 6) for batch in (least, most, most)))
        return self.config.add_optimization_profile(profile)

    def run(self) -> Any:
        return self.builder.build_serialized_network(self.network, self.config)


def plan_of(trt: Any, content: bytes | None = None, **keywords: Any) -> bytes:
    build = Build(trt, content, **keywords)
    build.add_profile()
    return bytes(build.run())


def aligned(shape: tuple[int, ...], kind: Any) -> np.ndarray[Any, Any]:
    """Zeros at an address that TensorRT takes."""
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    raw = np.zeros(count + 256, np.uint8)
    start = -raw.ctypes.data % 256
    return raw[start : start + count].view(kind).reshape(shape)


def loaded(trt: Any, plan: bytes) -> tuple[Any, Any]:
    """An engine and what its runtime logs."""
    log = collecting_logger(trt)
    return trt.Runtime(log).deserialize_cuda_engine(plan), log
