"""State dicts: what does not fit a net, and what is no weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.models.state_dict import load_weights, read_tensors
from support.checkpoints import make_net, read, weights_of

pytestmark = pytest.mark.usefixtures("no_gradients")


# Reading


def test_the_choice_of_weights_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "net.pth"
    one = {f"{index}.weight": torch.ones(2) for index in range(4)}
    torch.save({"net": one, "net_ema": {name: torch.zeros(2) for name in one}}, path)

    def judge(tensors: Mapping[str, torch.Tensor]) -> float:
        return float(tensors.keys() == one.keys())

    assert read_tensors(path, judge)["0.weight"].sum() == 0
    assert caplog.messages == [
        f"{path}: takes the averaged weights, net_ema. Pass --raw for the others."
    ]
    assert read_tensors(path, judge, raw=True)["0.weight"].sum() == 2
    torch.save(one, path)
    with pytest.raises(UsageError, match=r"holds no averaged weights that fit\. Leave out --raw"):
        read_tensors(path, judge, raw=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64])
def test_layers_without_plain_floats_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"head.weight": torch.zeros(2).to(dtype)}, tmp_path / "net.pth")
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"holds head.weight as a {name} tensor"):
        read(tmp_path / "net.pth")


# Weights that do not fit


def test_refused_weights_leave_the_net_as_it_was(saved: Path) -> None:
    net, before = make_net(seed=1), weights_of(make_net(seed=1))
    tensors = read(saved)
    tensors.popitem()
    with pytest.raises(CheckpointError, match="it lacks"):
        load_weights(net, tensors, source=str(saved))
    for name, tensor in weights_of(net).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    net, before = make_net(seed=1), weights_of(make_net(seed=1))
    tensors = read(saved)
    name = next(iter(tensors))
    tensors[name].flatten()[0] = value
    with pytest.raises(CheckpointError, match=f"net.safetensors holds values in {name} that are"):
        load_weights(net, tensors, source="net.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights_of(net).items())


def test_keys_are_shown_with_escapes() -> None:
    with pytest.raises(CheckpointError) as error:
        load_weights(make_net(), {"\x1b[2J.weight": torch.zeros(1)}, source="net.pth")
    assert r"has unknown \x1b[2J.weight" in str(error.value)
