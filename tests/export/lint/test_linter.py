"""The linter: its set of rules, and what they see in branches, functions and constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeunet.exporting.lint import Target
from edgeunet.exporting.lint.linter import RULES
from support.lint_graphs import CASES, Sketch
from support.lint_graphs.reports import EVERY, broken, reports

# Rules


def test_every_rule_has_a_case_and_says_what_happens() -> None:
    assert {rule for rule, _, _ in CASES} == {rule.name for rule in RULES}
    for rule in RULES:
        assert rule.check.__doc__, rule.name
        assert set(rule.targets) <= set(EVERY)


@pytest.mark.parametrize("target", EVERY)
def test_rule_of_a_name_holds_for_a_target_once(target: Target) -> None:
    names = [rule.name for rule in RULES if target in rule.targets]
    assert len(names) == len(set(names))


def test_branches_are_looked_into(tmp_path: Path) -> None:
    sketch = Sketch()
    branches = {}
    for name, op in (("then_branch", "Rellu"), ("else_branch", "Relu")):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        node = helper.make_node(op, ["data"], [name], name=op)
        branches[name] = helper.make_graph([node], name, [], [value])
    sketch.node("If", [sketch.constant("yes", np.array(True))], **branches)
    (found,) = reports(sketch.model(), tmp_path)["ort-cpu"].findings
    assert (found.rule, found.node) == ("unknown-op", "Rellu")


def test_local_functions_are_judged_by_what_they_hold(tmp_path: Path) -> None:
    """As the exporter of newer torch writes them."""
    sketch = Sketch()
    sketch.domains = ("local",)
    sketch.node("Block", ["data"], domain="local")
    model = sketch.model()
    inner = helper.make_node("Rellu", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("local", "Block", ["x"], ["y"], [inner], opsets))
    assert broken(reports(model, tmp_path)["trt10"]) == {"unknown-op"}


def test_initialiser_that_is_listed_as_an_input_is_a_constant(tmp_path: Path) -> None:
    """As files before IR version 4 have it."""
    sketch = Sketch()
    scales = sketch.constant("scales", np.array([1, 1, 2, 2], np.float32))
    sketch.node("Resize", ["data", "", scales], mode="linear")
    model = sketch.model()
    model.graph.input.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4]))
    assert reports(model, tmp_path)["trt8.6"].findings == ()
