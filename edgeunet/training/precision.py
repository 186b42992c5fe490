"""Mixed precision of training: BF16 where it is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


@contextmanager
def mixed_precision(device: torch.device, *, enabled: bool = True) -> Iterator[None]:
    """Autocast to BF16; on the CPU without the convolutions that BF16 makes slower.

    Example:
        >>> import torch
        >>> from edgeunet.training.precision import mixed_precision
        >>> net, image = torch.nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8)
        >>> with mixed_precision(torch.device("cpu")):
        ...     net(image).dtype
        torch.bfloat16
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        if enabled and device.type == "cpu":
            with _DepthwiseInFp32():
                yield
        else:
            yield


class _DepthwiseInFp32(TorchFunctionMode):
    """Computes depthwise convolutions with a stride or a large kernel in FP32.

    oneDNN has no fast BF16 kernel for their backward pass (torch 2.13, Xeon with AMX, channels
    last: 101 ms against 33 for 96 channels at 112x144 with stride 2, 52 against 15 for 240 channels
    at 28x36 with a 5x5 kernel, batch 8). What comes out is BF16 again, as autocast has it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.conv2d and _is_slow(*args, **(kwargs or {})):
            image, weight, *others = args
            with torch.autocast("cpu", enabled=False):
                return func(image.float(), weight.float(), *others, **(kwargs or {})).bfloat16()
        return func(*args, **(kwargs or {}))


def _is_slow(
    image: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    depthwise = groups > 1 and weight.shape[1] == 1
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    return depthwise and (max(strides) > 1 or max(weight.shape[2:]) > 3)
