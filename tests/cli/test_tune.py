"""`edgeunet tune`: what it passes on, prints, and ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeunet.training.config import TrainConfig
from edgeunet.tuning.tune import TuneOptions
from support.commands import call, data, fails, succeeds
from support.tuning import outcome

COMMON = ("tune", "--model", "unet", "--data", "cells", "--target", "fps>=30")


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `tune` was called with; `found` in it is whether it finds something."""
    seen: dict[str, Any] = {"found": True}

    def tune(output: Path, options: TuneOptions, **more: Any) -> Any:
        seen.update(output=output, options=options, **more)
        return outcome(found=seen["found"])

    monkeypatch.setattr("edgeunet.cli.tune.tune", tune)
    return seen


def test_options_and_the_recipe_of_the_paper_are_passed_on(came: dict[str, Any]) -> None:
    printed = succeeds(
        *COMMON, "-o", "search", "--budget", "10m", "--batch", "4", "--flip", "none"
    ).stdout
    assert came["output"] == Path("search")
    assert came["options"] == TuneOptions("unet", "cells", "fps>=30", budget="10m")
    assert came["options"].max_drop == 1.0
    assert came["config"] == TrainConfig.for_model("unet", batch_size=4, flip="none")
    assert printed.endswith("wrote search/tune.html\n")
    assert "edgeunet run search/bundle SOURCE --backend openvino --precision int8" in printed


def test_json(came: dict[str, Any]) -> None:
    assert data(*COMMON, "-o", "search")["chosen"]["way"] == "openvino INT8"


def test_nothing_found_is_printed_and_ends_with_1(came: dict[str, Any]) -> None:
    came["found"] = False
    result = call(*COMMON, "-o", "search")
    assert result.exit_code == 1
    assert "128x160-w32-full" in result.stdout
    assert result.stderr == "error: No configuration reaches p50<=2ms.\n"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (("--target", "30"), 2, "expected a speed"),
        (("--budget", "long"), 2, "expected a time"),
        (("--data", "/nowhere"), 1, "/nowhere"),
        (("--model", "unett"), 2, "Did you mean 'unet'?"),
        (("--max-drop", "-1"), 2, "--max-drop"),
        (("--photometry", "mildd"), 2, "Did you mean 'mild'?"),
        (("--crop", "100x100"), 2, "multiples of 16"),
    ],
)
def test_bad_input(tmp_path: Path, changes: tuple[str, ...], code: int, words: str) -> None:
    message = fails(code, *COMMON, *changes, "-o", tmp_path / "search")
    assert words in message
    assert not (tmp_path / "search").exists()


def test_output_is_needed() -> None:
    assert "Missing option '-o'" in fails(2, *COMMON)
