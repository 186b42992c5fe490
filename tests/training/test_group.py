"""Processes that train one net together: what they share, and how they end."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from edgeunet.errors import CheckpointError, TrainingError, UsageError
from edgeunet.models import Card
from edgeunet.training.config import Progress
from edgeunet.training.group import ALONE, Group, leading
from edgeunet.training.train import train
from support import group as followers
from support.training import SHORT

CPU = torch.device("cpu")


@given(size=st.integers(1, 9), share=st.integers(0, 20))
def test_shares_are_equal_and_make_the_whole(size: int, share: int) -> None:
    whole = list(range(size * share))
    Group(0, size).check_shares(len(whole), "crops")
    shares = [whole[Group(rank, size).mine(len(whole))] for rank in range(size)]
    assert {len(each) for each in shares} == {share}
    assert list(chain.from_iterable(shares)) == whole


@pytest.mark.parametrize(("count", "advice"), [(8, "Make it 6 or 9"), (2, "Make it 3 or more")])
def test_what_cannot_be_shared_evenly_is_refused(count: int, advice: str) -> None:
    with pytest.raises(UsageError, match=f"{count} crops, which 3 devices cannot .*{advice}"):
        Group(1, 3).check_shares(count, "crops")


def test_alone_nothing_changes() -> None:
    values = [torch.tensor(3.0), torch.arange(3.0)]
    ALONE.average(values)
    assert values[0] == 3 and values[1].tolist() == [0, 1, 2]
    assert ALONE.tell(0.1, CPU) == 0.1 and ALONE.leads and ALONE.record == {}
    assert ALONE.device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu0", "meta", "cuda:99"])
def test_a_device_that_pytorch_cannot_use_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"got --device {name}, which this PyTorch cannot use"):
        ALONE.device(name)


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Group(rank, 2).device("cuda") for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert Group(1, 2).device("cpu") == "cpu" and Group(1, 2).record == {"devices": 2}
    with pytest.raises(UsageError, match="--devices 3, but PyTorch finds 2 CUDA devices"):
        Group(0, 3).device("cuda")
    with pytest.raises(UsageError, match="devices is 0"):
        Group(size=0)
    with pytest.raises(UsageError, match="--device cuda:1 with --devices 2; expected cuda or cpu"):
        Group(0, 2).device("cuda:1")


def test_tensors_are_averaged_and_a_number_is_told(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    follow = partial(followers.average, tmp_path)
    with leading(3, "cpu", follow):
        follow(Group(0, 3))
    assert torch.get_num_threads() == threads
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    expected = torch.ones(2, 3, 3, 3)
    expected[1, 2] = 7
    for each in found:
        assert torch.equal(each["weight"], expected)
        assert each["bias"].tolist() == [0, 1, 2, 3] and each["loss"] == 1 and each["told"] == 0.1


@pytest.mark.parametrize(
    ("follow", "reason"),
    [
        (followers.fail, "process 2 .* failed: ValueError: no room on device 1. Start it again"),
        (followers.die, "process 2 .* was ended by SIGKILL. Start it again"),
    ],
)
def test_a_process_that_fails_is_the_reason(follow: Callable[[Group], object], reason: str) -> None:
    def lead() -> None:
        with leading(2, "cpu", follow):
            Group(0, 2).tell(0.0, CPU)
            Group(0, 2).tell(1.0, CPU)  # waits for a process that is gone

    with pytest.raises(TrainingError, match=reason):
        lead()
    assert not multiprocessing.active_children()


def test_no_process_is_left_when_the_first_one_is_interrupted(tmp_path: Path) -> None:
    def lead() -> None:
        with leading(2, "cpu", partial(followers.sleep, tmp_path)):
            Group(0, 2).tell(0.0, CPU)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_two_processes_train_folds_and_a_gate_and_resume_with_the_same_bits(
    data: Path, tmp_path: Path
) -> None:
    """The second of the nets is interrupted after its first epoch."""
    config = replace(SHORT, epochs=2, validate_every=1, mix=0.5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    net: dict[str, Any] = {"config": config, "size": (64, 64), "width": 8, "cgm": True}

    def run(output: Path, **more: Any) -> Card:
        return train("mobile_unet", data, output, folds=2, devices=2, **net, **more)

    card = run(whole)
    assert card.training["devices"] == 2 and card.gate is not None
    assert len(card.metrics["cross_validation"]["folds"]) == 2
    lines = (whole / "log.jsonl").read_text().splitlines()
    assert len(lines) == 2 and (whole / "train.html").is_file()

    def stop(news: Progress) -> None:
        if news.run.startswith("fold 2") and news.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(parts, report=stop)
    again = run(parts)
    assert again.metrics == card.metrics and again.gate == card.gate
    expected, found = (load_file(each / "best.safetensors") for each in (whole, parts))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("mobile_unet", data, whole, **net)


def test_a_step_that_cannot_be_shared_starts_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.training.group.start_processes", None)
    options: dict[str, Any] = {"config": SHORT, "size": (64, 64), "width": 8, "devices": 3}
    with pytest.raises(UsageError, match="4 labelled crops, which 3 devices cannot share"):
        train("mobile_unet", data, tmp_path / "run", **options)
    options |= {"devices": 4, "unlabelled": data / "val" / "images"}
    teacher = "mobile_unet:cells"
    with pytest.raises(UsageError, match=r"2 labelled crops, which 4 devices .*4 or more"):
        train("mobile_unet", data, tmp_path / "more", teacher=teacher, **options)
