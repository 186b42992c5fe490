"""ONNX Runtime sessions for looking into graphs while they are made."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def open_session(graph: Path | bytes, *, as_written: bool = False) -> onnxruntime.InferenceSession:
    """Session on the CPU that tells errors alone: the warnings are about its own optimiser.

    Args:
        graph: file, or a serialised model.
        as_written: node by node, as a graph for TensorRT is simulated.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
