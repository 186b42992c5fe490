"""The linter's rules: each catches the graph that breaks it and passes its twin."""

from __future__ import annotations

import pytest

from edgeunet.export.lint import Target
from edgeunet.export.lint.linter import RULES
from support.lint_graphs import CASES
from support.lint_graphs.reports import EVERY

NAMES = [f"{rule}-{draw.__name__}" for rule, _, draw in CASES]


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
