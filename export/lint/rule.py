"""A rule: whom it holds for, how bad it is, and the function that looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx

from .graph import Graph
from .report import Finding, Severity, Target

Broken = Iterator[tuple["onnx.NodeProto | str", str]]
"""Where a rule is broken, a node or the name of a tensor or "", and the message."""

TENSORRT: tuple[Target, ...] = ("trt8.6", "trt10", "trt11", "rtx")
WEAKLY_TYPED: tuple[Target, ...] = ("trt8.6", "trt10")
"""Builders that choose the types themselves; 10.x takes strongly typed networks as well."""
STRONGLY_TYPED: tuple[Target, ...] = ("trt11", "rtx")
EVERY: tuple[Target, ...] = (*TENSORRT, "ort-cpu")


@dataclass(frozen=True)
class Rule:
    """One rule; the docstring of `check` tells what happens where it is broken."""

    name: str
    severity: Severity
    targets: tuple[Target, ...]
    check: Callable[[Graph], Broken]

    def findings(self, graph: Graph) -> Iterator[Finding]:
        """Everything in the graph that breaks the rule."""
        for where, message in self.check(graph):
            yield Finding(self.name, self.severity, _label(where), message)


def _label(where: onnx.NodeProto | str) -> str:
    if isinstance(where, str):
        return where
    return where.name or f"{where.op_type} -> {next(iter(where.output), '')}"
