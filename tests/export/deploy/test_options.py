"""Options of `edgeunet deploy`: each target takes some, and others are refused."""

from __future__ import annotations

from dataclasses import fields

import pytest

from edgeunet.errors import UsageError
from edgeunet.exporting.deploy import TARGETS, DeployOptions
from edgeunet.exporting.deploy.options import check_options


def test_every_option_is_used_by_a_target() -> None:
    used = {"flavour"}.union(*(target.options for target in TARGETS.values()))
    assert used == {field.name for field in fields(DeployOptions)}


def test_option_that_does_nothing_for_a_target_is_refused() -> None:
    taken = {"one": ("pixels", "confidence"), "two": ("pixels",), "three": ()}
    check_options(DeployOptions(flavour="fp32", pixels="any", confidence=True), "one", taken)
    with pytest.raises(UsageError, match=r"^got confidence, and two does not use it; one does\. L"):
        check_options(DeployOptions(pixels="any", confidence=True), "two", taken)
    with pytest.raises(UsageError, match=r"^got pixels, and three does not use it; one, two do\."):
        check_options(DeployOptions(pixels="fixed"), "three", taken)
