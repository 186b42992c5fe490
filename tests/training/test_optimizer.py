"""Weight decay, learning rate and moving average."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgeunet.errors import UsageError
from edgeunet.training.optimizer import Average, adamw, warmup_cosine
from edgeunet.training.train import train
from support.training import SHORT


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


def test_rate_of_an_encoder_needs_one(data: Path, tmp_path: Path) -> None:
    told = r"encoder_rate is 0\.5 \(--encoder-lr\), but UNetPP has no encoder apart"
    config = replace(SHORT, encoder_rate=0.5)
    with pytest.raises(UsageError, match=told):
        train("unetpp", data, tmp_path, config=config, size=(64, 64), width=4)


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
    net = nn.BatchNorm2d(2)
    average = Average(net, decay=0.99)
    with torch.no_grad():
        for expected in (0.0, 1 - 2 / 11, 1 - 2 / 11 * 3 / 12):
            average.update_parameters(net)  # the first time all the way
            assert average.module.bias.tolist() == pytest.approx([expected] * 2)
            net.bias.fill_(1)
            net.running_mean += 1
    average.n_averaged.fill_(100_000)
    with torch.no_grad():
        average.module.bias.zero_()
    average.update_parameters(net)
    assert average.module.bias.tolist() == pytest.approx([0.01] * 2)
    assert average.module.running_mean.tolist() == [3, 3]


def test_average_has_the_weights_and_the_state_of_pytorch_s() -> None:
    """So that runs of earlier versions resume."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))

    def update(means: list[torch.Tensor], values: list[torch.Tensor], count: torch.Tensor) -> None:
        step = float(count)
        for mean, value in zip(means, values, strict=True):
            mean.lerp_(value, 1 - min(0.9, (1 + step) / (10 + step)))

    ours, theirs = Average(net, decay=0.9), AveragedModel(net, multi_avg_fn=update)
    for _ in range(4):
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        net(torch.randn(2, 3, 8, 8))
        ours.update_parameters(net)
        theirs.update_parameters(net)
    theirs_state = theirs.state_dict()
    assert ours.state_dict().keys() == theirs_state.keys()
    assert all(torch.equal(value, theirs_state[name]) for name, value in ours.state_dict().items())
