"""Between host and device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from edgeunet.training.transfer import HostCopy, on_device, one_late


def test_scalars_are_read_once_the_next_one_is_computed() -> None:
    told: list[str] = []

    def computed() -> Iterator[torch.Tensor]:
        for number in range(3):
            told.append(f"computed {number}")
            yield torch.tensor(float(number))

    for value in one_late(computed()):
        told.append(f"read {value:g}")
    assert told == [
        "computed 0", "computed 1", "read 0", "computed 2", "read 1", "read 2",
    ]  # fmt: skip
    assert list(one_late([])) == []


def test_copies_hold_the_values() -> None:
    weights = torch.arange(3.0, requires_grad=True)
    assert HostCopy(weights).read().tolist() == [0, 1, 2]
    assert not HostCopy(weights).read().requires_grad
    assert on_device(weights, torch.device("cpu")) is weights
