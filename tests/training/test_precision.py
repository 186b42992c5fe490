"""Mixed precision: which convolutions stay FP32 on the CPU, and that gradients agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeunet.training.precision import mixed_precision

CPU = torch.device("cpu")


def seen_by(conv: nn.Conv2d, *, enabled: bool = True) -> tuple[torch.dtype, torch.dtype]:
    """Type of what the convolution computes on, as its gradient tells, and of its output."""
    image = torch.rand(2, conv.in_channels, 12, 12, requires_grad=True)
    with mixed_precision(CPU, enabled=enabled):
        out = conv(image)
        kernel = out.grad_fn
    while kernel is not None and "onvolution" not in kernel.name():
        kernel = kernel.next_functions[0][0]
    assert kernel is not None
    return kernel._saved_input.dtype, out.dtype


@pytest.mark.parametrize(
    ("conv", "computed"),
    [
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), torch.float32),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), torch.float32),
        (nn.Conv2d(8, 8, (1, 5), groups=8), torch.float32),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.bfloat16),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1), torch.bfloat16),
        (nn.Conv2d(8, 8, 5, padding=2, groups=2), torch.bfloat16),
    ],
)
def test_depthwise_convolutions_without_a_fast_kernel_stay_fp32(
    conv: nn.Conv2d, computed: torch.dtype
) -> None:
    assert seen_by(conv) == (computed, torch.bfloat16)
    assert seen_by(conv, enabled=False) == (torch.float32, torch.float32)


def test_gradients_are_those_of_fp32_within_bf16() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
    )
    image = torch.rand(2, 3, 16, 16)
    found = []
    for enabled in (False, True):
        net.zero_grad()
        with mixed_precision(CPU, enabled=enabled):
            loss = net(image).float().square().mean()
        loss.backward()
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    for exact, mixed in zip(*found, strict=True):
        assert torch.allclose(exact, mixed, rtol=0.03, atol=0.02 * float(exact.abs().max()))
