"""Verdicts and the table of a parity run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgeunet.parity.report import Attempt, Fallback, ParityReport, StageParity

STAGE = StageParity(
    name="int8 onnxruntime",
    agreement=0.99,
    boundary=0.97,
    iou=(98.0, None),
    miou=98.0,
    drop=0.5,
    logit_max=0.25,
    logit_mean=0.01,
    wanted=0.98,
    allowed_drop=0.5,
)
REPORT = ParityReport(
    bundle="b",
    model="unet",
    weights="cells",
    precision="int8",
    backend="onnxruntime",
    reference="PyTorch",
    data="cells",
    frames=3,
    labelled=True,
    classes=("a", "b"),
    reference_iou=(98.5, None),
    reference_miou=98.5,
    stages=(replace(STAGE, name="fp32 onnxruntime"), STAGE),
    gate=None,
    worst=(),
    environment={},
)


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"agreement": 0.98}, True),
        ({"agreement": 0.9799}, False),
        ({"drop": 0.51}, False),
        ({"drop": None, "allowed_drop": None}, True),  # no labels
        ({"drop": None, "allowed_drop": None, "agreement": 0.97}, False),
    ],
)
def test_a_stage_has_to_keep_both_tolerances(changes: dict[str, float | None], ok: bool) -> None:
    assert replace(STAGE, **changes).ok is ok  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, "ok"),
        ({"agreement": 0.9799}, "OUT OF TOLERANCE: 98.00% promised"),
        ({"drop": 0.51}, "OUT OF TOLERANCE: at most 0.50 points promised"),
    ],
)
def test_table_says_which_promise_is_not_kept(changes: dict[str, float], held: str) -> None:
    stage = replace(STAGE, **changes)  # type: ignore[arg-type]
    table = replace(REPORT, stages=(stage,)).table().splitlines()
    assert table[2].endswith(f"  {held}")
    assert [len(table[1].split()), "boundary" in table[1]] == [4, False]


def test_wide_table_has_tolerances_boundaries_and_logits() -> None:
    heads, first = REPORT.table(wide=True).splitlines()[1:3]
    assert " ".join(heads.split()).endswith("drop wanted boundary logit max mean")
    assert " ".join(first.split()).endswith("98.00 0.50 98.00% 97.00% 0.25 0.01 ok")


def test_the_first_stage_out_of_tolerance_is_named() -> None:
    assert REPORT.first_failure is None
    assert "all stages within tolerance" in REPORT.table()
    broken = replace(REPORT, stages=tuple(replace(each, agreement=0.5) for each in REPORT.stages))
    assert broken.first_failure == "fp32 onnxruntime"
    assert "first out of tolerance: fp32 onnxruntime" in broken.table()
    assert broken.table().count("OUT OF TOLERANCE") == 2


def test_deployed_stages_are_those_of_the_precision() -> None:
    assert REPORT.deployed == (STAGE,)
    assert REPORT.candidate == STAGE


def test_table_says_what_runs_in_float() -> None:
    table = replace(REPORT, fallbacks=(Fallback("head", 0.1, 1.5),)).table()
    assert "float: head, which won back 1.50 points" in table


def test_table_compares_the_ways_to_int8() -> None:
    one, three = (Attempt(f"with {n}", 0.992, None, n) for n in (1, 3))
    ways = Attempt("calibrated", 0.91, 0.5), one, three
    table = replace(REPORT, attempts=ways).table()
    assert "INT8 calibrated: 91.00% of the pixels, 0.50 points lost\n" in table
    assert "INT8 with 1: 99.20% of the pixels, 1 layer in float\n" in table
    assert "INT8 with 3: 99.20% of the pixels, 3 layers in float\n" in table


def test_without_labels_there_is_no_miou_and_the_budget_is_not_checked() -> None:
    unknown = {"iou": (None, None), "miou": None, "drop": None, "allowed_drop": None}
    stages = tuple(replace(stage, **unknown) for stage in REPORT.stages)  # type: ignore[arg-type]
    report = replace(
        REPORT, labelled=False, reference_iou=(None, None), reference_miou=None, stages=stages
    )
    table = report.table()
    assert "mIoU -" not in table
    assert table.splitlines()[0].endswith("3 frames of cells; no labels")
    assert table.splitlines()[2].split()[3:] == ["-", "-", "ok"]
    assert "budget not checked: no labels; pass --data" in table
    assert "within tolerance" not in table
    data = json.loads(json.dumps(report.to_json()))
    assert data["budget"].startswith("not checked: no labels; pass --data")
    assert (data["ok"], data["reference_miou"], data["stages"][0]["drop"]) == (True, None, None)
    worse = replace(report, stages=tuple(replace(stage, agreement=0.5) for stage in stages))
    assert worse.verdict.startswith("first out of tolerance: fp32 onnxruntime; budget not checked")


def test_json_has_the_verdicts() -> None:
    data = json.loads(json.dumps(REPORT.to_json()))
    assert (data["ok"], data["first_failure"], data["budget"]) == (True, None, "checked")
    assert [stage["ok"] for stage in data["stages"]] == [True, True]
    assert (data["averaged"], data["left_out"]) == (2, [])


def test_table_and_json_name_the_classes_that_are_left_out() -> None:
    assert "mIoU over" not in REPORT.table()
    report = replace(REPORT, left_out=("b\x1b",))
    assert "mIoU over 1 of 2 classes: the labels lack b\\x1b\n" in report.table()
    assert (report.to_json()["averaged"], report.to_json()["left_out"]) == (1, ("b\x1b",))
