"""All rules, and how they are run: on any file, and on the graphs of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from edgeunet.bundle.manifest import Flavour, flavour_file
from edgeunet.errors import ExportError

from . import nvinfer, onnx_runtime, operators, placement, precision, quantizers, resize
from .loading import load_model
from .rule import (
    BUILT_ON,
    COMPILERS,
    EVERY,
    STRONGLY_TYPED,
    WEAKLY_TYPED,
    Finding,
    LintReport,
    Rule,
    Target,
)

RULES: tuple[Rule, ...] = (
    *operators.RULES,
    *quantizers.RULES,
    *placement.RULES,
    *resize.RULES,
    *precision.RULES,
    *nvinfer.RULES,
    *onnx_runtime.RULES,
)

TARGETS: dict[Flavour, tuple[Target, ...]] = {
    "fp32": EVERY,
    "fp16": STRONGLY_TYPED,
    "int8": WEAKLY_TYPED,
    "int8.fp16": STRONGLY_TYPED,
    "int8.cpu": ("ort-cpu",),
    "int8.openvino": ("ort-cpu",),  # which proves it
    "int8.qnn": ("ort-cpu",),  # too
}
"""The targets that each graph of a bundle is meant for."""


def lint(
    path: str | Path, target: Target, report: Callable[[str], None] = lambda step: None
) -> LintReport:
    """Check an ONNX file against what one target demands. Nothing in the file is run.

    Args:
        report: told what takes long: a compiler may have to be installed first.

    Raises:
        GraphError: the file is not whole and valid ONNX, see `loading`. MissingDependencyError,
        UsageError, ExportError: a compiler is missing, or does not exist for this machine.

    Example:
        >>> lint(bundle / "model.fp32.onnx", "trt10").ok
        True
    """
    (found,) = lint_all(path, [target], report)
    return found


def lint_all(
    path: str | Path,
    targets: Iterable[Target],
    report: Callable[[str], None] = lambda step: None,
) -> tuple[LintReport, ...]:
    """Check a file against several targets. The file is read once. Raises as `lint` does.

    Example:
        >>> [report.ok for report in lint_all(bundle / "model.fp32.onnx", ["trt8.6", "ort-cpu"])]
        [True, True]
    """
    path = Path(path)
    graph = load_model(path).graph
    return tuple(
        LintReport(path.name, target, tuple(_findings(path, graph, target, report)))
        for target in targets
    )


def _findings(
    path: Path, graph: ir.Graph, target: Target, report: Callable[[str], None]
) -> Iterator[Finding]:
    if target in COMPILERS:
        yield from _asked(path, target, report)
        return
    for rule in RULES:
        if {target, BUILT_ON.get(target)}.intersection(rule.targets):
            yield from rule.findings(graph)


def _asked(path: Path, target: Target, report: Callable[[str], None]) -> Iterator[Finding]:
    """What a compiler says. It is imported when it is asked: it needs more than the rules do."""
    if target == "qnn":
        from .qnn import findings

        return findings(path)
    from .rknn import findings as findings_of_rknn

    return findings_of_rknn(path, report)


def lint_flavours(
    folder: Path,
    flavours: Iterable[Flavour],
    *,
    file: Callable[[Flavour], str] = flavour_file,
) -> None:
    """Check the graphs in a bundle's folder, each for the targets that it is meant for.

    Args:
        file: name of a flavour's graph, such as `pixels_file`.

    Raises:
        ExportError: one of its targets refuses or misreads a graph; names both, the rule and the
            node.

    Example:
        >>> lint_flavours(bundle, ["fp32"])
    """
    for flavour in flavours:
        for report in lint_all(folder / file(flavour), TARGETS[flavour]):
            if not report.ok:
                first, others = report.errors[0], len(report.errors) - 1
                more = f" {others} more such errors." if others else ""
                raise ExportError(
                    f"{file(flavour)} breaks the rule {first.rule} of {report.target} at "
                    f"{first.node or 'the whole graph'}: {first.message}{more} No bundle was "
                    "written."
                )
