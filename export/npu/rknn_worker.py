"""Calls rknn-toolkit2 for edgeunet. The Python of the toolkit's own environment runs this file.

It reads a request in JSON from each line of its input, and writes an answer to the pipe whose
number it is given. What the toolkit prints goes to the output, which is a log file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np


def without_torch() -> None:
    """Let the toolkit be imported: it needs PyTorch only for files of PyTorch and one algorithm."""
    torch, layers = ModuleType("torch"), ModuleType("torch.nn")
    layers.Module = object  # type: ignore[attr-defined]
    torch.no_grad = lambda: lambda function: function  # type: ignore[attr-defined]
    torch.nn = layers  # type: ignore[attr-defined]
    sys.modules.update({"torch": torch, "torch.nn": layers})


class RefusedError(Exception):
    """A step of the toolkit failed; its log says why."""


class Worker:
    """The net that was compiled last, which the simulator runs."""

    def __init__(self) -> None:
        self._net: Any = None

    def build(
        self, *, graph: str, soc: str, mean: list[float], std: list[float], output: str | None
    ) -> None:
        """Compile a graph of batch 1 for bytes (1, H, W, C), and start the simulator.

        Args:
            graph: path of an ONNX file. Pairs of Q and DQ in it make its layers INT8; all others
                compute in FP16. output: path of the file to write, None for the simulator alone.
        """
        from rknn.api import RKNN

        net = RKNN(verbose=True)  # the log then has a table of the layers
        self._sure("config", net.config([mean], [std], target_platform=soc))
        self._sure("load_onnx", net.load_onnx(graph))
        self._sure("build", net.build(do_quantization=False))
        if output is not None:
            self._sure("export_rknn", net.export_rknn(output))
        self._sure("init_runtime", net.init_runtime())
        self._net = net

    def run(self, *, frames: str, output: str) -> None:
        """Simulate the net on bytes (N, H, W, C) in a .npy file, and write its outputs as .npz."""
        found = [
            self._net.inference([frame[None]], data_format=["nhwc"]) for frame in np.load(frames)
        ]
        if any(each is None for each in found):
            raise RefusedError("inference")
        np.savez(output, *(np.concatenate(each) for each in zip(*found, strict=True)))

    @staticmethod
    def _sure(step: str, code: int) -> None:
        if code != 0:
            raise RefusedError(step)


def main() -> None:
    """Answer requests until there are no more."""
    without_torch()
    worker = Worker()
    steps: dict[str, Callable[..., None]] = {"build": worker.build, "run": worker.run}
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                steps[request.pop("step")](**request)
                answer = {"ok": True}
            except (Exception, SystemExit) as error:  # the toolkit raises both
                print(f"{type(error).__name__}: {error}", flush=True)
                answer = {"ok": False}
            sys.stdout.flush()
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
