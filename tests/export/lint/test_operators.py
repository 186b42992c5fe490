"""Rules on operators: each catches the graph that breaks it, and passes its twin."""

from __future__ import annotations

from pathlib import Path

from support.lint_graphs.operators import CASES
from support.lint_graphs.reports import assert_caught, assert_foreign_is_judged_the_same, each_of
from support.lint_graphs.sketch import Case


@each_of(CASES)
def test_bad_graph_is_caught_for_the_rules_targets_and_its_twin_passes(
    case: Case, tmp_path: Path
) -> None:
    assert_caught(case, tmp_path)


@each_of(CASES)
def test_file_of_another_exporter_is_judged_the_same(case: Case, tmp_path: Path) -> None:
    assert_foreign_is_judged_the_same(case, tmp_path)
