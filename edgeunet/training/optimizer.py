"""How the weights change: optimizer, learning rate schedule, and a moving average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from ..errors import UsageError
from ..models.base import ENCODER


def adamw(
    net: nn.Module, *, learning_rate: float, weight_decay: float, encoder_rate: float = 1.0
) -> torch.optim.AdamW:
    """AdamW that decays kernels only: decay hurts norms and biases, which are one-dimensional.

    Args:
        encoder_rate: learning rate of `net.encoder`, as a share of the others'. A pretrained
            encoder keeps more of what it knows with a smaller one.

    Raises:
        UsageError: an encoder is to learn at another rate, and the net has none by itself.
    """
    if encoder_rate != 1 and not any(name.startswith(ENCODER) for name in net.state_dict()):
        raise UsageError(
            f"encoder_rate is {encoder_rate:g} (--encoder-lr), but {type(net).__name__} has no "
            "encoder apart from its decoder. Leave it out."
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = learning_rate * (encoder_rate if name.startswith(ENCODER) else 1.0)
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        lr=learning_rate,
        fused=True,
    )


def warmup_cosine(optimizer: torch.optim.Optimizer, *, warmup: int, total: int) -> LambdaLR:
    """Learning rate that rises linearly for `warmup` steps and falls to 0 as a cosine of `total`.

    The lower of the two curves counts.
    """
    return LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / total)),
    )


class Average(AveragedModel):
    """Exponential moving average of a net's weights, whose decay grows to `decay`.

    With a fixed decay, the first random weights linger for hundreds of steps. Its state is that of
    `AveragedModel`, which would make the host wait for a GPU in every step: it moves its count to
    the device and looks at it there.

    Example:
        >>> import torch; from edgeunet.training.optimizer import Average
        >>> net = torch.nn.Linear(2, 1)
        >>> Average(net, decay=0.99).update_parameters(net)
    """

    def __init__(self, net: nn.Module, *, decay: float) -> None:
        super().__init__(net)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take a step towards a net's weights, all the way in the first one."""
        step = int(self.n_averaged)
        averaged, current = (list[Tensor](net.parameters()) for net in (self.module, model))
        if step:
            share = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(averaged, current, share)
        else:
            torch._foreach_copy_(averaged, current)
        if buffers := list(self.module.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))
        self.n_averaged += 1


def refresh_statistics(
    net: nn.Module, images: Sequence[Tensor], *, batch: int, device: torch.device
) -> None:
    """Take a net's batch statistics anew, on images (C, H, W) as it takes them.

    Those from training belong to other weights than the averaged ones, and to crops of another
    size. Izmailov et al., UAI 2018 (arXiv 1803.05407), section 3.2.
    """
    inputs: DataLoader[Tensor] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size=min(batch, len(images)),
        drop_last=True,
    )
    update_bn(inputs, net, device=device)
