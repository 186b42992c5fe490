"""A rule: whom it holds for, how bad it is, and the function that looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import onnx

from edgeunet.bundle.schema import encode

from .graph import Graph

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


Target = Literal["trt8.6", "trt10", "trt11", "rtx", "ort-cpu"]
"""Who reads the file: TensorRT by major version, TensorRT-RTX, ONNX Runtime on a CPU."""

Severity = Literal["error", "warning"]
"""An error is refused by the target or computes something else; a warning is slow or inexact."""

_NODES_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One broken rule. node: its name, or the tensor's; empty where the whole file is meant."""

    rule: str
    severity: Severity
    node: str
    message: str


@dataclass(frozen=True)
class LintReport:
    """All findings of one file for one target."""

    file: str
    target: Target
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no rule of severity error is broken."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that the target refuses or misreads."""
        return tuple(found for found in self.findings if found.severity == "error")

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, verdict included."""
        return {**encode(self), "ok": self.ok}

    def table(self) -> str:
        """Text for a terminal: each message once, with the nodes that it is about."""
        count = len(self.errors)
        lines = [
            f"{self.file} for {self.target}: {count} errors, {len(self.findings) - count} warnings"
        ]
        nodes: dict[tuple[str, str, str], list[str]] = {}
        for found in sorted(self.findings, key=lambda found: found.severity):
            key = (found.severity, found.rule, found.message)
            nodes.setdefault(key, []).append(found.node)
        for (severity, rule, message), names in nodes.items():
            lines.append(f"  {severity} {rule}: {message}")
            shown = ", ".join(filter(None, names[:_NODES_SHOWN]))
            more = len(names) - _NODES_SHOWN
            if shown:
                lines.append(f"    at {shown}" + (f" and {more} more" if more > 0 else ""))
        return "\n".join(lines)
