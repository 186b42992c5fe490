"""Tensors between host and device, without waiting for what a GPU still computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class HostCopy:
    """A copy of a tensor on the host, which is waited for when it is read.

    `Tensor.item` and `Tensor.cpu` wait for everything that the GPU was given until then; this
    waits for what the tensor was computed from.

    Example:
        >>> import torch; from edgeunet.training.transfer import HostCopy
        >>> HostCopy(torch.ones(2)).read()
        tensor([1., 1.])
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copy = tensor.detach().to("cpu", non_blocking=True)
        self._arrived = None
        if tensor.is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def read(self) -> Tensor:
        """The copy."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def one_late(scalars: Iterable[Tensor]) -> Iterator[float]:
    """The values of scalars, each after the next one was asked for.

    So a GPU has the next step to compute while the host looks at the loss of the last one.
    """
    last = None
    for scalar in scalars:
        before, last = last, HostCopy(scalar)
        if before is not None:
            yield before.read().item()
    if last is not None:
        yield last.read().item()
