"""A rule: its targets, its severity and the function that looks for it; and what rules report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeunet.bundle.schema import encode

Target = Literal["trt8.6", "trt10", "trt11", "rtx", "nvinfer", "ort-cpu", "qnn", "rknn"]
"""Who reads the file: TensorRT by major version, TensorRT-RTX, NVIDIA DeepStream's plug-in, ONNX
Runtime on a CPU, the compilers for Qualcomm's Hexagon and for Rockchip's NPU."""

COMPILERS: tuple[Target, ...] = ("qnn", "rknn")
"""Targets that are asked what they make of the file, instead of held to rules."""

BUILT_ON: dict[Target, Target] = {"nvinfer": "trt10"}
"""Whose rules hold for a target as well: DeepStream 7.1 to 9.2 bring TensorRT 10. Its releases 6.1
to 7.0 bring 8.4 to 8.6, which has rules of its own."""

Severity = Literal["error", "warning"]
"""error: the target refuses the file or computes something else. warning: slow or inexact."""

Broken = Iterator[tuple["ir.Node | str", str]]
"""Where a rule is broken, and the message: a node, the name of a tensor, or "" for the file."""

TENSORRT: tuple[Target, ...] = ("trt8.6", "trt10", "trt11", "rtx")
WEAKLY_TYPED: tuple[Target, ...] = ("trt8.6", "trt10")
"""Builders that choose the types themselves; 10.x takes strongly typed networks as well."""
STRONGLY_TYPED: tuple[Target, ...] = ("trt11", "rtx")
EVERY: tuple[Target, ...] = (*TENSORRT, "ort-cpu")

_NODES_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    node: name of the node or tensor; empty if the whole file is meant.

    Example:
        >>> Finding("opset", "error", "", "opset 18; TensorRT 8.x reads 17 at most.").severity
        'error'
    """

    rule: str
    severity: Severity
    node: str
    message: str


@dataclass(frozen=True)
class LintReport:
    """All findings of one file for one target.

    Example:
        >>> LintReport("net.onnx", "trt10", ()).table()
        'net.onnx for trt10: 0 errors, 0 warnings'
    """

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
        """Text for a terminal: each message once, with its nodes."""
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


@dataclass(frozen=True)
class Rule:
    """One rule. The docstring of `check` says what happens if it is broken, and how that is known.

    check: yields every place in the graph, or in a graph inside it, that breaks the rule.
    """

    name: str
    severity: Severity
    targets: tuple[Target, ...]
    check: Callable[[ir.Graph], Broken]

    def findings(self, graph: ir.Graph) -> Iterator[Finding]:
        """Everything in the graph that breaks the rule."""
        for where, message in self.check(graph):
            yield Finding(self.name, self.severity, _label(where), message)


def _label(where: ir.Node | str) -> str:
    if isinstance(where, str):
        return where
    return where.name or " ".join([where.op_type, "->", *(str(v.name) for v in where.outputs[:1])])
