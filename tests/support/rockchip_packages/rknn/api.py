"""Stands in for rknn-toolkit2's `RKNN`, with the parts of its API that edgeunet calls.

EDGEUNET_FAKE_RKNN says how it fails: raise, exit, crash, code, table (prints no layers), none (no
outputs) or shift (wrong outputs).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch  # as the original does; edgeunet puts something in its place
from fake_rknn import Session, pack

assert torch.nn.Module and torch.no_grad()(len) is len and not hasattr(torch, "load")

_LOG = Path(__file__).with_name("build.log").read_text()


class RKNN:
    def __init__(self, verbose: bool = False) -> None:
        assert verbose
        self._fault = os.environ.get("EDGEUNET_FAKE_RKNN", "")

    def config(self, mean_values: Any, std_values: Any, target_platform: str) -> int:
        self._mean, self._std = mean_values[0], std_values[0]
        return 0

    def load_onnx(self, model: str) -> int:
        self._graph = Path(model).read_bytes()
        return 0

    def build(self, do_quantization: bool = True) -> int:
        assert not do_quantization
        print("I rknn-toolkit2 version: 2.5.0")
        if self._fault == "crash":
            print("I RKNN: a line\nD", end="", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault in ("raise", "exit"):
            print("\x1b[1;31mE\x1b[0m \x1b[1;31mbuild: Traceback (most recent call last):")
            print('  File "rknn/api/rknn_base.py", line 2066, in rknn.api.rknn_base.RKNNBase.build')
            print("ValueError: Fancy is not supported!\x1b[0m")
            print("I ===================== WARN(0) =====================")
            if self._fault == "exit":
                sys.exit(3)
            raise ValueError("Traceback (most recent call last):\n  File")
        if self._fault != "table":
            print(_LOG)
        return -1 if self._fault == "code" else 0

    def export_rknn(self, export_path: str) -> int:
        Path(export_path).write_bytes(pack(self._graph, self._mean, self._std))
        return 0

    def init_runtime(self) -> int:
        self._session = Session(pack(self._graph, self._mean, self._std))
        return 0

    def inference(self, inputs: list[Any], data_format: list[str]) -> list[Any] | None:
        assert data_format == ["nhwc"]
        if self._fault == "none":
            return None
        logits, *rest = self._session.run(inputs[0])
        return [np.roll(logits, 1, axis=1) if self._fault == "shift" else logits, *rest]
