"""All rules, and how they are run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import onnx_runtime, operators, placement, precision, quantizers, resize
from .graph import Graph
from .loading import load_model
from .rule import LintReport, Rule, Target

RULES: tuple[Rule, ...] = (
    *operators.RULES,
    *quantizers.RULES,
    *placement.RULES,
    *resize.RULES,
    *precision.RULES,
    *onnx_runtime.RULES,
)


def lint(path: str | Path, target: Target) -> LintReport:
    """Check an ONNX file against what one target demands; nothing of it is run.

    Raises:
        GraphError: a file that is not whole and valid ONNX, see `loading`.
    """
    (report,) = lint_all(path, [target])
    return report


def lint_all(path: str | Path, targets: Iterable[Target]) -> tuple[LintReport, ...]:
    """Check a file against several targets, read once. Raises as `lint` does."""
    path = Path(path)
    graph = Graph(load_model(path))
    return tuple(
        LintReport(
            path.name,
            target,
            tuple(
                found for rule in RULES if target in rule.targets for found in rule.findings(graph)
            ),
        )
        for target in targets
    )
