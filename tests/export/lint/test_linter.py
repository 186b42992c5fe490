"""The linter's rules: each catches the graph that breaks it and passes its twin."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.manifest import FLAVOURS, Flavour, flavour_file
from edgeunet.errors import ExportError
from edgeunet.export.lint import Finding, LintReport, Target, lint, lint_all, lint_flavours
from edgeunet.export.lint.linter import RULES, TARGETS
from support.lint_graphs import CASES, Draw, Sketch

EVERY: tuple[Target, ...] = get_args(Target)
NAMES = [f"{rule}-{draw.__name__}" for rule, _, draw in CASES]


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


# Rules


@pytest.mark.parametrize(("rule", "targets", "draw"), CASES, ids=NAMES)
def test_bad_graph_is_caught_for_the_rules_targets_and_its_twin_passes(
    rule: str, targets: set[str], draw: Draw, tmp_path: Path
) -> None:
    bad, good = (reports(draw(kind).model(), tmp_path) for kind in (True, False))
    assert {target for target in EVERY if rule in broken(bad[target])} == targets
    assert {target for target in EVERY if rule in broken(good[target])} == set()


@pytest.mark.parametrize(("rule", "targets", "draw"), CASES, ids=NAMES)
def test_file_of_another_exporter_is_judged_the_same(
    rule: str, targets: set[str], draw: Draw, tmp_path: Path
) -> None:
    for kind in (True, False):
        ours = reports(draw(kind).model(), tmp_path)
        theirs = reports(as_foreign(draw(kind).model()), tmp_path)
        for target in EVERY:
            assert broken(theirs[target]) == broken(ours[target])


def test_every_rule_has_a_case_and_says_what_happens() -> None:
    assert {rule for rule, _, _ in CASES} == {rule.name for rule in RULES}
    for rule in RULES:
        assert rule.check.__doc__, rule.name
        assert set(rule.targets) <= set(EVERY)


@pytest.mark.parametrize("target", EVERY)
def test_rule_of_a_name_holds_for_a_target_once(target: Target) -> None:
    names = [rule.name for rule in RULES if target in rule.targets]
    assert len(names) == len(set(names))


def test_finding_names_the_node_and_says_what_to_do(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", zero=np.int8(5))])
    onnx.save(sketch.model(), tmp_path / "a.onnx")
    message = (
        "its zero point is not 0; TensorRT is symmetric. Quantize activations and weights "
        "symmetrically."
    )
    assert lint(tmp_path / "a.onnx", "trt10") == LintReport(
        "a.onnx",
        "trt10",
        (
            Finding("zero-point", "error", "data_dq_q.QuantizeLinear", message),
            Finding("zero-point", "error", "data_dq.DequantizeLinear", message),
        ),
    )


def test_node_without_a_name_is_named_by_what_it_makes(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Rellu", ["data"])
    sketch.nodes[0].name = ""
    (found,) = reports(sketch.model(), tmp_path)["trt10"].findings
    assert found.node == "Rellu -> result"


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


# Report


def test_only_errors_spoil_a_report(tmp_path: Path) -> None:
    warned = Sketch()
    warned.shape = [1, 4, "height", 8]
    warned.node("Relu", ["data"])
    report = reports(warned.model(), tmp_path)["trt10"]
    assert report.findings
    assert report.ok
    warned.node("Rellu", ["data"], "other")
    assert not reports(warned.model(), tmp_path)["trt10"].ok


def test_table_shows_a_message_once_with_its_nodes() -> None:
    findings = tuple(Finding("r", "warning", f"n{index}", "all of them.") for index in range(5))
    report = LintReport("f.onnx", "rtx", (*findings, Finding("e", "error", "", "the file.")))
    assert report.table().splitlines() == [
        "f.onnx for rtx: 1 errors, 5 warnings",
        "  error e: the file.",
        "  warning r: all of them.",
        "    at n0, n1, n2 and 2 more",
    ]


# Bundles


@pytest.mark.parametrize("flavour", FLAVOURS["int8"])
def test_exported_graph_passes_for_its_targets(int8_bundle: Path, flavour: Flavour) -> None:
    for report in lint_all(int8_bundle / flavour_file(flavour), TARGETS[flavour]):
        assert report.errors == ()


def test_exported_graphs_fail_for_the_wrong_targets(int8_bundle: Path) -> None:
    """Also shows that the rules see what is in a whole net."""
    cpu = lint(int8_bundle / flavour_file("int8.cpu"), "trt10")
    assert {"signed", "int32-bias"} <= {found.rule for found in cpu.errors}
    half = lint(int8_bundle / flavour_file("int8.fp16"), "trt8.6")
    assert {"opset", "float32-scale"} <= {found.rule for found in half.errors}
    signed = lint(int8_bundle / flavour_file("int8"), "ort-cpu")
    assert "unfolded-activation" in broken(signed)


def test_graph_that_breaks_a_rule_ends_the_export_with_its_name(
    int8_bundle: Path, tmp_path: Path
) -> None:
    for flavour in FLAVOURS["int8"]:
        model = onnx.load(int8_bundle / flavour_file(flavour))
        if flavour == "int8":
            node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
            shared = set(node.input[1:2])
            for tensor in model.graph.initializer:
                if tensor.name in shared:
                    zeros = np.zeros_like(numpy_helper.to_array(tensor))
                    tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
        onnx.save(model, tmp_path / flavour_file(flavour))
    lint_flavours(tmp_path, ["fp32", "fp16", "int8.fp16", "int8.cpu"])
    with pytest.raises(ExportError) as error:
        lint_flavours(tmp_path, FLAVOURS["int8"])
    text = str(error.value)
    assert text.startswith(f"the int8 graph breaks the rule scale of trt8.6 at {node.name}: ")
    assert text.endswith("No bundle was written.")
