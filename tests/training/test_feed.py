"""Crops of a run: the same from the CPU and from a device, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.training import feed
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.crops import crops_for
from edgeunet.training.feed import DeviceFeed, Feed, HostFeed, Plan, Step, open_feed, shuffled
from edgeunet.training.train import train
from edgeunet.training.unlabelled import Unlabelled, UnlabelledCrops
from support.training import SHORT

CPU = torch.device("cpu")
SPEC = InputSpec(64, 64)


def plan_of(data: Path, folder: Path, *, unlabelled: bool, mix: float = 0.5) -> Plan:
    dataset = open_dataset(data)
    config = TrainConfig(crop=(48, 64), focus=0.5)
    crops = crops_for(dataset, check_dataset(dataset), folder, spec=SPEC, config=config, margin=0)
    frames = None
    if unlabelled:
        found = Unlabelled.open(data / "val" / "images", SPEC, folder)
        frames = UnlabelledCrops(found, SPEC, crops.augment, crops.photometry, size=2, steps=3)
    return Plan(crops, frames, 5, 3, mix)  # one of 16 images is left out


def steps_of(feed: Feed, seeds: range) -> Iterator[Step]:
    for seed, steps in zip(seeds, feed.epochs(seeds), strict=True):
        torch.manual_seed(seed)  # as the loop does
        yield from steps


@given(count=st.integers(1, 60), seed=st.integers(0, 2**40))
def test_order_is_that_of_a_loader(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    loader = DataLoader(list(range(count)), batch_size=1, shuffle=True)  # type: ignore[arg-type]
    assert shuffled(count, seed) == [int(index) for index in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_steps_of_a_device_are_those_of_the_cpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, unlabelled: bool
) -> None:
    plan = plan_of(data, tmp_path, unlabelled=unlabelled)
    monkeypatch.setattr(feed, "room_on", lambda device: 10**8)
    on_device = open_feed(plan, CPU, workers=workers)
    assert isinstance(on_device, DeviceFeed)
    seeds = range(7, 9)
    host, device = (list(steps_of(each, seeds)) for each in (HostFeed(plan, CPU, 0), on_device))
    assert len(host) == len(device) == 6
    changed = 0
    for one, other in zip(host, device, strict=True):
        assert torch.equal(one.batch[1], other.batch[1])
        assert (one.batch[0] - other.batch[0]).abs().max() < 1.1 / (255 * 0.224)
        assert (one.more is None) == (other.more is None) == (not unlabelled)
        if one.more is not None and other.more is not None:
            assert (one.more - other.more).abs().max() < 1.1 / (255 * 0.224)
    plain = HostFeed(replace(plan, mix=0.0), CPU, 0)
    for one, other in zip(host, steps_of(plain, seeds), strict=True):
        changed += not torch.equal(one.batch[1], other.batch[1])
    assert changed > 2, "nothing was mixed: nothing is tested"


def test_cpu_makes_its_crops_itself(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found = open_feed(plan_of(data, tmp_path, unlabelled=False), CPU, tell=told.append)
    assert isinstance(found, HostFeed) and found.workers == 0 and not told


@pytest.mark.parametrize(
    ("room", "note"),
    [
        (1000, "the images and masks do not fit into 0.0 GB on cpu"),
        (0, "crops for cpu are made on the CPU; only CUDA makes its own"),
    ],
)
def test_what_the_device_cannot_hold_is_told_and_made_on_the_cpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, note: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(feed, "room_on", lambda device: room)
    plan = plan_of(data, tmp_path, unlabelled=False)
    found = open_feed(plan, CPU, workers=3, tell=told.append)
    assert isinstance(found, HostFeed) and found.workers == 3
    assert len(told) == 1 and note in told[0] and "--workers N" in told[0]


def test_run_by_crops_of_a_device_resumes_with_bit_identical_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "room_on", lambda device: 10**8)
    monkeypatch.setattr(HostFeed, "epochs", None)  # not used
    config = replace(SHORT, epochs=2, mix=0.5, photometry="camera")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = {"config": config, "size": (64, 64), "width": 8, "workers": 0}
    train("mobile_unet", data, whole, **arguments)

    def stop(news: Progress) -> None:
        if news.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("mobile_unet", data, parts, report=stop, **arguments)
    train("mobile_unet", data, parts, **arguments)
    expected, found = (load_file(path / "best.safetensors") for path in (whole, parts))
    assert all((expected[name] == found[name]).all() for name in expected)
