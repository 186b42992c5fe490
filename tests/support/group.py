"""What processes that follow another do in tests; they find it by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from edgeunet.training.group import Group


def average(folder: Path, group: Group) -> None:
    """Average tensors of three kinds, and hear a number; writes what came out."""
    weight = torch.full((2, 3, 3, 3), float(group.rank)).to(memory_format=torch.channels_last)
    weight[1, 2] = 7 * group.rank
    bias, loss = torch.arange(4.0) * group.rank, torch.tensor(float(group.rank))
    group.average([loss, weight, bias])
    told = group.tell(0.1 if group.leads else float("nan"), torch.device("cpu"))
    found = {"weight": weight, "bias": bias, "loss": loss, "told": told}
    torch.save(found, folder / f"{group.rank}.pt")


def fail(group: Group) -> None:
    """Fail after the group has met."""
    group.tell(0.0, torch.device("cpu"))
    raise ValueError(f"no room on device {group.rank}")


def die(group: Group) -> None:
    """End as a process does that takes too much memory."""
    group.tell(0.0, torch.device("cpu"))
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(folder: Path, group: Group) -> None:
    """Tell who one is, and wait for ever."""
    (folder / "pid").write_text(str(os.getpid()))
    group.tell(0.0, torch.device("cpu"))
    time.sleep(600)
