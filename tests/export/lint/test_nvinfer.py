"""Rules on DeepStream's nvinfer: each catches the graph that breaks it, and passes its twin."""

from __future__ import annotations

from pathlib import Path

from edgeunet.exporting.lint import lint
from support.lint_graphs.nvinfer import CASES
from support.lint_graphs.reports import (
    assert_caught,
    assert_foreign_is_judged_the_same,
    broken,
    each_of,
)
from support.lint_graphs.sketch import Case


@each_of(CASES)
def test_bad_graph_is_caught_for_the_rules_targets_and_its_twin_passes(
    case: Case, tmp_path: Path
) -> None:
    assert_caught(case, tmp_path)
    assert_foreign_is_judged_the_same(case, tmp_path)


def test_graphs_of_a_bundle_are_none_for_nvinfer(int8_bundle: Path) -> None:
    """They put out logits, of half the size; TensorRT 10's rules hold as well."""
    planes = lint(int8_bundle / "model.fp32.onnx", "nvinfer")
    assert {found.rule for found in planes.errors} == {"output-size", "scores"}
    for_cpu = lint(int8_bundle / "model.int8.cpu.onnx", "nvinfer")
    assert broken(for_cpu) >= {"scores", "explicit-int8", "signed"}
