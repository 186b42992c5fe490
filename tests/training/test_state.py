"""The state of a run: read by the same run alone, and saved as often as that is cheap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from edgeunet.errors import CheckpointError
from edgeunet.training import state
from edgeunet.training.state import StateFile
from edgeunet.training.train import train
from support.training import SHORT


def test_what_was_written_is_read_by_the_same_run_alone(tmp_path: Path) -> None:
    run = {"model": "unet", "crop": (64, 64)}
    assert StateFile(tmp_path, run).read(("net",)) is None
    StateFile(tmp_path, run).write({"net": {"w": torch.ones(2)}, "best": 3.5, "other": 1})
    found = StateFile(tmp_path, run).read(("net", "best"))
    assert found is not None and list(found) == ["net", "best"]
    assert found["best"] == 3.5 and bool((found["net"]["w"] == 1).all())
    with pytest.raises(CheckpointError, match='model is "unet" there, and "resunet" here'):
        StateFile(tmp_path, {**run, "model": "resunet"}).read(("net",))
    with pytest.raises(CheckpointError, match=r"lacks optimizer, log\. Remove it"):
        StateFile(tmp_path, run).read(("net", "optimizer", "log"))


@pytest.mark.parametrize("text", ["{", "[]", 3, "[" * 100_000])
def test_a_state_that_names_no_run_is_refused(text: object, tmp_path: Path) -> None:
    torch.save({"run": text}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt does not tell of which run it is"):
        StateFile(tmp_path, {}).read(())


def test_is_due_again_after_a_time_that_follows_from_what_saving_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(state, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(state, "write_bytes", lambda *_: clock.__setitem__(0, clock[0] + 2))
    clock[0], file = 1.0, StateFile(tmp_path, {})
    assert file.is_due
    file.write({})
    for clock[0], due in ((3.0, False), (42.9, False), (43.1, True)):
        assert file.is_due == due


def test_refuses_an_output_of_another_run(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    train("mobile_unet", data, tmp_path, config=once, size=(64, 64), width=8)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("mobile_unet", data, tmp_path, config=replace(once, seed=1), size=(64, 64), width=8)


def test_refuses_a_damaged_state(data: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train("mobile_unet", data, tmp_path, config=SHORT, size=(64, 64), width=8)
