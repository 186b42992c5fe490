"""What the linter says of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import onnx
import pytest
from onnx import helper

from edgeunet.exporting.lint import LintReport, Target, lint_all
from edgeunet.exporting.lint.rule import BUILT_ON, COMPILERS

from .sketch import Case

EVERY: tuple[Target, ...] = tuple(each for each in get_args(Target) if each not in COMPILERS)


def reports(model: onnx.ModelProto, folder: Path) -> dict[str, LintReport]:
    """What each target says of a model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return {report.target: report for report in lint_all(path, EVERY)}


def broken(report: LintReport) -> set[str]:
    return {found.rule for found in report.findings}


def as_foreign(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph as other exporters write it: weights in Constant nodes, no names of nodes."""
    foreign = onnx.ModelProto()
    foreign.CopyFrom(model)
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in foreign.graph.initializer
    ]
    for node in foreign.graph.node:
        node.name = ""
        node.input[:] = ["input.1" if name == "data" else name for name in node.input]
    nodes += foreign.graph.node
    foreign.graph.input[0].name = "input.1"
    del foreign.graph.node[:], foreign.graph.initializer[:]
    foreign.graph.node.extend(nodes)
    return foreign


def each_of(cases: list[Case]) -> pytest.MarkDecorator:
    """Parametrise a test with cases, named by rule and graph."""
    names = [f"{rule}-{draw.__name__}" for rule, _, draw in cases]
    return pytest.mark.parametrize("case", cases, ids=names)


def assert_caught(case: Case, folder: Path) -> None:
    """The bad graph breaks the rule for its targets alone, its twin for none."""
    rule, targets, draw = case
    targets = targets | {target for target, base in BUILT_ON.items() if base in targets}
    bad, good = (reports(draw(kind).model(), folder) for kind in (True, False))
    assert {target for target in EVERY if rule in broken(bad[target])} == targets
    assert {target for target in EVERY if rule in broken(good[target])} == set()


def assert_foreign_is_judged_the_same(case: Case, folder: Path) -> None:
    """Both graphs break the same rules if another exporter wrote them."""
    _, _, draw = case
    for kind in (True, False):
        ours = reports(draw(kind).model(), folder)
        theirs = reports(as_foreign(draw(kind).model()), folder)
        for target in EVERY:
            assert broken(theirs[target]) == broken(ours[target])
