"""`edgeunet train`: its defaults, and the check of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import UsageError
from edgeunet.training.config import TrainConfig
from support.commands import fails


def test_training_has_the_defaults_of_the_paper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    came: list[TrainConfig] = []

    def train(*arguments: object, config: TrainConfig, **more: object) -> None:
        came.append(config)
        raise UsageError("seen")

    monkeypatch.setattr("edgeunet.cli.train.train", train)
    common = ["--data", "cells", "-o", tmp_path, "--batch", "2", "--no-amp"]
    for model, *more in (["unet"], ["unet", "--loss", "hybrid", "--elastic", "0"], ["resunet"]):
        assert fails(2, "train", *more, *common, "--model", model) == "error: seen\n"
    changes: dict[str, Any] = {"batch_size": 2, "amp": False}
    assert came == [
        TrainConfig.for_model("unet", **changes),
        TrainConfig.for_model("unet", loss="hybrid", elastic=0.0, **changes),
        TrainConfig.for_model("resunet", **changes),
    ]
    assert came[0].border == 10.0
