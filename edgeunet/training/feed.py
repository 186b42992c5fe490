"""The crops of a run, step by step, on the device where the net is trained.

The CPU makes them one by one as they are needed; a GPU by `device.DeviceCrops`, from images that
lie there. Both give the same crops for a seed, up to a pixel's rounding, in the same order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, Sampler
from torch.utils.data import Dataset as TorchDataset

from ..metrics import IGNORE, Mask
from .crops import Crops
from .device import DeviceCrops, Drawings, load, pack
from .group import ALONE, Group
from .mixing import Ids, check_mixing, mix_classes
from .transfer import HostCopy, on_device
from .unlabelled import UnlabelledCrops

_ROOM = 1 / 4
"""Share of a GPU's free memory for images and masks; twice as much is needed while they load."""

_MOST_WORKERS = 8  # that draw for a GPU, unless the caller says how many

_log = logging.getLogger(__name__)


class Step(NamedTuple):
    """Crops of a training step.

    batch: as of `Crops`, collated and mixed. more: images of frames without labels, or None.
    """

    batch: list[Tensor]
    more: Tensor | None


class Feed(Protocol):
    """Gives the crops of epochs."""

    def epochs(self, seeds: Sequence[int]) -> Iterator[Iterator[Step]]:
        """The steps of each epoch in turn, all of which are to be taken."""


@dataclass(frozen=True)
class Plan:
    """What crops a run needs.

    size: labelled crops in a step. steps: in an epoch. mix: share of the crops that are mixed.
    group: whose processes share the crops of each step.

    Raises:
        UsageError: crops that the group cannot share, or too few to mix.
    """

    crops: Crops
    unlabelled: UnlabelledCrops | None
    size: int
    steps: int
    mix: float
    group: Group = ALONE

    def __post_init__(self) -> None:
        self.group.check_shares(self.size, "labelled crops")
        if self.unlabelled is not None:
            self.group.check_shares(self.unlabelled.size, "crops without labels")
        if self.mix:
            check_mixing(self.size // self.group.size)

    def mixer(self, seed: int) -> np.random.Generator:
        """What draws the mixing of an epoch."""
        return np.random.default_rng((seed, len(self.crops), self.group.rank))

    def shares(self, order: Sequence[int]) -> Iterator[list[int]]:
        """What this process makes of the labelled crops of each step, all in this order."""
        mine = self.group.mine(self.size)
        for step in range(self.steps):
            yield list(order[step * self.size :][: self.size][mine])


def open_feed(
    plan: Plan,
    device: torch.device,
    *,
    workers: int | None = None,
    tell: Callable[[str], None] = _log.warning,
) -> Feed:
    """The feed for a device.

    Args:
        workers: processes that make crops, or draw them for a GPU. None: none for a CPU, and as
            many as there are cores for a GPU, up to 8.
        tell: gets a note if crops for a GPU are made on the CPU.
    """
    room = room_on(device)
    if room is not None:
        held = load(plan.crops, plan.unlabelled, device, room=room) if room else None
        if held is not None:
            cores = min(_MOST_WORKERS, os.cpu_count() or 1)
            return DeviceFeed(plan, held, device, cores if workers is None else workers)
        tell(
            f"the images and masks do not fit into {room / 1e9:.1f} GB on {device}, a quarter of "
            "what is free there: crops are made on the CPU. Pass --workers N to use N cores."
            if room
            else f"crops for {device} are made on the CPU; only CUDA makes its own. Pass --workers "
            "N to use N cores."
        )
    return HostFeed(plan, device, workers or 0)


def room_on(device: torch.device) -> int | None:
    """Bytes for images and masks on a device; None for the CPU, which is to make crops itself."""
    if device.type == "cpu":
        return None
    return int(torch.cuda.mem_get_info(device)[0] * _ROOM) if device.type == "cuda" else 0


@dataclass(frozen=True)
class HostFeed:
    """Makes crops on the CPU."""

    plan: Plan
    device: torch.device
    workers: int

    def epochs(self, seeds: Sequence[int]) -> Iterator[Iterator[Step]]:
        """The steps of each epoch in turn."""
        return (self._epoch(seed) for seed in seeds)

    def _epoch(self, seed: int) -> Iterator[Step]:
        plan, mixer = self.plan, self.plan.mixer(seed)
        plan.crops.epoch_seed = seed
        loader = DataLoader(plan.crops, batch_sampler=_Shuffled(plan), num_workers=self.workers)
        others: Iterable[Tensor | None] = repeat(None)
        if plan.unlabelled is not None:
            others = plan.unlabelled.batches(seed, self.workers, plan.group)
        for batch, more in zip(loader, others, strict=False):
            mixed = mix_classes(list(batch), plan.mix, mixer)
            yield Step(
                [on_device(each, self.device) for each in mixed],
                None if more is None else on_device(more, self.device),
            )


@dataclass(frozen=True)
class DeviceFeed:
    """Makes crops on a device, a step ahead of the net. workers: processes that draw them."""

    plan: Plan
    held: DeviceCrops
    device: torch.device
    workers: int

    def epochs(self, seeds: Sequence[int]) -> Iterator[Iterator[Step]]:
        """The steps of each epoch in turn. The processes that draw live as long as all of them."""
        loader = DataLoader(
            _Draws(self.plan, self.held.labels, self.held.sizes),
            batch_size=None,
            sampler=_keys(self.plan, seeds),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            pin_memory=self.device.type == "cuda",
        )
        ahead = self._ahead(loader)
        for seed in seeds:
            yield self._mixed(islice(ahead, self.plan.steps), self.plan.mixer(seed))

    def _ahead(self, loader: Iterable[Drawings]) -> Iterator[tuple[Step, HostCopy | None]]:
        """Crops, and the classes that each one holds, while the next ones are computed."""
        last = None
        for drawn in loader:
            batch, more = self.held.make(
                drawn.to(self.device), self.plan.size // self.plan.group.size
            )
            before, last = last, (Step(batch, more), self._classes(batch[1]))
            if before is not None:
                yield before
        if last is not None:
            yield last

    def _classes(self, labels: Tensor) -> HostCopy | None:
        """Which ids (B, 256) crops hold, if they are mixed."""
        if not self.plan.mix:
            return None
        found = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
        return HostCopy(found.scatter_(1, labels.flatten(1), value=True))

    def _mixed(
        self, steps: Iterable[tuple[Step, HostCopy | None]], mixer: np.random.Generator
    ) -> Iterator[Step]:
        for step, classes in steps:
            if classes is None:
                yield step
                continue
            found = classes.read().numpy()

            def held(index: int, found: npt.NDArray[np.bool_] = found) -> Ids:
                return np.flatnonzero(found[index])

            yield step._replace(batch=mix_classes(step.batch, self.plan.mix, mixer, held))


class _Shuffled(Sampler[list[int]]):
    """The steps' crops in an order that PyTorch's own generator draws; `shuffled` tells which."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.plan.shares(list(RandomSampler(self.plan.crops)))


def shuffled(count: int, seed: int) -> list[int]:
    """Indices in the order in which `DataLoader(shuffle=True)` gives them after a seed is set.

    It draws a seed for its workers first, and then one for the order.
    """
    own = torch.Generator().manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_(generator=own)
    drawn = int(torch.empty((), dtype=torch.int64).random_(generator=own))
    order: list[int] = torch.randperm(count, generator=own.manual_seed(drawn)).tolist()
    return order


_Key = tuple[int, list[int], Sequence[int]]  # seed of the epoch, and a step's indices of crops


def _keys(plan: Plan, seeds: Sequence[int]) -> Iterator[_Key]:
    for seed in seeds:
        labelled = plan.shares(shuffled(len(plan.crops), seed))
        others: Iterable[Sequence[int]] = repeat(())
        if plan.unlabelled is not None:
            others = plan.unlabelled.shares(plan.group)
        for indices, more in zip(labelled, others, strict=False):
            yield seed, indices, more


@dataclass(eq=False)
class _Draws(TorchDataset[Drawings]):
    """What is drawn for the crops of a step. labels: of all samples. sizes: of all images."""

    plan: Plan
    labels: Sequence[Mask]
    sizes: Sequence[tuple[int, int]]

    def __getitem__(self, key: _Key) -> Drawings:
        seed, labelled, others = key
        crops, unlabelled = self.plan.crops, self.plan.unlabelled
        drawn = [crops.draw(seed, index, self.labels) for index in labelled]
        if unlabelled is not None:
            sizes = self.sizes[len(crops) :]
            more = (unlabelled.draw(seed, index, sizes) for index in others)
            drawn += [replace(each, image=each.image + len(crops)) for each in more]
        return pack(drawn, crops.spec.depth)
