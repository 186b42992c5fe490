"""Weight decay, learning rate and moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeunet.training.optimizer import adamw, warm_ema, warmup_cosine


def test_only_kernels_decay() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    kernels, vectors = adamw(net, learning_rate=0.1, weight_decay=0.01).param_groups
    assert [tuple(p.shape) for p in kernels["params"]] == [(4, 3, 3, 3)]
    assert [tuple(p.shape) for p in vectors["params"]] == [(4,)] * 3
    assert (kernels["weight_decay"], vectors["weight_decay"]) == (0.01, 0)


def test_encoder_learns_at_its_share_of_the_rate() -> None:
    net = nn.ModuleDict({"encoder": nn.Conv2d(3, 4, 3), "head": nn.Conv2d(4, 2, 1)})
    optimizer = adamw(net, learning_rate=0.1, weight_decay=0.01, encoder_rate=0.25)
    rates = {
        tuple(parameter.shape): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates[4, 3, 3, 3] == rates[4,] == pytest.approx(0.025)
    assert rates[2, 4, 1, 1] == rates[2,] == pytest.approx(0.1)
    schedule = warmup_cosine(optimizer, warmup=2, total=10)
    assert sorted(set(schedule.get_last_lr())) == pytest.approx([0.0125, 0.05])


def test_learning_rate_rises_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, warmup=10, total=100)
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    top = rates.index(max(rates))
    assert 5 < top < 12 and 1.9 < rates[top] <= 2
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_average_follows_fast_at_first_and_slowly_later() -> None:
    update = warm_ema(0.99)
    early, late = [torch.zeros(2)], [torch.zeros(2)]
    update(early, [torch.ones(2)], torch.tensor(0))
    update(late, [torch.ones(2)], 100_000)
    assert early[0].tolist() == pytest.approx([0.9] * 2)
    assert late[0].tolist() == pytest.approx([0.01] * 2)
